"""Step 1: judge proposals and approve those that keep to the rules, one rho a round.

A proposal that names something not read yet (a member's key, enrolments) waits; one that breaks a rule is refused, which nobody
else needs to hear: without this member's approval its nonce, its vectors and its vote are missing.
Rounds that others may rightly open without this member are still watched, since what they spend has to be charged here too.
Boundary: the member's store; clock and entropy come as arguments.
"""

import hashlib

import numpy as np

from aicache.privacy import accounting, parameters, quantize
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.statements import DIGEST_BYTES, record_digest
from aicache.schemas.records import Approval, Proposal
from aicache.streams.committee.core import Core, Incoming, Round
from aicache.streams.committee.rules import NotYetError, check_arithmetic, check_limits, check_roster


class Proposals:
    """Takes proposals in, and judges them when all they name has been read.

    Args:
        core: the member.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def is_me(self, round_id: str) -> bool:
        """Whether my number in this round's roster stands for me; true for a round that was never read."""
        current = self._core.round(round_id)
        if current is None:
            return True
        roster = current.proposal.roster
        return self._core.number <= len(roster) and roster[self._core.number - 1].identity_key == self._core.identity

    def take(self, record: Proposal, item: Incoming) -> None:
        """Write a proposal down; it is judged when the batch is done.

        Raises:
            RemoteError: another proposal has this name, or too many rounds are open.
        """
        rho = record_digest("proposal", item.fingerprint, item.body)
        known = self._core.round(record.round_id)
        if known is not None:
            if known.rho == rho:
                return
            raise RemoteError("a second proposal under the same name", reason="second-proposal")
        row = self._core.store.one(
            "SELECT count(*) FROM rounds WHERE over = 0 AND decision IS NULL AND verdict != 'refused'"
        )
        if row[0] >= self._core.limits.rounds_open:
            raise RemoteError(
                "too many rounds are open", reason="too-many-rounds", got=row[0], needed=self._core.limits.rounds_open
            )
        wait_ms = self._core.limits.manifest_wait_ms
        self._core.store.run(
            "INSERT INTO rounds (round_id, task, number, rho, proposal, verdict, rdp, purpose, window_ms, ends_ms)"
            " VALUES (?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?)",
            record.round_id,
            record.task,
            record.number,
            rho,
            self._core.kept.encode(record),
            b"",
            self._core.limits.account(record.purpose),
            self._core.limits.window_ms(record.purpose, record.opened_ms),
            record.deadline_ms + record.grace_ms + wait_ms,
        )

    def judge(self, current: Round, now_ms: int, entropy: ByteSource) -> None:
        """Approve a proposal that waits, refuse it, or let it wait on."""
        try:
            self._check_proposal(current, now_ms)
        except NotYetError:
            return
        except RemoteError as error:
            self.verdict(
                current.round_id, "refused" if self._could_be_mine(current) else "foreign", error.reason, now_ms
            )
            return
        epoch, key_id, _ = self._core.current_epoch()
        nonce = entropy(DIGEST_BYTES)
        self._core.store.run(
            "UPDATE rounds SET verdict = 'approved', epoch = ?, nonce = ? WHERE round_id = ? AND verdict = 'pending'",
            epoch,
            nonce,
            current.round_id,
        )
        approval = Approval(
            deployment=self._core.deployment,
            task=current.proposal.task,
            round_id=current.round_id,
            rho=current.rho,
            member=self._core.number,
            epoch_key_id=key_id,
            nonce_commitment=hashlib.sha256(nonce).digest(),
            signature=b"",
        )
        self._core.say("aicache.votes", current.round_id.encode(), approval)

    def _check_proposal(self, current: Round, now_ms: int) -> None:
        proposal, limits = current.proposal, self._core.limits
        self._price(current)
        check_limits(proposal, limits, now_ms)
        _, key_id, _ = self._core.current_epoch()
        check_roster(
            proposal,
            me=self._core.number,
            identity=self._core.identity,
            my_key_id=key_id,
            pins=self._core.pins,
            find=self._core.published_key,
            ends_ms=current.ends_ms,
            limits=limits,
        )
        check_arithmetic(proposal)
        for place in proposal.enrolments_end:
            if self._core.store.next_offset("aicache.enrolments", place.partition) < place.offset:
                raise NotYetError("enrolments have not been read so far", reason="not-yet", needed=place.offset)
        if self._core.store.meta("needs_ledgers"):
            raise NotYetError("the ledgers of the members before have not been imported", reason="needs-ledgers")

    def _price(self, current: Round) -> None:
        """What the round costs a client, once and for all: later endorsements and charges use this vector."""
        proposal = current.proposal
        try:
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
        except LocalError as error:
            raise RemoteError(f"the round has no guarantee: {error}", reason="no-guarantee") from None
        rdp = np.asarray(guarantee.rdp, np.float64).tobytes()
        self._core.store.run("UPDATE rounds SET rdp = ? WHERE round_id = ?", rdp, current.round_id)
        if not guarantee.epsilon <= self._core.limits.epsilon_round:
            raise RemoteError(
                f"the round costs epsilon {guarantee.epsilon:.3f}, allowed are {self._core.limits.epsilon_round:g}",
                reason="epsilon-too-large",
                got=guarantee.epsilon,
                needed=self._core.limits.epsilon_round,
            )

    def _could_be_mine(self, current: Round) -> bool:
        """Whether others may rightly open the round without me: then its votes are watched, to charge what they spend."""
        roster = current.proposal.roster
        try:
            needed = parameters.quorum(len(roster), current.proposal.threshold)
        except LocalError:
            return False
        pins = self._core.pins
        return (
            current.proposal.quorum == needed
            and self.is_me(current.round_id)
            and len({entry.identity_key for entry in roster}) == len(roster)
            and all(pins.get(entry.member) in (None, entry.identity_key) for entry in roster)
        )

    def verdict(self, round_id: str, verdict: str, reason: str, now_ms: int) -> None:
        """Write down why a proposal is not approved."""
        sql = "UPDATE rounds SET verdict = ?, reason = ?, over = ? WHERE round_id = ?"
        self._core.store.run(sql, verdict, reason, int(verdict == "foreign"), round_id)
        self._core.store.refuse(now_ms, round_id, b"", reason, "the proposal was not approved")
