"""The client that an application embeds: `Client` for asyncio, `BlockingClient` for the rest, the same logic under both.

It joins, publishes anonymized usage events, contributes to the tasks that its owner allows and reads insights back. Whatever it
sends is acknowledged: each call says where its records stand. With `dry_run=True` nothing is sent and each call says what would be.
Boundary: as `core`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeVar

from aicache.privacy.errors import LocalError
from aicache.producers.core import Core, Delivery, Sent
from aicache.producers.insights import NOW, Insights
from aicache.producers.kafka import Acknowledged
from aicache.schemas import topics
from aicache.schemas.records import Recommended, Record
from aicache.schemas.topics import Topic

R = TypeVar("R", bound=Record)
DELIVERY_TIMEOUT_S = 60.0


class BlockingClient(Core):
    """A client whose calls return when the broker has answered.

    Args:
        hub: the process's connection, started.
        folder: the client's private folder; None: the user's own for this deployment.
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

    Examples:
        >>> with Hub(KafkaSettings("localhost:9092")) as hub:  # doctest: +SKIP
        ...     with BlockingClient(hub, pins=pins) as client:
        ...         client.join(wait_s=60)
        ...         client.allow("tags", lambda task: ["tag:python"])
    """

    def join(self, *, wait_s: float = 0.0) -> Delivery:
        """Ask to be enrolled; waits up to `wait_s` for the operator's yes, which `enrolled` then tells."""
        delivery = self._publish(topics.JOINS, self.identity.client, self.request())
        if wait_s and not self.dry_run:
            self.hub.wait_for(lambda: self.enrolled, wait_s)
        return delivery

    def pause(self) -> None:
        """Send nothing more until `resume`."""
        self.set_paused(paused=True)

    def resume(self) -> None:
        """Go on after `pause`."""
        self.set_paused(paused=False)

    def leave(self) -> None:
        """Stop for good and delete the keys."""
        self.forget()

    def erase(self) -> Delivery:
        """Ask that all that is kept under this client's recent pseudonyms be forgotten; what is queued is dropped.

        Works while paused, too. Whoever watches the log can tell from it that those pseudonyms were one client's.
        """
        names = self.take_back()
        if self.dry_run:
            return Delivery()
        sent = [self.hub.erase(topics.USAGE, name) for name in names]
        return Delivery([_answer(done.result, topics.USAGE) for done in sent])

    def flush(self) -> Delivery:
        """Publish what is queued, and wait for all that was published since the last call.

        Raises:
            LocalError: the broker did not take it in time; it is queued again.
        """
        if self.dry_run:
            return Delivery(withheld=self.take_queued())
        return Delivery([_settled(done) for done in self.take_pending()])

    def recommend_locally(
        self, items: Sequence[str], namespace: str, k: int = 10, *, task: str = ""
    ) -> list[Recommended]:
        """What comes next, computed here from tables that every client reads alike: nobody learns what was asked, nothing leaves.

        Args:
            items: at hand, oldest first.
            namespace: only items of it; empty: of any.
            k: how many at most.
            task: the private task of pairs whose tables answer; empty: those that were learned from usage.

        Raises:
            LocalError: the first call could not read the tables in time.
        """
        return self.hub.read_tables().rank(items, namespace, k, task=task)

    def insights(self, topic: Topic, kind: type[R], start: str | Mapping[int, int] = NOW) -> Insights[R]:
        """A reader of an insight topic; see `Insights`."""
        return Insights(self.hub.settings, topic, kind, start=start)

    def close(self) -> None:
        """Publish what is queued, then let another process use the folder.

        Raises:
            LocalError: events could not be published: they are lost, and the text says how many.
        """
        try:
            _empty(self)
        finally:
            self.release()

    def _publish(self, topic: Topic, key: bytes, record: Record) -> Delivery:
        if self.dry_run:
            return Delivery(withheld=[record])
        return Delivery([_answer(self.hub.publish(topic, key, record).result, topic)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _answer(result: Callable[[float], Acknowledged], topic: Topic) -> Acknowledged:
    try:
        return result(DELIVERY_TIMEOUT_S)
    except TimeoutError:
        raise _unanswered(topic) from None


def _unanswered(topic: Topic) -> LocalError:
    return LocalError(
        f"the broker has not taken a record of {topic.name} within {DELIVERY_TIMEOUT_S:.0f} s",
        got="no answer",
        needed="an acknowledgement",
    )


def _settled(done: Sent) -> Acknowledged:
    return _answer(done[1].result, topics.USAGE)


def _empty(core: Core) -> None:
    """Publish the last events before the folder is let go, however the client's life went.

    Raises:
        LocalError: some could not be.
    """
    if core.dry_run or not core.queued or core.paused:
        return
    try:
        for done in core.take_pending():
            _settled(done)
    except LocalError as error:
        raise LocalError(
            f"{core.queued} usage events were not published: {error}",
            got=core.queued,
            needed="a broker that takes them",
        ) from None


class Client(Core):
    """The same for asyncio: see `BlockingClient` for the arguments.

    Examples:
        >>> async def main() -> None:  # doctest: +SKIP
        ...     with Hub(KafkaSettings("localhost:9092")) as hub:
        ...         async with Client(hub, pins=pins) as client:
        ...             await client.join(wait_s=60)
        ...             client.record("used", ["pypi:numpy"])
        ...             print((await client.flush()).acknowledged)
    """

    async def join(self, *, wait_s: float = 0.0) -> Delivery:
        """Ask to be enrolled; waits up to `wait_s` for the operator's yes, which `enrolled` then tells."""
        delivery = await self._publish(topics.JOINS, self.identity.client, self.request())
        if wait_s and not self.dry_run:
            await asyncio.to_thread(self.hub.wait_for, lambda: self.enrolled, wait_s)
        return delivery

    async def pause(self) -> None:
        """Send nothing more until `resume`."""
        await asyncio.to_thread(self.set_paused, paused=True)

    async def resume(self) -> None:
        """Go on after `pause`."""
        await asyncio.to_thread(self.set_paused, paused=False)

    async def leave(self) -> None:
        """Stop for good and delete the keys."""
        await asyncio.to_thread(self.forget)

    async def erase(self) -> Delivery:
        """Ask that all that is kept under this client's recent pseudonyms be forgotten; see `BlockingClient.erase`."""
        names = self.take_back()
        if self.dry_run:
            return Delivery()
        sent = [self.hub.erase(topics.USAGE, name) for name in names]
        return Delivery([await _awaited(done, topics.USAGE) for done in sent])

    async def flush(self) -> Delivery:
        """Publish what is queued, and wait for all that was published since the last call.

        Raises:
            LocalError: the broker did not take it in time; it is queued again.
        """
        if self.dry_run:
            return Delivery(withheld=self.take_queued())
        sent = await asyncio.to_thread(self.take_pending)
        return Delivery([await _awaited(done, topics.USAGE) for _, done in sent])

    async def recommend_locally(
        self, items: Sequence[str], namespace: str, k: int = 10, *, task: str = ""
    ) -> list[Recommended]:
        """See `BlockingClient.recommend_locally`; only the first call waits for anything."""
        tables = await asyncio.to_thread(self.hub.read_tables)
        return tables.rank(items, namespace, k, task=task)

    def insights(self, topic: Topic, kind: type[R], start: str | Mapping[int, int] = NOW) -> Insights[R]:
        """A reader of an insight topic, for `async for`; see `Insights`."""
        return Insights(self.hub.settings, topic, kind, start=start)

    async def close(self) -> None:
        """Publish what is queued, then let another process use the folder.

        Raises:
            LocalError: events could not be published: they are lost, and the text says how many.
        """
        try:
            await asyncio.to_thread(_empty, self)
        finally:
            await asyncio.to_thread(self.release)

    async def _publish(self, topic: Topic, key: bytes, record: Record) -> Delivery:
        if self.dry_run:
            return Delivery(withheld=[record])
        return Delivery([await _awaited(self.hub.publish(topic, key, record), topic)])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _awaited(done: Future[Acknowledged], topic: Topic) -> Acknowledged:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(done), DELIVERY_TIMEOUT_S)
    except TimeoutError:
        raise _unanswered(topic) from None
