"""What the parts of a member share: who it is, its store, its rules, and how it says something.

Nothing leaves except through `Core.say`: the record is signed, its signature remembered and the record put in the outbox, all in
the transaction of the decision that it follows from.
Boundary: the store; no clock, no Kafka.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.sealing import EpochKey
from aicache.schemas.codec import Codec, SingleObject
from aicache.schemas.records import CommitteeMember, DeadLetter, Proposal, Record
from aicache.schemas.signing import Signed, signed, verify_record
from aicache.streams.committee.ledger import Ledger
from aicache.streams.committee.limits import Limits
from aicache.streams.committee.store import Store

ABORT = bytes(32)
"""The digest that a vote to abort carries."""

KEYS_CACHED_MAX = 8


class StaleStoreError(LocalError):
    """The log holds something that this member signed and this store does not know."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A decoded record and where it stood."""

    topic: str  # without prefix
    partition: int
    offset: int
    timestamp_ms: int
    record: Record | None  # None where it could not be decoded
    fingerprint: bytes
    body: bytes
    problem: RemoteError | None = None  # why it could not


@dataclass(frozen=True, slots=True)
class Round:
    """A round as the member's store knows it."""

    round_id: str
    rho: bytes
    proposal: Proposal
    verdict: str  # pending | approved | refused | foreign
    epoch: int | None
    nonce: bytes | None
    rdp: NDArray[np.float64]
    window_ms: int
    sequence: int
    closed: bool
    decision: bytes | None
    counted: bytes | None
    over: bool
    ends_ms: int

    @property
    def approved(self) -> bool:
        """Whether this member takes part."""
        return self.verdict == "approved"


_ROUND = (
    "SELECT round_id, rho, proposal, verdict, epoch, nonce, rdp, window_ms, sequence, closed, decision, counted, over, ends_ms"
    " FROM rounds"
)


