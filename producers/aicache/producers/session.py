"""A client in a round: whether to take part, and exactly what to send. Sans-IO.

Steps 1 and 2 of the protocol. A client acts only if all identities of the roster are the pinned ones and distinct, each epoch key
is signed by its identity and valid, committee size and threshold are those of the pins, the quorum follows from them, a quorum has
approved, and the owner's own limits hold. The cost is in the ledger, on disk, before anything is made to be sent. What is secret
(key, errors, vector) lives in this call alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import accounting, contribution, masking, parameters, quantize, shamir
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.sealing import seal
from aicache.privacy.statements import NO_EPOCH_KEY, ciphertext_digest, share_info
from aicache.producers.board import Board, OpenRound
from aicache.producers.identity import Identity
from aicache.producers.ledger import Ledger, Limit
from aicache.schemas.chunks import chunks
from aicache.schemas.clipping import check_clipping, rule_of
from aicache.schemas.records import CommitteeMember, Envelope, Place, Proposal, UpdateChunk
from aicache.schemas.signing import signed

ANY = "*"
CLOCK_SKEW_MS = 6 * 3_600_000
"""A round that opens so far in the future, or is still open so long after its deadline: one of the two clocks is wrong."""


@dataclass(frozen=True, slots=True)
class Pins:
    """Whom a client trusts with key shares: fixed by its owner, never by the log.

    Attributes:
        identities: identity key of each member, by number 1 … m.
        threshold: t, how many open a sum.
    """

    identities: Mapping[int, bytes]
    threshold: int

    def __post_init__(self) -> None:
        numbers = sorted(self.identities)
        if numbers != list(range(1, len(numbers) + 1)) or len(set(self.identities.values())) != len(numbers):
            raise LocalError("pins name members 1 … m with different keys", got=numbers, needed="1 … m")
        parameters.quorum(len(numbers), self.threshold)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an owner allows.

    Attributes:
        budgets: what each purpose may spend; all that are not named share that of `*`, since names of purposes are the operator's.
        n_min: fewest clients that may be opened together.
        epsilon_round: most that one round may cost.
    """

    budgets: Mapping[str, Limit] = field(default_factory=lambda: {ANY: Limit(8.0)})
    n_min: int = 10
    epsilon_round: float = 8.0

    def __post_init__(self) -> None:
        if self.n_min < 1 or not 0 < self.epsilon_round < math.inf:
            raise LocalError(
                "limits have n_min ≥ 1 and a positive epsilon a round",
                got=(self.n_min, self.epsilon_round),
                needed="n_min ≥ 1, epsilon_round > 0",
            )

    def budget(self, purpose: str) -> Limit | None:
        """The limit of a purpose; None where it is not allowed."""
        return self.budgets.get(purpose, self.budgets.get(ANY))

    def share(self, purpose: str, other: str) -> bool:
        """Whether two purposes draw on one limit."""
        return purpose == other or (purpose not in self.budgets and other not in self.budgets)


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a client sends to a round.

    Attributes:
        proposal, rho: the round.
        client: who sends it.
        chunks: to publish first.
        digest: of the ciphertext.
        sealed: a key share for each member.
        model_version: that it started from; -1 where the task has no model.
        message: the client's own integers, noise by clients included. Never leaves; for the embedding program's own checks.
    """

    proposal: Proposal
    rho: bytes
    client: bytes
    chunks: list[UpdateChunk] = field(repr=False)
    digest: bytes
    sealed: list[bytes] = field(repr=False)
    model_version: int
    message: NDArray[np.int64] = field(repr=False)


class MissingError(LocalError):
    """Something that the round needs has not been read yet; it may still come."""


class Session:
    """One client's part in rounds.

    Args:
        board: the process's view of the log.
        identity: the client's keys.
        ledger: what it has spent.
        pins: whom it trusts.
        limits: what its owner allows.
    """

    def __init__(self, board: Board, identity: Identity, ledger: Ledger, pins: Pins, limits: Limits) -> None:
        self.board = board
        self.identity = identity
        self.ledger = ledger
        self.pins = pins
        self.limits = limits

    def check(self, current: OpenRound, now_ms: int) -> NDArray[np.float64]:
        """Whether the client may contribute; gives what it would cost, as Rényi divergences.

        Raises:
            RemoteError: the round breaks a rule.
            LocalError: the client is not enrolled, has contributed already, or its owner's limits forbid it.
        """
        proposal = current.proposal
        enrolment = self.board.enrolments.get(self.identity.client)
        if enrolment is None or enrolment.revoked:
            raise MissingError(
                "the client is not enrolled", got="not enrolled", needed="aicache join, then the operator's yes"
            )
        end = next((place.offset for place in proposal.enrolments_end if place.partition == 0), 0)
        if self.board.enrolled_at.get(self.identity.client, -1) >= end:
            raise LocalError(
                "the client was enrolled, or enrolled anew, after the round was opened: members would not endorse it",
                got=self.board.enrolled_at[self.identity.client],
                needed=f"below {end}",
            )
        self._check_time(current, now_ms)
        self._check_roster(current)
        self._check_limits(proposal)
        rdp, budget = self._price(proposal)
        self._take_over(proposal, budget, now_ms)
        at_ms, shares = _counted_at(proposal, now_ms), partial(self.limits.share, proposal.purpose)
        self.ledger.check(proposal.purpose, at_ms, proposal.round_id, rdp, budget, shares)
        return rdp

    @staticmethod
    def _check_time(current: OpenRound, now_ms: int) -> None:
        proposal = current.proposal
        early_ms, late_ms = proposal.opened_ms - now_ms, now_ms - proposal.deadline_ms
        if not current.closed and max(early_ms, late_ms) > CLOCK_SKEW_MS:
            raise LocalError(
                f"this machine's clock and the round's differ by {max(early_ms, late_ms) / 3_600_000:.1f} hours: set the clock",
                got=now_ms,
                needed=f"{proposal.opened_ms} to {proposal.deadline_ms}",
            )
        if current.closed or late_ms >= 0:
            raise LocalError("the round is closed", got=proposal.round_id, needed="an open round")

    def _check_roster(self, current: OpenRound) -> None:
        proposal = current.proposal
        pinned = [self.pins.identities[number] for number in sorted(self.pins.identities)]
        if [entry.identity_key for entry in proposal.roster] != pinned:
            raise RemoteError("the roster is not the pinned committee", reason="foreign-roster")
        if [entry.member for entry in proposal.roster] != sorted(self.pins.identities):
            raise RemoteError("the roster's members are out of order", reason="foreign-roster")
        needed = (self.pins.threshold, parameters.quorum(len(pinned), self.pins.threshold))
        if (proposal.threshold, proposal.quorum) != needed:
            raise RemoteError(
                "threshold or quorum are not those of the pins",
                reason="bad-quorum",
                got=(proposal.threshold, proposal.quorum),
                needed=needed,
            )
        for entry in proposal.roster:
            key = self.board.epoch_keys.get(entry.epoch_key_id)
            if key is None:
                raise MissingError("an epoch key of the roster is not there", got=None, needed=f"member {entry.member}")
            if (key.member, key.identity_key) != (entry.member, entry.identity_key):
                raise RemoteError(
                    "an epoch key of the roster is not its member's", reason="foreign-epoch-key", got=entry.member
                )
            if key.retired or not key.valid_from_ms <= proposal.opened_ms <= proposal.deadline_ms <= key.valid_until_ms:
                raise RemoteError(
                    "an epoch key of the roster is not valid", reason="epoch-key-expired", got=entry.member
                )
        if not current.approved:
            raise RemoteError("no quorum stands behind the round", reason="not-approved", got=len(current.approvals))

    def _check_limits(self, proposal: Proposal) -> None:
        if proposal.n_min < self.limits.n_min:
            raise LocalError("the round opens too few together", got=proposal.n_min, needed=f"≥ {self.limits.n_min}")
        check_clipping(proposal)
        accounting.check_round(
            noise=proposal.noise,
            honest=proposal.honest,
            n_min=proposal.n_min,
            n_max=proposal.n_max,
            delta=proposal.delta,
        )
        members = len(proposal.roster)
        parameters.check_round_fits(
            parameters.by_name(proposal.parameters),
            n_max=proposal.n_max,
            scale=proposal.scale,
            clip=proposal.clip,
            sigma_total=accounting.total_sigma(
                proposal.noise, proposal.sigma, members, proposal.threshold, proposal.honest, proposal.n_max
            ),
            members=members,
        )

    def _price(self, proposal: Proposal) -> tuple[NDArray[np.float64], Limit]:
        guarantee = accounting.round_guarantee(
            noise=proposal.noise,
            sensitivity=quantize.sensitivity(proposal.clip, proposal.scale, proposal.length),
            sigma=proposal.sigma,
            members=len(proposal.roster),
            threshold=proposal.threshold,
            honest=proposal.honest,
            length=proposal.length,
            delta=proposal.delta,
        )
        if guarantee.epsilon > self.limits.epsilon_round:
            raise LocalError(
                "the round costs too much", got=guarantee.epsilon, needed=f"≤ {self.limits.epsilon_round:g}"
            )
        budget = self.limits.budget(proposal.purpose)
        if budget is None:
            raise LocalError(
                "the owner allows nothing for this purpose", got=proposal.purpose, needed=sorted(self.limits.budgets)
            )
        return np.asarray(guarantee.rdp), budget

    def contribute(
        self,
        current: OpenRound,
        vector: NDArray[np.float64],
        now_ms: int,
        entropy: ByteSource,
        *,
        model_version: int = -1,
        preview: bool = False,
    ) -> Contribution:
        """Charge the ledger, then make what is to be sent.

        Args:
            current: an approved round.
            vector: shape (length,), float64, before clipping.
            now_ms: Unix milliseconds.
            entropy: the operating system's.
            model_version: the version that the vector was learned from; -1 where the task has no model. In a model task the
                vector is weighted by `staleness_weight` before clipping.
            preview: charge nothing; what comes out must not be sent.

        Raises:
            RemoteError, LocalError: as `check`; also where the vector does not fit or the budget does not cover the round.
        """
        rdp = self.check(current, now_ms)
        proposal = current.proposal
        message = make_message(proposal, vector * staleness_weight(proposal, model_version), entropy)
        if not preview:
            budget = self.limits.budget(proposal.purpose)
            assert budget is not None, "check has found one"
            at_ms, shares = _counted_at(proposal, now_ms), partial(self.limits.share, proposal.purpose)
            self.ledger.charge(proposal.purpose, at_ms, proposal.round_id, rdp, budget, shares)
        return make_contribution(
            proposal, current.rho, message, self.board.epoch_keys, self.identity.client, entropy, model_version
        )

    def _take_over(self, proposal: Proposal, budget: Limit, now_ms: int) -> None:
        """Where the log knows of more than the file, the file was lost or restored: believe the log, and sit this round out.

        Raises:
            LocalError: something was missing; it is in the file now.
        """
        missing = 0
        for purpose, known in self.board.budgets.get(self.identity.client, {}).items():
            if self.limits.share(proposal.purpose, purpose):
                missing += self.ledger.raise_to(
                    purpose,
                    known.window_start_ms,
                    np.asarray(known.rdp),
                    rounds=known.rounds,
                    last_round=known.last_round,
                    opened_ms=_counted_at(proposal, now_ms),
                    limit=budget,
                )
        if missing:
            raise LocalError(
                "the ledger was older than the log (lost, or restored from a backup): it now holds what the log says, and nothing "
                "is sent to this round",
                got="an old ledger",
                needed="all that was spent",
            )

    def envelope(self, made: Contribution, place: Place) -> Envelope:
        """The signed claim, once the chunks stand in the log."""
        return make_envelope(made, place, self.identity)


def _counted_at(proposal: Proposal, now_ms: int) -> int:
    """The time whose window pays: that of this machine, or a proposal dated back would find an old window's budget."""
    return max(proposal.opened_ms, now_ms)


