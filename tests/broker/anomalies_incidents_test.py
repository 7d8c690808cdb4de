"""From usage events on a real broker to an incident: a bad release is named, twice the same if the worker is replaced on the way."""

from collections.abc import Iterator

import numpy as np
import pytest
from confluent_kafka import Producer

from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Incident, SeriesCount, UsageBatch, UsageEvent
from aicache.streams.anomalies import sketches
from aicache.streams.anomalies.incidents import Incidents
from aicache.streams.anomalies.logic import Anomalies
from aicache.streams.runtime.contract import Batch, Message
from aicache.streams.runtime.direct import DirectShell
from support.reading import records_of

CODEC = Codec()
START_S = 1_700_000_040
PEOPLE = 8
STEPS_MAX = 3_000
READ = [topics.USAGE, topics.SERIES, topics.DEAD_LETTERS]


@pytest.fixture
def deployment(kafka: KafkaSettings) -> KafkaSettings:
    state = topics.state_topic("anomalies", topics.USAGE.partitions)
    create_topics(kafka.client_config(), kafka.prefix, topics=[*READ, state])
    return kafka


def batches(first: int, last: int) -> Iterator[tuple[int, UsageBatch]]:
    """Minutes of use by 8 people; release 1.1 fails in 15% of runs, 1.0 in 2%, and `op:test` is slow with 1.1."""
    random = np.random.default_rng(first)
    for minute in range(first, last):
        for person in range(PEOPLE):
            time_s = START_S + 60 * minute
            events = []
            for release, rate, typical_s in (("pypi:tool@1.0", 0.02, 0.2), ("pypi:tool@1.1", 0.15, 0.6)):
                failed = int(random.binomial(20, rate))
                events.append(UsageEvent("success", time_s, ["op:build"], [], release, 20 - failed, b"", -1, 0.0))
                if failed:
                    events.append(UsageEvent("failure", time_s, ["op:build"], [], release, failed, b"", -1, 0.0))
                sketch = sketches.pack(sketches.sketch_of(typical_s * random.lognormal(0, 0.3, 5)))
                events.append(UsageEvent("duration", time_s, ["op:test"], [], release, 5, sketch, -1, 0.0))
            name = person.to_bytes(16, "big")
            yield person, UsageBatch("test", name, 1, minute, "python", "", "linux", "build", "tool@1.0", events)


def send(kafka: KafkaSettings, first: int, last: int) -> None:
    producer = Producer(kafka.client_config())
    for person, batch in batches(first, last):
        producer.produce(
            kafka.name("aicache.usage"),
            CODEC.encode(batch),
            batch.pseudonym,
            partition=person % topics.USAGE.partitions,
            timestamp=batch.events[0].time_s * 1_000,
        )
    assert producer.flush(30) == 0


def count_until(kafka: KafkaSettings, minute: int) -> None:
    """A worker that counts until this minute is whole in all partitions, and is gone then."""
    shell = DirectShell(Anomalies(), kafka)
    shell._consumer.subscribe(
        [shell._topic], on_assign=shell._assigned, on_revoke=shell._dropped, on_lost=shell._dropped
    )
    try:
        for _ in range(STEPS_MAX):
            shell.step()
            counts = [(key, count) for task in shell.tasks.values() for key, count in task.state.open.items()]
            if sum(count.events for key, count in counts if key[2] == START_S + 60 * minute) == PEOPLE * 50:
                return
    finally:
        shell._consumer.close()
    raise AssertionError("the worker did not get there")


def judged(counts: list[object]) -> list[Incident]:
    """What the control plane makes of the counts in the order of the log."""
    fold, state, found = Incidents(), Incidents().empty(0), []
    for offset, record in enumerate(counts):
        assert isinstance(record, SeriesCount)
        step = fold.apply(state, Batch(0, [Message("aicache.series", 0, offset, 0, b"", record)]))
        found += [output.record for output in step.outputs]
    found += [output.record for output in fold.tick(state, (START_S + 86_400) * 1_000).outputs]
    return [record for record in found if isinstance(record, Incident)]


def test_a_bad_and_a_slow_release_become_incidents_though_the_worker_is_replaced(deployment: KafkaSettings) -> None:
    send(deployment, 0, 8)
    count_until(deployment, 7)
    send(deployment, 8, 16)
    count_until(deployment, 15)
    counts = records_of(deployment, topics.SERIES)
    newest = {(c.series, c.release, c.window_start_s, c.partition): c for c in counts if isinstance(c, SeriesCount)}
    assert sum(c.events for c in newest.values()) == 16 * PEOPLE * 50
    assert records_of(deployment, topics.DEAD_LETTERS) == []
    by_time = sorted(newest.values(), key=lambda c: (c.window_start_s, c.partition, c.series, c.release))
    opened = {(i.kind, i.subject, i.release) for i in judged(list(by_time)) if i.status == "opened"}
    assert opened == {("failure-rate", "op:build", "pypi:tool@1.1"), ("latency", "op:test", "pypi:tool@1.1")}
