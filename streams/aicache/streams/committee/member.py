"""A committee member as a state machine: records in, promises on disk, records out (the protocol's steps 1, 3, 4, 5, 6, 7).

`receive` takes a batch of decoded records, `tick` lets time pass. Each is one transaction of the store: what was decided, the
places read to, and what is to be published stand on disk together when it returns, or not at all. The caller publishes
`store.outbox` afterwards, in its order, and again whatever it is not sure of. Judgement uses only the store, never a topic
that could be rewritten.
A `RemoteError` drops one record and goes on; a `LocalError` ends the process: its state is as before the batch.
Boundary: the store. Clock and entropy come as arguments; no Kafka.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.sealing import key_id
from aicache.schemas.records import (
    Approval,
    CommitteeMember,
    Endorsement,
    Enrolment,
    Envelope,
    Manifest,
    Opening,
    Proposal,
    Receipt,
    RoundAborted,
    RoundClosed,
    Vote,
)
from aicache.schemas.signing import verify_record
from aicache.streams.committee.core import ABORT, Core, Incoming, Round
from aicache.streams.committee.envelopes import Endorser
from aicache.streams.committee.epochs import LOSS_STEP, erase_old_epochs, new_epoch, retire
from aicache.streams.committee.limits import Limits
from aicache.streams.committee.proposals import Proposals
from aicache.streams.committee.rules import MEMBERS_MAX, check_client_name
from aicache.streams.committee.store import Store
from aicache.streams.committee.vectors import Vectors
from aicache.streams.committee.voting import Voter

COMMITTEE_KEYS_MAX = 10_000
VOTED_KEPT_MS = 86_400_000
ABORTED_KEPT_MS = 3_600_000
"""How long after its end a round without k votes keeps its shares; k votes seen later are charged, but no longer opened."""

SILENT = frozenset({"closed", "not-yet"})
"""Reasons that are counted, but are nobody's fault: no dead letter."""


