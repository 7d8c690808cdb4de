"""The coordinator as a fold: opens rounds, closes them, lists manifests, and makes models of what comes out.

It holds no secret of any client and is trusted for liveness only: members, clients and verifiers check all that it writes. Its
state and what it publishes go to Kafka in one transaction, so a coordinator that was killed goes on exactly where it stood and
can never publish two manifests of a round. Pure: the time comes with `tick`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.statements import client_id
from aicache.schemas import topics
from aicache.schemas.clipping import clip_after
from aicache.schemas.records import (
    Aggregate,
    Approval,
    CommitteeMember,
    Endorsement,
    Enrolment,
    Envelope,
    JoinRequest,
    Model,
    Receipt,
    Record,
    RoundAborted,
    RoundClosed,
    Task,
    Vote,
)
from aicache.schemas.signing import verify_record
from aicache.schemas.topics import Topic
from aicache.streams.rounds import budgets, models
from aicache.streams.rounds import state as state_of
from aicache.streams.rounds.checking import check_aggregate, check_task, verify_envelope
from aicache.streams.rounds.enrolment import Admission
from aicache.streams.rounds.manifest import make_manifest
from aicache.streams.rounds.proposing import propose
from aicache.streams.rounds.state import (
    CLOSING,
    COLLECTING,
    OPENING,
    VOTING,
    RoundState,
    State,
    TaskState,
    file_record,
    forget_round,
    keep_client,
    keep_ends,
    keep_manifest,
    keep_member,
    keep_model,
    keep_phase,
    keep_record,
    keep_task,
    load,
    momentum_key,
    set_manifest,
)
from aicache.streams.runtime.contract import Batch, Message, Output, Step

APPROVAL_WAIT_MS = 15_000
VOTE_WAIT_MS = 30_000
OPENING_WAIT_MS = 60_000
BACK_OFF_FIRST_MS = 1_000
BACK_OFF_MAX_MS = 60_000
CLAIMS_MAX = 4
"""Envelopes noted of one sender: a copy cannot push out the original, and a flood cannot fill the memory."""
ABORT = bytes(32)


class Coordinator:
    """The fold.

    Args:
        deployment: records of another one are refused.
        admission: how join requests are answered.
        identities: identity keys of the committee by number, as the operator was given them; others are refused. Empty: any.
    """

    name: str = "coordinator"
    version: int = 1
    inputs: tuple[Topic, ...] = (
        topics.TASKS,
        topics.COMMITTEE,
        topics.JOINS,
        topics.ENROLMENTS,
        topics.VOTES,
        topics.ENDORSEMENTS,
        topics.ENVELOPES,
        topics.AGGREGATES,
        topics.MODELS,
    )

    def __init__(self, deployment: str, admission: Admission, identities: dict[int, bytes] | None = None) -> None:
        self.deployment = deployment
        self.admission = admission
        self.identities = identities or {}

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        del partition
        return State()

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        del partition
        if version != self.version:
            raise LocalError("the coordinator's state is of another version", got=version, needed=self.version)
        return load(entries)

    # ------------------------------------------------------------ records

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        step = Step()
        for message in batch.messages:
            if message.record is None:
                continue
            try:
                self._take(state, message, message.record, step)
            except RemoteError as error:
                step.dead.append((message, error))
        return step

    def _take(self, state: State, message: Message, record: Record, step: Step) -> None:
        if getattr(record, "deployment", self.deployment) != self.deployment:
            raise RemoteError("the record is of another deployment", reason="wrong-deployment", needed=self.deployment)
        match record:
            case Task():
                check_task(record)
                known = state.tasks.get(record.task)
                if known is None:
                    state.tasks[record.task] = TaskState(record)
                elif record.version >= known.task.version:
                    known.task = record
                keep_task(state, record.task, step.changed)
            case CommitteeMember():
                self._take_member(state, record, step)
            case JoinRequest():
                self._answer(state, message, record, step)
            case Enrolment():
                self._enrol(state, message, record, step)
            case Model():
                self._take_model(state, record, step)
            case Aggregate():
                self._finish(state, record, step)
            case Envelope() | Approval() | Vote() | Endorsement() | Receipt():
                self._take_of_round(state, message, record, step)
            case _:
                raise RemoteError("the coordinator does not read this record", reason="wrong-record")

    def _enrol(self, state: State, message: Message, record: Enrolment, step: Step) -> None:
        state.enrolments_end = message.offset + 1  # also past a forged one: a proposal names how far the topic was read
        keep_ends(state, step.changed)
        if record.client != client_id(record.public_key):
            raise RemoteError("an enrolment names another client than its key's", reason="wrong-client-name")
        verify_record(record, self.admission.operator_key.public_key().public_bytes_raw())
        state.clients[record.client] = record
        state.answered.discard(record.client)
        keep_client(state, record, step.changed)

    def _take_member(self, state: State, record: CommitteeMember, step: Step) -> None:
        verify_record(record, record.identity_key)
        known = state.committee.get(record.member)
        taken = known is not None and not known.retired and known.valid_until_ms > state.now_ms
        pinned = self.identities.get(record.member, known.identity_key if known and taken else record.identity_key)
        if record.identity_key != pinned:
            raise RemoteError("another identity under this member's number", reason="foreign-member", got=record.member)
        same = known is not None and known.identity_key == record.identity_key
        if known is None or not same or record.epoch >= known.epoch:
            state.committee[record.member] = record
            keep_member(record, step.changed)

    def _answer(self, state: State, message: Message, record: JoinRequest, step: Step) -> None:
        client = client_id(record.public_key)
        if client in state.clients or client in state.answered:
            return  # who was revoked stays out until the operator says otherwise
        enrolled = len(state.clients) + len(state.answered)
        enrolment = self.admission.answer(record, enrolled, message.timestamp_ms)
        if enrolment is not None:
            state.answered.add(client)
            step.outputs.append(Output(topics.ENROLMENTS.name, client, enrolment))

    def _take_model(self, state: State, record: Model, step: Step) -> None:
        """The operator's roll-back; our own models come back as known."""
        known = state.models.get(record.task)
        ours = any(
            v.digest == record.digest and v.version == record.version for v in state.versions.get(record.task, [])
        )
        if ours or (known is not None and (record.round_id or record.length != known.length)):
            return
        if hashlib.sha256(record.weights).digest() != record.digest or len(record.weights) != 8 * record.length:
            raise RemoteError("the model's digest is not that of its weights", reason="bad-model")
        if known is not None and record.version <= known.version:  # a round was faster than the operator
            record = replace(record, version=known.version + 1)
            step.outputs.append(Output(topics.MODELS.name, record.task.encode(), record))
        state.models[record.task] = record
        state.momentum.pop(record.task, None)
        step.changed[momentum_key(record.task)] = None
        keep_model(state, record.task, step.changed)

    def _take_of_round(
        self, state: State, message: Message, record: Envelope | Approval | Vote | Endorsement | Receipt, step: Step
    ) -> None:
        current = state.rounds.get(record.round_id)
        if current is None:
            return  # late, or of a round that was never proposed here: nobody is harmed
        if record.rho != current.rho:
            raise RemoteError("the record is for another round of this name", reason="wrong-round")
        if isinstance(record, Approval | Vote | Endorsement):
            roster = current.proposal.roster
            if not 1 <= record.member <= len(roster):
                raise RemoteError("no such member in the roster", reason="not-in-roster", got=record.member)
            verify_record(record, roster[record.member - 1].identity_key)
        elif isinstance(record, Envelope):
            if len(current.claims.get(record.sender, {})) >= CLAIMS_MAX:
                raise RemoteError("too many envelopes of one sender", reason="second-envelope")
            verify_envelope(state, current, record)
            self._note_place(state, record, step)
            record = replace(record, sealed=[])
        if file_record(current, record):
            keep_record(current, record, f"{message.topic}@{message.offset:020d}", step.changed)

    def _note_place(self, state: State, record: Envelope, step: Step) -> None:
        end = max(record.place.offsets, default=-1) + 1
        if 0 <= record.place.partition < topics.UPDATES.partitions and end > state.updates_end.get(
            record.place.partition, 0
        ):
            state.updates_end[record.place.partition] = end
            keep_ends(state, step.changed)

    def _finish(self, state: State, record: Aggregate, step: Step) -> None:
        current = state.rounds.get(record.round_id)
        if current is None or current.manifest_digest != record.manifest_digest:
            return  # a repeated one, or of a round that was given up
        assert current.manifest is not None
        check_aggregate(current, record)
        if current.phase == state_of.VOTING:  # the reducer was quicker than the next tick
            self._charge(state, current, step)
        budgets.note_dropped(state, current.manifest, record, current.proposal.groups, step.changed)
        known = state.tasks[record.task]
        followed = clip_after(current.proposal, record)
        if followed is not None:
            known.clip, known.clip_from = followed, record.round_id
        model = None
        if known.task.kind == "model":
            model = models.step(state, known.task, record, step.changed)
        elif known.task.kind == "evaluation":
            measured = current.proposal.model_versions[0].version
            model = models.note_evaluation(state, known.task, record, measured, step.changed)
        if model is not None:
            step.outputs.append(Output(topics.MODELS.name, model.task.encode(), model))
        known.finished += 1
        known.failures = 0
        self._end(state, current, state.now_ms + known.task.interval_ms, step)

    # ------------------------------------------------------------ time

    def tick(self, state: State, now_ms: int) -> Step:
        """See `TimedFold.tick`."""
        step = Step()
        state.now_ms = max(state.now_ms, now_ms)  # a clock that steps back waits for nothing twice
        for name in list(state.tasks):
            self._open(state, name, step)
        for current in list(state.rounds.values()):
            self._advance(state, current, step)
        return step

    def _open(self, state: State, name: str, step: Step) -> None:
        known = state.tasks[name]
        task = known.task
        done = task.rounds and known.finished >= task.rounds
        if known.open_round or task.state != "active" or done or state.now_ms < known.next_ms:
            return
        if task.kind == "model" and name not in state.models:
            model = state.models[name] = models.first_model(task, state.now_ms)
            keep_model(state, name, step.changed)
            step.outputs.append(Output(topics.MODELS.name, name.encode(), model))
        if state.enrolled() < task.n_min * task.groups:
            return  # nothing could be opened: wait for clients without a word
        try:
            current = propose(state, task, known.rounds + 1, state.now_ms)
        except LocalError:
            return  # the committee or the model is not there yet
        known.rounds += 1
        known.open_round = current.proposal.round_id
        state.rounds[known.open_round] = current
        keep_task(state, name, step.changed)
        keep_phase(current, step.changed)
        step.outputs.append(_round_output(current, current.proposal))

    def _advance(self, state: State, current: RoundState, step: Step) -> None:
        waited_ms = state.now_ms - current.phase_since_ms
        match current.phase:
            case state_of.PROPOSED:
                if len(current.approvals) >= current.proposal.quorum:
                    self._enter(state, current, COLLECTING, step)
                elif waited_ms > APPROVAL_WAIT_MS:
                    self._abort(state, current, "no-quorum", step)
            case state_of.COLLECTING:
                self._collect(state, current, step)
            case state_of.CLOSING:
                self._close(state, current, waited_ms, step)
            case state_of.VOTING:
                self._count(state, current, waited_ms, step)
            case state_of.OPENING:
                if waited_ms > OPENING_WAIT_MS:
                    self._abort(state, current, "not-opened", step)

    def _collect(self, state: State, current: RoundState, step: Step) -> None:
        accepted = current.accepted()
        full = accepted >= current.proposal.n_max
        if not full and state.now_ms < current.proposal.deadline_ms:
            return
        late_ms = current.proposal.deadline_ms + current.proposal.grace_ms
        if len(current.standing()) < current.proposal.quorum and state.now_ms < late_ms:
            return  # members' vectors have a grace of their own: without k of them nothing can be listed
        closed = RoundClosed(
            deployment=self.deployment,
            task=current.proposal.task,
            round_id=current.proposal.round_id,
            rho=current.rho,
            closed_ms=state.now_ms,
            reason="full" if full else "deadline",
        )
        step.outputs.append(_round_output(current, closed))
        self._enter(state, current, CLOSING, step)

    def _close(self, state: State, current: RoundState, waited_ms: int, step: Step) -> None:
        everybody = current.approvals.keys() <= current.nonces.keys()  # who never approved does not answer either
        if (not everybody or current.unread()) and waited_ms <= current.proposal.grace_ms:
            return
        manifest = make_manifest(current, budgets.excluded(state))
        if manifest is None and waited_ms <= current.proposal.grace_ms:
            return  # receipts or endorsements of vectors may still come
        if manifest is None:
            self._abort(state, current, "no-quorum", step)
        elif not manifest.groups:
            self._abort(state, current, "under-n-min", step)
        else:
            set_manifest(current, manifest)
            keep_manifest(current, step.changed)
            step.outputs.append(_round_output(current, manifest))
            self._enter(state, current, VOTING, step)

    def _count(self, state: State, current: RoundState, waited_ms: int, step: Step) -> None:
        votes = list(current.votes.values())
        if votes.count(current.manifest_digest) >= current.proposal.quorum:
            self._charge(state, current, step)
            self._enter(state, current, OPENING, step)
        elif votes.count(ABORT) >= current.proposal.quorum or waited_ms > VOTE_WAIT_MS:
            self._abort(state, current, "no-votes", step)

    @staticmethod
    def _charge(state: State, current: RoundState, step: Step) -> None:
        for record in budgets.charge(state, current, step.changed):
            step.outputs.append(Output(topics.BUDGETS.name, record.client + record.purpose.encode(), record))

    def _enter(self, state: State, current: RoundState, phase: str, step: Step) -> None:
        current.phase, current.phase_since_ms = phase, state.now_ms
        keep_phase(current, step.changed)

    def _abort(self, state: State, current: RoundState, reason: str, step: Step) -> None:
        record = RoundAborted(
            self.deployment, current.proposal.task, current.proposal.round_id, current.rho, state.now_ms, reason
        )
        step.outputs.append(_round_output(current, record))
        known = state.tasks[current.proposal.task]
        known.failures += 1
        wait_ms = min(BACK_OFF_FIRST_MS * 2 ** min(known.failures - 1, 16), BACK_OFF_MAX_MS)
        self._end(state, current, state.now_ms + wait_ms, step)

    def _end(self, state: State, current: RoundState, next_ms: int, step: Step) -> None:
        known = state.tasks[current.proposal.task]
        known.open_round, known.next_ms = "", next_ms
        keep_task(state, current.proposal.task, step.changed)
        forget_round(state, current.proposal.round_id, step.changed)


def _round_output(current: RoundState, record: Record) -> Output:
    return Output(topics.ROUNDS.name, current.proposal.round_id.encode(), record)
