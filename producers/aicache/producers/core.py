"""What both clients do, the waiting apart: rounds, usage, recommendations, and an owner's wishes.

Rounds are contributed to in the hub's working thread as they open. What is missing when a round opens and may still come (a model,
an enrolment, a member's key) is waited for as long as the round is open; everything else is decided once. `outcomes` tells what
became of each round, errors included: nothing is swallowed. Boundary: the hub (Kafka), the private folder, the clock, the system's
entropy.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import AicacheError, LocalError, RemoteError
from aicache.producers.answers import Answering
from aicache.producers.board import OpenRound
from aicache.producers.identity import Folder, Identity, default_folder, set_paused
from aicache.producers.kafka import Acknowledged, Hub
from aicache.producers.ledger import Ledger, Spent
from aicache.producers.session import Contribution, Limits, MissingError, Pins, Session
from aicache.producers.usage import BATCH_EVENTS_MAX, Rules, Situation, UsageQueue, make_event
from aicache.producers.vectors import vector_of
from aicache.schemas import topics
from aicache.schemas.declared import check_declared
from aicache.schemas.records import JoinRequest, Model, ModelSpec, Place, Recommendation, Record, Task, UsageBatch
from aicache.schemas.signing import signed

Provider = Callable[[Task], Any]
"""Gives the data that a client contributes to a task; None: not this time. See `vectors` for the form a kind."""

OUTCOMES_MAX = 1_000
PENDING_MAX = 1_000
WITHHELD_MAX = 1_000
SENT, SAT_OUT, PAUSED = "sent", "sat out", "paused"
Sent = tuple[UsageBatch, "Future[Acknowledged]"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a call.

    Attributes:
        acknowledged: where the records stand.
        withheld: what would have been sent, in a dry run.
    """

    acknowledged: list[Acknowledged] = field(default_factory=list)
    withheld: list[Record] = field(default_factory=list)