def staleness_weight(proposal: Proposal, model_version: int) -> float:
    """1/√(1 + how many versions behind the newest that the round accepts); 1 outside model tasks (FedBuff, Nguyen et al. 2022).

    Raises:
        LocalError: the round does not accept that version.
    """
    accepted = [version.version for version in proposal.model_versions] or [-1]
    if model_version not in accepted:
        raise LocalError("the round does not accept this version of the model", got=model_version, needed=accepted)
    return 1 / math.sqrt(1 + max(accepted) - model_version) if proposal.kind == "model" else 1.0


def make_message(proposal: Proposal, vector: NDArray[np.float64], entropy: ByteSource) -> NDArray[np.int64]:
    """The integers that are masked: clipped as the round says, scaled, rounded, with the client's share of the noise.

    Raises:
        LocalError: the vector has the wrong length or values that are not finite.
    """
    rule = rule_of(proposal)
    if vector.shape != (proposal.length - rule.extra,):
        raise LocalError("the vector has the wrong length", got=vector.shape, needed=(proposal.length - rule.extra,))
    members = len(proposal.roster)
    share = None
    if proposal.noise == "clients":
        share = accounting.share_sigma(proposal.noise, proposal.sigma, members, proposal.threshold, proposal.honest)
    return contribution.client_message(
        rule.apply(vector), clip=proposal.clip, scale=proposal.scale, sigma_share=share, entropy=entropy
    )