class Core:
    """A member's identity, store, rules and voice.

    Args:
        store: made by `commands.init`.
        limits: the owner's rules.

    Raises:
        LocalError: the store was not initialised.
    """

    def __init__(self, store: Store, limits: Limits) -> None:
        identity = store.meta("identity")
        if identity is None:
            raise LocalError(f"{store.path} holds no member", got=store.path, needed="aicache committee init")
        self.store = store
        self.limits = limits
        self.codec = Codec()
        self.kept = Codec(SingleObject())  # of what the store keeps: it can be read without a registry
        self.ledger = Ledger(store, limits)
        self.number = int(store.meta("member"))
        self.deployment = str(store.meta("deployment"))
        self.operator_key = bytes(store.meta("operator_key"))
        self.pins: Mapping[int, bytes] = {
            int(number): bytes.fromhex(key) for number, key in (store.meta_json("pins") or {}).items()
        }
        self._identity_key = Ed25519PrivateKey.from_private_bytes(bytes(identity))
        self.identity = self._identity_key.public_key().public_bytes_raw()
        self._proposals: dict[bytes, Proposal] = {}
        self._epoch_keys: dict[int, tuple[EpochKey, bytes]] = {}

    @property
    def identity_key(self) -> Ed25519PrivateKey:
        """What the member signs with."""
        return self._identity_key

    # ------------------------------------------------------------ saying

    def say(self, topic: str, key: bytes, record: Signed) -> None:
        """Sign, remember, and put into the outbox."""
        record = signed(record, self._identity_key)
        self.store.post(topic, key, self.codec.encode(record), record.signature)

    def dead_letter(self, item: Incoming, error: RemoteError) -> None:
        """Say that a record could not be processed: where it stands and why."""
        letter = DeadLetter(
            deployment=self.deployment,
            processor=f"committee-{self.number}",
            topic=item.topic,
            partition=item.partition,
            offset=item.offset,
            timestamp_ms=item.timestamp_ms,
            reason=error.reason,
            detail=str(error)[:200],
            size_bytes=len(item.body),
        )
        key = f"{item.topic}/{item.partition}/{item.offset}".encode()
        self.store.post("aicache.dead-letters", key, self.codec.encode(letter))

    def check_own(self, record: Signed) -> None:
        """A record that claims to be this member's: it has to be one that this store knows.

        Raises:
            StaleStoreError: its signature is right and unknown: the store was restored from a copy, or a second process uses one.
            RemoteError: the signature is wrong.
        """
        if self.store.knows_own(record.signature):
            return
        verify_record(record, self.identity)
        if self.store.meta("lost_history") and getattr(record, "epoch_key_id", b"") != self.current_epoch()[1]:
            return  # said before the loss, under a key that is erased; counted like anybody's
        raise StaleStoreError(
            f"the log holds a {type(record).__name__} signed by member {self.number} that this store does not know: it is an old "
            "copy, or the same member runs in two places. Stop the other one; if there is none, run `aicache committee rotate "
            "--after-loss`: it makes a new epoch key and gives up the rounds that are open",
            got=type(record).__name__,
            needed="a store that knows all that the member signed",
        )

    # ------------------------------------------------------------ remembering

    def round(self, round_id: str) -> Round | None:
        """A round that was proposed, None where no proposal was read."""
        row = self.store.one(f"{_ROUND} WHERE round_id = ?", round_id)
        return None if row is None else self._round(row)

    def live_rounds(self) -> list[Round]:
        """Rounds that are not over, oldest end first."""
        return [self._round(row) for row in self.store.all(f"{_ROUND} WHERE over = 0 ORDER BY ends_ms, round_id")]

    def _round(self, row: tuple[object, ...]) -> Round:
        round_id, rho, data, verdict, epoch, nonce, rdp, window, sequence, closed, decision, counted, over, ends = row
        return Round(
            str(round_id),
            bytes(rho),  # type: ignore[call-overload]
            self._proposal(rho, data),  # type: ignore[arg-type]
            str(verdict),
            epoch,  # type: ignore[arg-type]
            nonce,  # type: ignore[arg-type]
            np.frombuffer(rdp or b"", np.float64),  # type: ignore[call-overload]
            int(window),  # type: ignore[call-overload]
            int(sequence),  # type: ignore[call-overload]
            bool(closed),
            decision,  # type: ignore[arg-type]
            counted,  # type: ignore[arg-type]
            bool(over),
            int(ends),  # type: ignore[call-overload]
        )

    def _proposal(self, rho: bytes, data: bytes) -> Proposal:
        if rho not in self._proposals:
            if len(self._proposals) >= self.limits.rounds_open:
                self._proposals.clear()
            record = self.kept.decode(data, Proposal).record
            assert isinstance(record, Proposal)
            self._proposals[rho] = record
        return self._proposals[rho]

    def member_of(self, current: Round, number: int) -> tuple[bytes, bytes]:
        """Identity and epoch key of a member in a round's roster.

        Raises:
            RemoteError: the roster has no such member.
        """
        roster = current.proposal.roster
        if not 1 <= number <= len(roster):
            raise RemoteError(
                f"the roster has no member {number}", reason="not-in-roster", got=number, needed=len(roster)
            )
        return roster[number - 1].identity_key, roster[number - 1].epoch_key_id

    def published_key(self, key_id: bytes) -> CommitteeMember | None:
        """The verified record that published an epoch key."""
        row = self.store.one("SELECT record FROM committee WHERE epoch_key_id = ?", key_id)
        if row is None:
            return None
        record = self.kept.decode(row[0], CommitteeMember).record
        assert isinstance(record, CommitteeMember)
        return record

    def current_epoch(self) -> tuple[int, bytes, int]:
        """Number, name and end of validity of the newest epoch key."""
        row = self.store.one(
            "SELECT epoch, key_id, valid_until_ms FROM epochs WHERE erased = 0 ORDER BY epoch DESC LIMIT 1"
        )
        if row is None:
            raise LocalError("the member has no epoch key", got=None, needed="aicache committee rotate")
        return int(row[0]), bytes(row[1]), int(row[2])

    def epoch_key(self, epoch: int) -> tuple[EpochKey, bytes]:
        """The private key of an epoch, and the key that opened shares are stored under; erased together.

        Raises:
            RemoteError: `erased-epoch`.
        """
        if epoch not in self._epoch_keys:
            row = self.store.one("SELECT secret, storage_key FROM epochs WHERE epoch = ? AND erased = 0", epoch)
            if row is None:
                raise RemoteError(f"the key of epoch {epoch} is erased", reason="erased-epoch", got=epoch)
            if len(self._epoch_keys) >= KEYS_CACHED_MAX:
                self._epoch_keys.clear()
            self._epoch_keys[epoch] = (EpochKey.from_bytes(bytes(row[0])), bytes(row[1]))
        return self._epoch_keys[epoch]

    def forget_epoch(self, epoch: int) -> None:
        """Drop a key from memory."""
        self._epoch_keys.pop(epoch, None)
