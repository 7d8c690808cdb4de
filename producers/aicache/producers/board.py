"""What a process knows of the log: tasks, committee, rounds, models, enrolments, each signature verified once for all its clients.

The board holds no secret and decides nothing for a client: pins, limits and budgets are the session's. Bounds: a round is forgotten
when it ends, and at most `ROUNDS_MAX` are open. Sans-IO: records come in decoded, the time is an argument.
"""

import hashlib
from dataclasses import dataclass, field

from aicache.privacy.errors import RemoteError
from aicache.privacy.sealing import key_id
from aicache.privacy.statements import record_digest
from aicache.schemas.records import (
    Approval,
    Budget,
    CommitteeMember,
    Enrolment,
    Manifest,
    Model,
    Proposal,
    Record,
    RoundAborted,
    RoundClosed,
    Task,
    Vote,
)
from aicache.schemas.signing import verify_record

ROUNDS_MAX = 256
MODELS_KEPT = 8
APPROVALS_EARLY_MAX = 64


@dataclass(slots=True)
class OpenRound:
    """A proposal and the approvals of it that verify.

    Attributes:
        proposal, rho: the round and its digest.
        approvals: numbers of the members that approved.
        closed: no more envelopes are taken.
    """

    proposal: Proposal
    rho: bytes
    approvals: set[int] = field(default_factory=set)
    closed: bool = False

    @property
    def approved(self) -> bool:
        """Whether a quorum of members stands behind it."""
        return len(self.approvals) >= self.proposal.quorum


class Board:
    """The process's view of the log.

    Args:
        deployment: records of another one are refused.
    """

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self.tasks: dict[str, Task] = {}
        self.rounds: dict[str, OpenRound] = {}
        self.enrolments: dict[bytes, Enrolment] = {}
        self.enrolled_at: dict[bytes, int] = {}
        self.budgets: dict[bytes, dict[str, Budget]] = {}
        self.epoch_keys: dict[bytes, CommitteeMember] = {}
        self._models: dict[str, dict[int, Model]] = {}
        self._early: dict[str, list[Approval]] = {}

    def receive(
        self, record: Record, fingerprint: bytes = b"", body: bytes = b"", offset: int = -1
    ) -> OpenRound | None:
        """Take a record in.

        Args:
            record: as it was decoded.
            fingerprint: of its schema; a proposal's digest is made of it.
            body: its bytes; a proposal's digest is made of them.
            offset: where it stands in its partition.

        Returns:
            The round that a quorum has just approved, if this record made it so.

        Raises:
            RemoteError: the record is bad; nothing has changed.
        """
        if getattr(record, "deployment", self.deployment) != self.deployment:
            raise RemoteError("the record is of another deployment", reason="wrong-deployment", needed=self.deployment)
        match record:
            case Task():
                self.tasks[record.task] = record
            case CommitteeMember():
                self._take_member(record)
            case Enrolment():
                self.enrolments[record.client] = record
                self.enrolled_at[record.client] = offset
            case Budget():
                self.budgets.setdefault(record.client, {})[record.purpose] = record
            case Model():
                self._take_model(record)
            case Proposal():
                return self._take_proposal(record, record_digest("proposal", fingerprint, body))
            case RoundClosed() | RoundAborted() | Manifest():
                self.end(record.round_id)
            case Approval():
                return self._take_approval(record)
            case Vote():
                pass  # members and the reducer count votes
            case _:
                raise RemoteError("clients do not read this record", reason="wrong-record")
        return None

    def end(self, round_id: str) -> None:
        """A round takes no more envelopes."""
        current = self.rounds.pop(round_id, None)
        if current is not None:
            current.closed = True

    def model(self, task: str, version: int) -> Model | None:
        """A version of a task's model, None where it was not read."""
        return self._models.get(task, {}).get(version)

    def newest_model(self, task: str) -> Model | None:
        """The newest version of a task's model."""
        kept = self._models.get(task)
        return kept[max(kept)] if kept else None

    def _take_member(self, record: CommitteeMember) -> None:
        verify_record(record, record.identity_key)
        if key_id(record.mlkem_key, record.x25519_key) != record.epoch_key_id:
            raise RemoteError("the epoch key is not the one that it is named after", reason="bad-epoch-key")
        self.epoch_keys[record.epoch_key_id] = record

    def _take_model(self, record: Model) -> None:
        if hashlib.sha256(record.weights).digest() != record.digest or len(record.weights) != 8 * record.length:
            raise RemoteError("the model is not what its digest says", reason="wrong-digest")
        kept = self._models.setdefault(record.task, {})
        kept[record.version] = record
        for version in sorted(kept)[:-MODELS_KEPT]:
            del kept[version]

    def _take_proposal(self, record: Proposal, rho: bytes) -> OpenRound | None:
        if record.round_id in self.rounds:
            return None  # the first one stands: a second under its name has another rho, which nobody approves
        if len(self.rounds) >= ROUNDS_MAX:
            del self.rounds[next(iter(self.rounds))]
        current = self.rounds[record.round_id] = OpenRound(record, rho)
        for approval in self._early.pop(record.round_id, []):
            self._take_approval(approval)
        return current if current.approved else None

    def _take_approval(self, record: Approval) -> OpenRound | None:
        current = self.rounds.get(record.round_id)
        if current is None:
            self._keep_early(record)
            return None
        if record.rho != current.rho or record.member in current.approvals:
            return None
        roster = current.proposal.roster
        if not 1 <= record.member <= len(roster):
            raise RemoteError("no such member in the roster", reason="not-in-roster", got=record.member)
        entry = roster[record.member - 1]
        if record.epoch_key_id != entry.epoch_key_id:
            raise RemoteError("the approval is under another epoch key", reason="wrong-epoch-key")
        verify_record(record, entry.identity_key)
        before = current.approved
        current.approvals.add(record.member)
        return current if current.approved and not before else None

    def _keep_early(self, record: Approval) -> None:
        """Topics are read side by side: an approval may come before its proposal."""
        if record.round_id not in self._early and len(self._early) >= ROUNDS_MAX:
            del self._early[next(iter(self._early))]
        kept = self._early.setdefault(record.round_id, [])
        if len(kept) < APPROVALS_EARLY_MAX:
            kept.append(record)