def make_contribution(
    proposal: Proposal,
    rho: bytes,
    message: NDArray[np.int64],
    keys: Mapping[bytes, CommitteeMember],
    client: bytes,
    entropy: ByteSource,
    model_version: int = -1,
) -> Contribution:
    """Mask integers under a fresh key and seal its shares to the members; no check, no ledger.

    Args:
        proposal: the round.
        rho: its digest.
        message: shape (length,), int64.
        keys: the members' signed keys, by epoch key id.
        client: who sends it.
        entropy: the operating system's.
        model_version: the version that the message was learned from.
    """
    mask = parameters.by_name(proposal.parameters)
    key = masking.sample_key(mask, entropy)
    ciphertext = masking.encrypt(message, key, rho, mask, entropy)
    digest = ciphertext_digest(rho, client, ciphertext)
    shares = shamir.split(key, proposal.threshold, len(proposal.roster), entropy)
    sealed = []
    for entry, share in zip(proposal.roster, shares, strict=True):
        member = keys[entry.epoch_key_id]
        sealed.append(seal(member.mlkem_key, member.x25519_key, share_info(rho, entry.member, client), share + digest))
    pieces = chunks(proposal.round_id, client, ciphertext)
    return Contribution(proposal, rho, client, pieces, digest, sealed, model_version, message)


def make_envelope(made: Contribution, place: Place, identity: Identity) -> Envelope:
    """The signed claim that a contribution stands in the log at this place."""
    record = Envelope(
        deployment=made.proposal.deployment,
        task=made.proposal.task,
        round_id=made.proposal.round_id,
        rho=made.rho,
        sender=made.client,
        member=0,
        epoch_key_id=NO_EPOCH_KEY,
        group=-1,
        model_version=made.model_version,
        digest=made.digest,
        place=place,
        sealed=made.sealed,
        signature=b"",
    )
    return signed(record, identity.signing_key)
