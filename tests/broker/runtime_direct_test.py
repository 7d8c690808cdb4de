"""The direct shell on a real broker: nothing lost, nothing twice, whoever takes over."""

from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import DeadLetter, Trend
from aicache.streams.runtime.direct import DirectShell
from aicache.streams.runtime.store import FencedError, TaskStore
from aicache.streams.runtime.tasks import BreakerError, GapError, Raw, Task
from support.counting import Counting, usage
from support.reading import records_of

CODEC = Codec()
STEPS_MAX = 3_000


@pytest.fixture
def deployment(kafka: KafkaSettings) -> KafkaSettings:
    wanted = [topics.USAGE, topics.TRENDS, topics.DEAD_LETTERS, topics.state_topic("trends", topics.USAGE.partitions)]
    create_topics(kafka.client_config(), kafka.prefix, topics=wanted)
    return kafka


def send(kafka: KafkaSettings, values: list[bytes], partition: int | None = None) -> None:
    producer = Producer(kafka.client_config())
    for number, value in enumerate(values):
        where = number % topics.USAGE.partitions if partition is None else partition
        producer.produce(kafka.name("aicache.usage"), value, b"key", partition=where)
    assert producer.flush(30) == 0


def final_counts(kafka: KafkaSettings) -> Counter[str]:
    """The newest count of each item and partition's fold, added up; counts only rise, so the newest is the largest."""
    newest: dict[str, float] = {}
    for record in records_of(kafka, topics.TRENDS):
        assert isinstance(record, Trend)
        newest[record.series] = max(newest.get(record.series, 0), record.value)
    return Counter({item: int(value) for item, value in newest.items()})


@contextmanager
def running(kafka: KafkaSettings):
    shell = DirectShell(Counting(), kafka)
    shell._consumer.subscribe(
        [shell._topic], on_assign=shell._assigned, on_revoke=shell._dropped, on_lost=shell._dropped
    )
    try:
        yield shell
    finally:
        shell._consumer.close()


def step_until(shell: DirectShell, done: Callable[[], bool]) -> None:
    for _ in range(STEPS_MAX):
        shell.step()
        if done():
            return
    raise AssertionError("the shell did not get there")


def test_what_was_sent_is_counted_once_and_a_restart_goes_on(deployment: KafkaSettings) -> None:
    send(deployment, [CODEC.encode(usage([f"tag:{n % 4}-{n % 10}"])) for n in range(200)])
    total = lambda shell: sum(sum(task.state.values()) for task in shell.tasks.values())  # noqa: E731
    with running(deployment) as shell:
        step_until(shell, lambda: total(shell) == 200)
    send(deployment, [CODEC.encode(usage([f"tag:{n % 4}-{n % 10}"])) for n in range(200)])
    with running(deployment) as shell:
        step_until(shell, lambda: total(shell) == 400)
    expected = Counter(f"tag:{n % 4}-{n % 10}" for n in range(200))
    assert final_counts(deployment) == Counter({item: 2 * count for item, count in expected.items()})


def test_poison_goes_to_dead_letters_with_its_origin_and_the_next_ones_are_processed(deployment: KafkaSettings) -> None:
    good = CODEC.encode(usage(["tag:good"]))
    send(deployment, [good, b"\xc3\x01garbage!!", CODEC.encode(usage([], "poison")), good], partition=1)
    with running(deployment) as shell:
        step_until(shell, lambda: sum(sum(task.state.values()) for task in shell.tasks.values()) == 2)
    letters = records_of(deployment, topics.DEAD_LETTERS)
    assert all(isinstance(letter, DeadLetter) for letter in letters)
    assert {(letter.topic, letter.partition, letter.offset, letter.reason) for letter in letters} == {
        ("aicache.usage", 1, 1, "unknown-schema"),
        ("aicache.usage", 1, 2, "poison"),
    }


def test_opening_a_partition_fences_its_former_owner(deployment: KafkaSettings) -> None:
    raw = Raw("aicache.usage", 0, 0, 0, b"", CODEC.encode(usage(["tag:a"])))
    old = Task(Counting(), deployment, 0)
    new = Task(Counting(), deployment, 0)
    with pytest.raises(FencedError):
        old.process([raw])
    assert new.process([raw]) == 1
    assert TaskStore(deployment, "trends", 0, 1).load().entries == {b"tag:a": b"1"}


def test_an_input_that_comes_again_changes_nothing(deployment: KafkaSettings) -> None:
    task = Task(Counting(), deployment, 0)
    raws = [Raw("aicache.usage", 0, n, 0, b"", CODEC.encode(usage(["tag:a"]))) for n in range(5)]
    assert task.process(raws[:3]) == 3
    assert task.process(raws) == 2
    assert task.process(raws) == 0
    assert task.state == Counter({"tag:a": 5})


def test_missing_offsets_stop_the_process(deployment: KafkaSettings) -> None:
    task = Task(Counting(), deployment, 0)
    raws = [Raw("aicache.usage", 0, n, 0, b"", CODEC.encode(usage(["tag:a"]))) for n in (0, 2)]
    with pytest.raises(GapError, match="goes on at 2"):
        task.process(raws)


def test_an_input_that_mostly_fails_stops_the_process(deployment: KafkaSettings) -> None:
    task = Task(Counting(), deployment, 0)
    with pytest.raises(BreakerError, match="dead-letters list"):
        task.process([Raw("aicache.usage", 0, n, 0, b"", b"garbage") for n in range(300)])


def test_a_topic_that_was_made_anew_is_refused_instead_of_passed_over(deployment: KafkaSettings) -> None:
    """Its offsets start from 0, so without the check each of its records would look like one that was seen."""
    send(deployment, [CODEC.encode(usage(["a"]))], partition=0)
    value = CODEC.encode(usage(["a"]))
    Task(Counting(), deployment, 0).process([Raw("aicache.usage", 0, 7, 0, b"key", value)])  # of the topic before
    with pytest.raises(GapError, match="made anew"):
        Task(Counting(), deployment, 0)
