"""Usage to incidents without a broker: the data plane's partitions, then the control plane, as their shells would run them."""

from collections.abc import Iterable

from aicache.schemas import topics
from aicache.schemas.records import Incident, Record, UsageBatch
from aicache.streams.anomalies.incidents import Incidents
from aicache.streams.anomalies.logic import Anomalies
from aicache.streams.runtime.contract import Batch, Message, Step


class Radar:
    """Both processors, and what they have told."""

    def __init__(self) -> None:
        self._counts, self._control = Anomalies(), Incidents()
        self._parts = [self._counts.empty(partition) for partition in range(topics.USAGE.partitions)]
        self._state = self._control.empty(0)
        self._offset = 0
        self.told: list[Incident] = []
        self.dead: list[str] = []

    def usage(self, batches: Iterable[UsageBatch], now_s: int) -> None:
        """Batches of usage that the log takes at a time, each in its person's partition."""
        by_partition: dict[int, list[Message]] = {}
        for batch in batches:
            partition = batch.pseudonym[3] % topics.USAGE.partitions
            self._offset += 1
            message = Message(topics.USAGE.name, partition, self._offset, now_s * 1_000, batch.pseudonym, batch)
            by_partition.setdefault(partition, []).append(message)
        for partition, messages in sorted(by_partition.items()):
            step = self._counts.apply(self._parts[partition], Batch(partition, messages))
            self.dead += [error.reason for _, error in step.dead]
            self.control(topics.SERIES, [output.record for output in step.outputs])

    def control(self, topic: topics.Topic, records: Iterable[Record | None]) -> None:
        """Records for the control plane."""
        messages = [Message(topic.name, 0, n, 0, b"", record) for n, record in enumerate(records)]
        self._take(self._control.apply(self._state, Batch(0, messages)))

    def tick(self, now_s: int) -> None:
        """The clock."""
        self._take(self._control.tick(self._state, now_s * 1_000))

    def _take(self, step: Step) -> None:
        self.told += [output.record for output in step.outputs if isinstance(output.record, Incident)]
        self.dead += [error.reason for _, error in step.dead]

    def kinds(self) -> set[tuple[str, str, str]]:
        """What was told, by kind, subject and release."""
        return {(one.kind, one.subject, one.release) for one in self.told}
