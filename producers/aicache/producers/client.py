"""The client that an application embeds: `Client` for asyncio, `BlockingClient` for the rest, the same logic under both.

It joins, publishes anonymized usage events, contributes to the tasks that its owner allows and reads insights back. Whatever it
sends is acknowledged: each call says where its records stand. With `dry_run=True` nothing is sent and each call says what would be.
Boundary: the hub (Kafka), the private folder, the clock, the system's entropy.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import AicacheError, LocalError, RemoteError
from aicache.producers.board import OpenRound
from aicache.producers.identity import Folder, Identity
from aicache.producers.kafka import Acknowledged, Hub
from aicache.producers.ledger import Ledger, Spent
from aicache.producers.session import Contribution, Limits, Pins, Session
from aicache.producers.usage import Rules, Situation, UsageQueue, make_event
from aicache.producers.vectors import vector_of
from aicache.schemas import topics
from aicache.schemas.records import JoinRequest, Model, ModelSpec, Place, Recommended, Record, Task, UsageBatch
from aicache.schemas.signing import signed
from aicache.schemas.topics import Topic

Provider = Callable[[Task], Any]
"""Gives the data that a client contributes to a task; None: not this time. See `vectors` for the form a kind."""

DELIVERY_TIMEOUT_S = 60.0
OUTCOMES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a call.

    Attributes:
        acknowledged: where the records stand.
        withheld: what would have been sent, in a dry run.
    """

    acknowledged: list[Acknowledged] = field(default_factory=list)
    withheld: list[Record] = field(default_factory=list)