class Core(Answering):
    """What `BlockingClient` and `Client` share; see there for the arguments.

    Attributes:
        identity: the client's keys.
        ledger: what it has spent.
        outcomes: what became of each round that a provider was there for: `sent`, `sat out`, `paused`, or why not.
        withheld: in a dry run, what its contributions would have been: chunks, then an envelope without a place.
    """

    def __init__(
        self,
        hub: Hub,
        folder: Path | None = None,
        *,
        pins: Pins | None = None,
        limits: Limits | None = None,
        situation: Situation | None = None,
        rules: Rules | None = None,
        dry_run: bool = False,
        on_contribution: Callable[[Contribution], None] = lambda _made: None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        entropy: ByteSource = os.urandom,
    ) -> None:
        super().__init__()
        self.hub = hub
        self.dry_run = dry_run
        self.limits = limits or Limits()
        self.outcomes: dict[str, str] = {}
        self.withheld: deque[Record] = deque(maxlen=WITHHELD_MAX)
        self._on_contribution = on_contribution
        self._clock = clock
        self._entropy = entropy
        self._providers: dict[str, Provider] = {}
        self._decided: dict[str, None] = {}
        self._pending: deque[Sent] = deque(maxlen=PENDING_MAX)
        self._lock = threading.Lock()
        self._gone = False
        self._folder = Folder(folder or default_folder(hub.settings.deployment))
        try:
            self.ledger = Ledger(self._folder.path)
            self.identity: Identity = self._folder.identity() or self._folder.make_identity(entropy)
        except LocalError:
            self._folder.close()
            raise
        self._session = None if pins is None else Session(hub.board, self.identity, self.ledger, pins, self.limits)
        self._queue = UsageQueue(
            hub.settings.deployment, self.identity.pseudonym_key, situation or Situation(), rules or Rules()
        )
        self._watched = b""
        self._watch()
        hub.on_round(self._round_opened)
        hub.on_tick(self._send_overdue)

    # ------------------------------------------------------------ being a client

    @property
    def enrolled(self) -> bool:
        """Whether the operator has admitted it."""
        known = self.hub.board.enrolments.get(self.identity.client)
        return known is not None and not known.revoked

    @property
    def paused(self) -> bool:
        """Whether its owner has asked for silence, here or with `aicache pause`."""
        return self._folder.paused

    def request(self) -> JoinRequest:
        """The signed request to be enrolled."""
        self._check_speaks()
        record = JoinRequest(self.hub.settings.deployment, self.identity.public_key, self._clock(), b"")
        return signed(record, self.identity.signing_key)

    def set_paused(self, *, paused: bool) -> None:
        """Send nothing more, or go on; remembered in the folder."""
        set_paused(self._folder.path, paused=paused)

    def forget(self) -> None:
        """Delete the keys: what was published cannot be linked to this machine any more. The ledger stays."""
        self._gone = True
        self._providers.clear()
        self._folder.forget()

    def allow(self, task: str, provider: Provider) -> None:
        """Contribute to a task from now on.

        Args:
            task: its name.
            provider: called once a round with the task; gives the data, or None to sit out.

        Raises:
            LocalError: the client has no pins: it does not know whom to trust with key shares.
        """
        if self._session is None:
            raise LocalError("contributing needs pinned committee identities", got="no pins", needed="pins=Pins(…)")
        if self._gone:
            raise self._left()
        self._providers[task] = provider
        for current in list(self.hub.board.rounds.values()):
            if current.approved and current.proposal.task == task:
                self._round_opened(current)

    def disallow(self, task: str) -> None:
        """Contribute to a task no more."""
        self._providers.pop(task, None)

    def release(self) -> None:
        """Take part in nothing more, and let another process use the folder."""
        self._providers.clear()
        self.hub.off_round(self._round_opened)
        self.hub.off_tick(self._send_overdue)
        self.hub.settle()
        self.hub.unwatch(self._watched)
        self._folder.close()

    def _check_speaks(self) -> None:
        if self._gone:
            raise self._left()
        if self.paused:
            raise LocalError("the client is paused: nothing leaves", got="paused", needed="resume")

    @staticmethod
    def _left() -> LocalError:
        return LocalError("the client has left: its keys are deleted", got="left", needed="a new client")

    # ------------------------------------------------------------ rounds

    def _round_opened(self, current: OpenRound) -> None:
        if current.proposal.task in self._providers and current.proposal.round_id not in self._decided:
            self.hub.run(self._contribute, current)

    def _contribute(self, current: OpenRound) -> None:
        """Take part in a round; runs in the hub's working thread."""
        round_id = current.proposal.round_id
        if round_id in self._decided:
            return
        try:
            made = None if self.paused else self.make_contribution(current)
            if made is None:
                self._outcome(round_id, PAUSED if self.paused else SAT_OUT)
            elif self.dry_run:
                self._withhold(made)
            else:
                self._decide(round_id)
                self._send(made)
        except MissingError as error:
            self.outcomes[round_id] = str(error)  # looked at again when it comes
        except AicacheError as error:
            self._outcome(round_id, error.reason if isinstance(error, RemoteError) else str(error))
        except Exception as error:  # the provider's or the hook's: the application's own code, which may quote its data
            self._outcome(round_id, f"the application failed: {type(error).__name__}")

    def make_contribution(self, current: OpenRound) -> Contribution | None:
        """What the client sends to a round; its cost is in the ledger when this returns (in a dry run it costs nothing).

        Returns:
            None where the owner's provider has nothing for it.

        Raises:
            LocalError, RemoteError: why it does not take part.
        """
        session, task = self._session, self.hub.board.tasks.get(current.proposal.task)
        provider = self._providers.get(current.proposal.task)
        if session is None or provider is None:
            return None
        if task is None or task.version < current.proposal.task_version:
            raise MissingError(
                "the round's task has not been read yet",
                got=task and task.version,
                needed=current.proposal.task_version,
            )
        if task.version != current.proposal.task_version:
            raise RemoteError("the round is for another version of the task", reason="wrong-task-version")
        session.check(current, self._clock())
        check_declared(current.proposal, task)
        model, spec = self._model_of(task, current)
        data = provider(task)
        if data is None:
            return None
        made = session.contribute(
            current,
            vector_of(task, data, model, spec),
            self._clock(),
            self._entropy,
            model_version=-1 if model is None else model.version,
            preview=self.dry_run,
        )
        self._on_contribution(made)
        return made

    def _model_of(self, task: Task, current: OpenRound) -> tuple[Model | None, ModelSpec | None]:
        """The newest of the models that the round accepts and this process has read."""
        accepted = current.proposal.model_versions
        if not accepted:
            return None, None
        name = task.evaluates or task.task
        for wanted in sorted(accepted, key=lambda version: -version.version):
            model = self.hub.board.model(name, wanted.version)
            if model is not None and model.digest == wanted.digest:
                learned = self.hub.board.tasks.get(name)
                return model, learned.model if learned is not None else None
        raise MissingError(
            "the model that the round starts from is not there",
            got=None,
            needed=[version.version for version in accepted],
        )

    def _send(self, made: Contribution) -> None:
        key = made.proposal.round_id.encode() + self.identity.client
        left = len(made.chunks)
        places: list[Acknowledged] = []

        def stands(done: Future[Acknowledged]) -> None:
            nonlocal left
            with self._lock:
                left -= 1
                if done.exception() is None:
                    places.append(done.result())
                last = left == 0
            if last:
                self._finish(made, places)

        for chunk in made.chunks:
            self.hub.publish(topics.UPDATES, key, chunk).add_done_callback(stands)

    def _finish(self, made: Contribution, places: list[Acknowledged]) -> None:
        """All chunks stand (or not): publish the envelope that says where."""
        round_id = made.proposal.round_id
        if len(places) < len(made.chunks):
            self._outcome(round_id, "the broker did not take the ciphertext")
            return
        assert self._session is not None
        place = Place(places[0].partition, sorted(where.offset for where in places))
        try:
            done = self.hub.publish(topics.ENVELOPES, round_id.encode(), self._session.envelope(made, place))
        except LocalError as error:
            self._outcome(round_id, str(error))
            return
        done.add_done_callback(
            lambda sent: self._outcome(
                round_id, SENT if sent.exception() is None else "the broker did not take the envelope"
            )
        )

    def _withhold(self, made: Contribution) -> None:
        assert self._session is not None
        self.withheld.extend([*made.chunks, self._session.envelope(made, Place(-1, []))])
        self._outcome(made.proposal.round_id, "withheld")

    def _decide(self, round_id: str) -> None:
        self._decided[round_id] = None
        while len(self._decided) > OUTCOMES_MAX:
            del self._decided[next(iter(self._decided))]

    def _outcome(self, round_id: str, what: str) -> None:
        self._decide(round_id)
        self.outcomes[round_id] = what
        while len(self.outcomes) > OUTCOMES_MAX:
            del self.outcomes[next(iter(self.outcomes))]
        self.hub.tell_waiting()

    # ------------------------------------------------------------ usage

    def record(self, kind: str, items: Sequence[str], *, time_s: int | None = None, **more: Any) -> None:
        """Queue an anonymized event: a full batch is published at once, the rest within `usage.WAIT_MS_MAX`, by `flush`, or by `close`.

        See `usage.make_event` for what an event may say.

        Raises:
            LocalError: it is not of the form that may leave, the queue is full, or the client is paused.
        """
        self._check_speaks()
        when_s = self._clock() // 1000 if time_s is None else time_s
        self._queue.put([make_event(kind, items, time_s=when_s, rules=self._queue.rules, **more)], self._clock())
        if not self.dry_run and self._queue.waiting >= BATCH_EVENTS_MAX:
            self._pending.extend(self.send_queued())

    def send_queued(self) -> list[Sent]:
        """Hand the queued events to the connection; what it does not deliver is queued again.

        Raises:
            LocalError: the connection does not take them, or the client is paused.
        """
        self._check_speaks()
        self._watch()
        sent: list[Sent] = []
        while (batch := self._queue.batch(self._clock())) is not None:
            try:
                sent.append((batch, self._settling(batch, self.hub.publish(topics.USAGE, batch.pseudonym, batch))))
            except LocalError:
                self._queue.failed(batch)
                raise
        return sent

    def _send_overdue(self) -> None:
        """Publish what has waited long enough; what the connection does not take stays queued."""
        if self.dry_run or not self._queue.overdue(self._clock()):
            return
        with contextlib.suppress(LocalError):  # paused, gone, or the broker is away: nothing is lost, and `flush` tells
            self._pending.extend(self.send_queued())

    def _settling(self, batch: UsageBatch, done: Future[Acknowledged]) -> Future[Acknowledged]:
        """The same future, but the queue knows before anybody who waits."""
        settled: Future[Acknowledged] = Future()
        settled.set_running_or_notify_cancel()

        def settle(done: Future[Acknowledged]) -> None:
            error = done.exception()
            if error is not None:
                self._queue.failed(batch)
                settled.set_exception(error)
            else:
                self._queue.delivered(batch)
                settled.set_result(done.result())
            self.hub.tell_waiting()

        done.add_done_callback(settle)
        return settled

    def take_pending(self) -> list[Sent]:
        """Batches that went out by themselves since the last call, and all that is queued now."""
        before = [self._pending.popleft() for _ in range(len(self._pending))]
        return before + self.send_queued()

    def take_queued(self) -> list[Record]:
        """What would be sent now; it is taken off the queue."""
        taken: list[Record] = []
        while (batch := self._queue.batch(self._clock())) is not None:
            self._queue.delivered(batch)
            taken.append(batch)
        return taken

    @property
    def queued(self) -> int:
        """Events that the broker has not acknowledged."""
        return len(self._queue)

    # ------------------------------------------------------------ insights

    def _watch(self) -> None:
        """Follow the pseudonym: recommendations come under the name that the events went out with."""
        pseudonym = self._queue.pseudonym(self._clock())
        if pseudonym != self._watched:
            self.hub.watch(pseudonym)
            self.hub.unwatch(self._watched)
            self._watched = pseudonym

    def _newest(self, namespace: str) -> Recommendation | None:
        self._watch()
        return self.hub.recommendation(self._watched, namespace)

    def _pseudonym(self) -> bytes:
        return self._queue.pseudonym(self._clock())

    def take_back(self) -> list[bytes]:
        """Drop what is queued, and name the pseudonyms under which something may still be kept."""
        if self._gone:
            raise self._left()
        self.take_queued()
        return self._queue.pseudonyms(self._clock())

    def spent(self, delta: float = 1e-6) -> list[Spent]:
        """What the client has spent, a purpose and window, newest first."""
        return self.ledger.spent(delta)