class Member:
    """One committee member.

    Args:
        store: made by `commands.init`; this machine is its only user.
        limits: the owner's rules.
    """

    def __init__(self, store: Store, limits: Limits) -> None:
        self.core = Core(store, limits)
        self.store = store
        self.vectors = Vectors(self.core)
        self._endorser = Endorser(self.core)
        self._voter = Voter(self.core, self._endorser)
        self._proposals = Proposals(self.core)
        self._erased = False
        self._closing: set[str] = set()
        self._stirred: set[str] = set()

    # ------------------------------------------------------------ the two ways in

    def receive(self, batch: Sequence[Incoming], now_ms: int, entropy: ByteSource) -> None:
        """Take in a batch of records, in an order in which what a record refers to comes before it.

        Args:
            batch: decoded records; offsets rise in each partition.
            now_ms: Unix milliseconds.
            entropy: for nonces.

        Raises:
            LocalError: the disk failed, or the store is stale; nothing of the batch happened.
        """
        with self._settled(now_ms, entropy):
            for item in batch:
                self._take(item, now_ms, entropy)
                self.store.set_next_offset(item.topic, item.partition, item.offset + 1)

    def tick(self, now_ms: int, entropy: ByteSource) -> None:
        """Let time pass: proposals that waited, rounds whose time is over, keys that are due."""
        with self._settled(now_ms, entropy):
            for current in self.core.live_rounds():
                if now_ms > current.ends_ms and current.verdict == "pending":
                    self._proposals.verdict(current.round_id, "refused", "too-late", now_ms)
                if now_ms > current.ends_ms:
                    self._voter.abort(current)
                kept_ms = VOTED_KEPT_MS if current.decision not in (None, ABORT) else ABORTED_KEPT_MS
                if now_ms > current.ends_ms + kept_ms:
                    self._voter.give_up(current)
            self._renew(now_ms, entropy)

    def reached(self, ends: Mapping[str, int]) -> None:
        """All that stands before these offsets was taken (the end of a topic may lie behind its last record)."""
        with self.store.transaction():
            for topic, offset in ends.items():
                if offset > self.store.next_offset(topic, 0):
                    self.store.set_next_offset(topic, 0, offset)

    def knows(self, round_id: str) -> bool:
        """Whether a proposal of this round was read."""
        return self.store.one("SELECT 1 FROM rounds WHERE round_id = ?", round_id) is not None

    @contextmanager
    def _settled(self, now_ms: int, entropy: ByteSource) -> Iterator[None]:
        """One transaction, at whose end the member draws its conclusions; an error leaves store and memory as before."""
        try:
            with self.store.transaction():
                yield
                self._settle(now_ms, entropy)
            if self._erased and self.store.checkpoint():
                self._erased = False
        finally:
            self._closing.clear()
            self._stirred.clear()
            self._endorser.forget()

    def _settle(self, now_ms: int, entropy: ByteSource) -> None:
        for current in self.core.live_rounds():
            if current.verdict == "pending":
                self._proposals.judge(current, now_ms, entropy)
        self._endorser.speak(self._closing)
        for round_id in sorted(self._stirred):
            current_or_none = self.core.round(round_id)
            if current_or_none is not None and current_or_none.counted is None:
                self._voter.settle(current_or_none)
        self._erased |= erase_old_epochs(self.core, self._voter, now_ms)

    # ------------------------------------------------------------ one record

    def _take(self, item: Incoming, now_ms: int, entropy: ByteSource) -> None:
        record = item.record
        try:
            if item.problem is not None:
                raise item.problem
            if getattr(record, "deployment", self.core.deployment) != self.core.deployment:
                raise RemoteError("the record is of another deployment", reason="foreign-deployment")
            self._handle(item, entropy)
        except RemoteError as error:
            self._refused(item, error, now_ms)

    def _handle(self, item: Incoming, entropy: ByteSource) -> None:
        match item.record:
            case CommitteeMember() as record:
                self._committee(record)
            case Enrolment() as record:
                self._enrolment(record, item)
            case Proposal() as record:
                self._proposals.take(record, item)
            case Endorsement() | Opening() as record:
                self._check_own(record)
            case Approval() | Envelope() | RoundClosed() | Manifest() | RoundAborted() | Vote() as record:
                if isinstance(record, Approval | Envelope | Vote):
                    self._check_own(record)
                current = self.core.round(record.round_id)
                if current is None:
                    raise RemoteError("no proposal of this round was read", reason="unknown-round")
                watched = (
                    current.counted is None and current.verdict != "foreign" and isinstance(record, Manifest | Vote)
                )
                if not current.over or watched:
                    self._of_round(record, current, item, entropy)
                elif isinstance(record, Envelope):
                    raise RemoteError("the round is over", reason="closed")
            case Receipt():
                pass  # the reducer's word to the coordinator
            case _:
                raise RemoteError("no business of a member", reason="unexpected-record")

    def _of_round(
        self,
        record: Approval | Envelope | RoundClosed | Manifest | RoundAborted | Vote,
        current: Round,
        item: Incoming,
        entropy: ByteSource,
    ) -> None:
        match record:
            case Approval():
                self._approval(record, current)
            case Envelope():
                self._endorser.take(record, current, entropy)
            case RoundClosed():
                self._closed(record, current)
            case Manifest():
                self._stirred.add(record.round_id)
                self._voter.manifest(item, record, current)
            case RoundAborted():
                self._aborted(record, current)
            case Vote():
                self._vote(record, current)

    def _refused(self, item: Incoming, error: RemoteError, now_ms: int) -> None:
        round_id = str(getattr(item.record, "round_id", ""))
        sender = getattr(item.record, "sender", b"")
        self.store.refuse(now_ms, round_id, sender, error.reason, str(error))
        if error.reason not in SILENT:
            self.core.dead_letter(item, error)

    def _check_own(self, record: Approval | Envelope | Vote | Endorsement | Opening) -> None:
        if record.member == self.core.number and self._proposals.is_me(record.round_id):
            self.core.check_own(record)

    # ------------------------------------------------------------ people

    def _committee(self, record: CommitteeMember) -> None:
        if not 1 <= record.member <= MEMBERS_MAX:
            raise RemoteError("there is no such member", reason="bad-member", got=record.member, needed=MEMBERS_MAX)
        if record.epoch_key_id != key_id(record.mlkem_key, record.x25519_key):
            raise RemoteError("the epoch key has another name", reason="bad-epoch-key")
        verify_record(record, record.identity_key)
        mine = record.identity_key == self.core.identity
        if mine:
            self.core.check_own(record)
            self.store.set_meta("announced", 1)
        elif record.member == self.core.number:
            self._other_under_my_number(record)
        if self.store.one("SELECT count(*) FROM committee")[0] >= COMMITTEE_KEYS_MAX:
            raise RemoteError("too many epoch keys were published", reason="too-many-keys", needed=COMMITTEE_KEYS_MAX)
        self.store.run(
            "INSERT INTO committee VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (epoch_key_id)"
            " DO UPDATE SET retired = max(retired, excluded.retired), record = excluded.record WHERE retired = 0",
            record.epoch_key_id,
            record.member,
            record.identity_key,
            record.epoch,
            int(record.retired),
            self.core.kept.encode(record),
        )

    def _other_under_my_number(self, record: CommitteeMember) -> None:
        if self.store.meta("announced"):
            # Anybody who may write to the topic can do this, so it stops nobody; clients and members have pinned me.
            raise RemoteError("another identity claims this member's number", reason="number-claimed")
        if not record.retired and not self.store.meta("replaces"):
            raise LocalError(
                f"member {self.core.number} exists already, with identity {record.identity_key.hex()[:16]}…: choose another "
                "number, or init with --replaces if that member is gone for good",
                got=record.member,
                needed="a number that nobody has",
            )

    def _enrolment(self, record: Enrolment, item: Incoming) -> None:
        verify_record(record, self.core.operator_key)
        check_client_name(record.client, record.public_key)
        self.store.run(
            "INSERT INTO enrolments VALUES (?, ?, ?, ?, ?) ON CONFLICT (client) DO UPDATE SET revoked = excluded.revoked,"
            " admitted = CASE WHEN enrolments.revoked AND NOT excluded.revoked THEN excluded.admitted ELSE admitted END",
            record.client,
            record.public_key,
            item.partition,
            item.offset,
            int(record.revoked),
        )

    # ------------------------------------------------------------ votes

    def _approval(self, record: Approval, current: Round) -> None:
        self._verify_of_round(record, current)
        self.store.run(
            "INSERT OR IGNORE INTO approvals VALUES (?, ?, ?)", current.round_id, record.member, record.nonce_commitment
        )

    def _verify_of_round(self, record: Approval | Vote, current: Round) -> None:
        identity, key_id = self.core.member_of(current, record.member)
        if record.rho != current.rho or record.task != current.proposal.task or record.epoch_key_id != key_id:
            raise RemoteError("the record is for another round or epoch", reason="wrong-round")
        verify_record(record, identity)

    # ------------------------------------------------------------ steps 5 to 7

    def _closed(self, record: RoundClosed, current: Round) -> None:
        if record.rho != current.rho:
            raise RemoteError("the closing is of another round", reason="wrong-round")
        if current.approved and not current.closed and current.decision is None:
            self._closing.add(current.round_id)

    def _aborted(self, record: RoundAborted, current: Round) -> None:
        if record.rho != current.rho:
            raise RemoteError("the abort is of another round", reason="wrong-round")
        self._voter.abort(current)

    def _vote(self, record: Vote, current: Round) -> None:
        self._verify_of_round(record, current)
        sql = "SELECT count(*) FROM votes WHERE round_id = ? AND member = ? AND digest != ?"
        twice = self.store.one(sql, current.round_id, record.member, record.manifest_digest)[0]
        self._voter.count(record, current)
        self._stirred.add(current.round_id)
        if twice:
            raise RemoteError(
                f"member {record.member} has voted twice in a round", reason="voted-twice", got=record.member
            )

    # ------------------------------------------------------------ time

    def _renew(self, now_ms: int, entropy: ByteSource) -> None:
        _, _, until_ms = self.core.current_epoch()
        if now_ms > until_ms - self.core.limits.lasting_ms:
            new_epoch(self.core, now_ms, entropy)
            self.core.ledger.forget(now_ms)

    def rotate(self, now_ms: int, entropy: ByteSource) -> int:
        """Make the next epoch key; the old one is erased when the last round that uses it is over."""
        with self.store.transaction():
            epoch = new_epoch(self.core, now_ms, entropy)
            erase_old_epochs(self.core, self._voter, now_ms)
        self.store.checkpoint()
        return epoch

    def retire(self, now_ms: int) -> None:
        """Take part in nothing any more: open rounds are dropped without a word, all keys are erased."""
        with self.store.transaction():
            for current in self.core.live_rounds():
                self._voter.drop(current)
            retire(self.core, now_ms)
        self.store.checkpoint()

    def lose_history(self, now_ms: int, entropy: ByteSource) -> int:
        """The store is an old copy: nothing that was open is ever continued, all old keys go, and the ledger is not trusted."""
        with self.store.transaction():
            for current in self.core.live_rounds():
                self._voter.drop(current)
            epoch = new_epoch(self.core, now_ms, entropy, LOSS_STEP)
            self.store.run("DELETE FROM outbox WHERE topic != 'aicache.committee'")
            self.store.set_meta("needs_ledgers", 1)
            self.store.set_meta("lost_history", 1)
            erase_old_epochs(self.core, self._voter, now_ms)
        self.store.checkpoint()
        return epoch