class _Core:
    """All that both clients do; see `BlockingClient` for the arguments."""

    def __init__(
        self,
        hub: Hub,
        folder: Path,
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
        self.hub = hub
        self.dry_run = dry_run
        self.limits = limits or Limits()
        self.outcomes: dict[str, str] = {}
        self._on_contribution = on_contribution
        self._clock = clock
        self._entropy = entropy
        self._providers: dict[str, Provider] = {}
        self._lock = threading.Lock()
        self._folder = Folder(folder)
        self._pins = pins
        self.ledger = Ledger(folder)
        identity = self._folder.identity()
        self.identity: Identity = identity or self._folder.make_identity(entropy)
        self._session = None if pins is None else Session(hub.board, self.identity, self.ledger, pins, self.limits)
        self._queue = UsageQueue(
            hub.settings.deployment, self.identity.pseudonym_key, situation or Situation(), rules or Rules()
        )
        hub.watch(self._queue.pseudonym(clock()))
        hub.on_round(self._round_opened)

    # ------------------------------------------------------------ being a client

    @property
    def enrolled(self) -> bool:
        """Whether the operator has admitted it."""
        known = self.hub.board.enrolments.get(self.identity.client)
        return known is not None and not known.revoked

    def request(self) -> JoinRequest:
        """The signed request to be enrolled."""
        record = JoinRequest(self.hub.settings.deployment, self.identity.public_key, self._clock(), b"")
        return signed(record, self.identity.signing_key)

    def set_paused(self, *, paused: bool) -> None:
        """Stop contributing, or go on."""
        self.identity = self._folder.set_paused(self.identity, paused=paused)
        if self._session is not None:
            self._session.identity = self.identity

    def forget(self) -> None:
        """Delete the keys; what was published cannot be linked to this machine any more."""
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
        self._providers[task] = provider
        for current in list(self.hub.board.rounds.values()):
            if current.approved and current.proposal.task == task:
                self._round_opened(current)

    def close(self) -> None:
        """Let another process use the folder."""
        self._providers.clear()
        self._folder.close()

    # ------------------------------------------------------------ rounds

    def _round_opened(self, current: OpenRound) -> None:
        if current.proposal.task in self._providers:
            self.hub.work.submit(self._contribute, current)

    def _contribute(self, current: OpenRound) -> None:
        """Take part in a round; runs in the hub's working thread, and says in `outcomes` what became of it."""
        round_id = current.proposal.round_id
        try:
            made = self.make_contribution(current)
        except AicacheError as error:
            self._outcome(round_id, error.reason if isinstance(error, RemoteError) else str(error))
            return
        if made is None:
            self._outcome(round_id, "sat out")
        elif not self.dry_run:
            self._send(made)

    def make_contribution(self, current: OpenRound) -> Contribution | None:
        """What the client sends to a round; its cost is in the ledger when this returns.

        Returns:
            None where the owner's provider has nothing for it.

        Raises:
            LocalError, RemoteError: why it does not take part.
        """
        session, task = self._session, self.hub.board.tasks.get(current.proposal.task)
        provider = self._providers.get(current.proposal.task)
        if session is None or provider is None or task is None:
            return None
        if task.version != current.proposal.task_version:
            raise RemoteError("the round is for another version of the task", reason="wrong-task-version")
        session.check(current, self._clock())
        data = provider(task)
        if data is None:
            return None
        model, spec = self._model_of(task, current)
        made = session.contribute(current, vector_of(task, data, model, spec), self._clock(), self._entropy)
        self._on_contribution(made)
        return made

    def _model_of(self, task: Task, current: OpenRound) -> tuple[Model | None, ModelSpec | None]:
        if not current.proposal.model_versions:
            return None, None
        wanted = current.proposal.model_versions[-1]
        name = task.evaluates or task.task
        model = self.hub.board.model(name, wanted.version)
        if model is None or model.digest != wanted.digest:
            raise RemoteError(
                "the model that the round starts from is not there", reason="unknown-model", got=wanted.version
            )
        learned = self.hub.board.tasks.get(name)
        return model, learned.model if learned is not None else None

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
        done = self.hub.publish(topics.ENVELOPES, round_id.encode(), self._session.envelope(made, place))
        done.add_done_callback(
            lambda sent: self._outcome(
                round_id, "sent" if sent.exception() is None else "the broker did not take the envelope"
            )
        )

    def _outcome(self, round_id: str, what: str) -> None:
        self.outcomes[round_id] = what
        while len(self.outcomes) > OUTCOMES_MAX:
            del self.outcomes[next(iter(self.outcomes))]

    # ------------------------------------------------------------ usage

    def record(self, kind: str, items: Sequence[str], *, time_s: int | None = None, **more: Any) -> None:
        """Queue an anonymized event; see `usage.make_event`.

        Raises:
            LocalError: it is not of the form that may leave, or the queue is full.
        """
        when_s = self._clock() // 1000 if time_s is None else time_s
        self._queue.put([make_event(kind, items, time_s=when_s, rules=self._queue.rules, **more)])

    def send_queued(self) -> list[tuple[UsageBatch, Future[Acknowledged]]]:
        """Hand the queued events to the connection."""
        sent = []
        while (batch := self._queue.batch(self._clock())) is not None:
            try:
                sent.append((batch, self.hub.publish(topics.USAGE, batch.pseudonym, batch)))
            except LocalError:
                self._queue.put_back(batch.events)
                raise
        return sent

    def take_queued(self) -> list[Record]:
        """What would be sent now; it is taken off the queue."""
        return list(iter(lambda: self._queue.batch(self._clock()), None))

    def returned(self, batch: UsageBatch) -> None:
        """A batch that the broker did not take: its events are queued again."""
        self._queue.put_back(batch.events)

    # ------------------------------------------------------------ insights

    def recommend(self, namespace: str, k: int = 10) -> list[Recommended]:
        """What comes next in a namespace, best first; empty where nothing is known."""
        found = self.hub.recommendation(self._queue.pseudonym(self._clock()), namespace)
        return [] if found is None else found.items[:k]

    def spent(self) -> list[Spent]:
        """What the client has spent, a purpose and window."""
        return self.ledger.spent()


class BlockingClient(_Core):
    """A client whose calls return when the broker has answered.

    Args:
        hub: the process's connection, started.
        folder: the client's private folder.
        pins: whom it trusts with key shares; None: it publishes and reads, but does not contribute.
        limits: what its owner allows.
        situation: where its usage events happen.
        rules: how they are anonymized.
        dry_run: send nothing; calls say what would be sent.
        on_contribution: shown each contribution before it is sent, on this machine only.
        clock: Unix milliseconds.
        entropy: fresh secret bytes.

    Raises:
        LocalError: the folder is in use, or what is in it is damaged.
    """

    def join(self, *, wait_s: float = 0.0) -> Delivery:
        """Ask to be enrolled; waits up to `wait_s` for the operator's yes."""
        delivery = self._publish(topics.JOINS, self.identity.client, self.request())
        if wait_s and not self.dry_run:
            self.hub.wait_for(lambda: self.enrolled, wait_s)
        return delivery

    def pause(self) -> None:
        """Stop contributing until `resume`."""
        self.set_paused(paused=True)

    def resume(self) -> None:
        """Go on after `pause`."""
        self.set_paused(paused=False)

    def leave(self) -> None:
        """Stop for good and delete the keys."""
        self.forget()

    def flush(self) -> Delivery:
        """Publish what is queued.

        Raises:
            LocalError: the broker did not take it in time; it is queued again.
        """
        if self.dry_run:
            return Delivery(withheld=self.take_queued())
        return Delivery([_settled(self, batch, done) for batch, done in self.send_queued()])

    def _publish(self, topic: Topic, key: bytes, record: Record) -> Delivery:
        if self.dry_run:
            return Delivery(withheld=[record])
        return Delivery([self.hub.publish(topic, key, record).result(DELIVERY_TIMEOUT_S)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _settled(core: _Core, batch: UsageBatch, done: Future[Acknowledged]) -> Acknowledged:
    try:
        return done.result(DELIVERY_TIMEOUT_S)
    except Exception as error:
        core.returned(batch)
        raise LocalError(
            f"the broker did not take the events: {error}", got=str(error), needed="an acknowledgement"
        ) from None


class Client(_Core):
    """The same for asyncio: see `BlockingClient` for the arguments.

    Examples:
        >>> async def main() -> None:  # doctest: +SKIP
        ...     with Hub(KafkaSettings("localhost:9092")) as hub:
        ...         async with Client(hub, Path("~/.aicache").expanduser(), pins=pins) as client:
        ...             await client.join(wait_s=60)
        ...             client.record("used", ["pypi:numpy"])
        ...             print((await client.flush()).acknowledged)
    """

    async def join(self, *, wait_s: float = 0.0) -> Delivery:
        """Ask to be enrolled; waits up to `wait_s` for the operator's yes."""
        delivery = await self._publish(topics.JOINS, self.identity.client, self.request())
        if wait_s and not self.dry_run:
            await asyncio.to_thread(self.hub.wait_for, lambda: self.enrolled, wait_s)
        return delivery

    async def pause(self) -> None:
        """Stop contributing until `resume`."""
        await asyncio.to_thread(self.set_paused, paused=True)

    async def resume(self) -> None:
        """Go on after `pause`."""
        await asyncio.to_thread(self.set_paused, paused=False)

    async def leave(self) -> None:
        """Stop for good and delete the keys."""
        await asyncio.to_thread(self.forget)

    async def flush(self) -> Delivery:
        """Publish what is queued.

        Raises:
            LocalError: the broker did not take it in time; it is queued again.
        """
        if self.dry_run:
            return Delivery(withheld=self.take_queued())
        sent = await asyncio.to_thread(self.send_queued)
        return Delivery([await asyncio.to_thread(_settled, self, batch, done) for batch, done in sent])

    async def _publish(self, topic: Topic, key: bytes, record: Record) -> Delivery:
        if self.dry_run:
            return Delivery(withheld=[record])
        done = self.hub.publish(topic, key, record)
        return Delivery([await asyncio.wait_for(asyncio.wrap_future(done), DELIVERY_TIMEOUT_S)])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
