"""Faults of what workers read and of what they need besides the broker, for both shells."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import DeadLetter
from aicache.schemas.registry import ConfluentFraming, Registry, register_all
from support.counting import usage
from support.workers import CODEC, SHELLS, TESTS, Crowd, create_counting_topics

POISON = 300
PARTITION = 1


@pytest.fixture(params=SHELLS)
def crowd(request: pytest.FixtureRequest, kafka: KafkaSettings, tmp_path: Path) -> Iterator[Crowd]:
    create_counting_topics(kafka)
    found = Crowd(request.param, kafka, tmp_path)
    yield found
    found.close()


def send(kafka: KafkaSettings, values: list[bytes], partition: int = PARTITION) -> None:
    producer = Producer(kafka.client_config(enable_idempotence=True))
    for value in values:
        producer.produce(kafka.name(topics.USAGE.name), value, b"key", partition=partition)
    assert producer.flush(30) == 0


def letters(crowd: Crowd) -> list[DeadLetter]:
    return [record for record in crowd.records(topics.DEAD_LETTERS) if isinstance(record, DeadLetter)]


@pytest.mark.faults
def test_a_record_above_the_size_limit_is_set_aside(crowd: Crowd) -> None:
    """a record above the size limit: refused before it is decoded, set aside with its size; the next ones are processed."""
    large = CODEC.encode(usage(["a"])) + bytes(topics.USAGE.record_bytes_max)
    send(crowd.kafka, [large])
    crowd.use(40)
    crowd.start().ready()
    crowd.exact()
    assert [(letter.offset, letter.reason, letter.size_bytes) for letter in letters(crowd)] == [
        (0, "too-large", len(large))
    ]


@pytest.mark.faults
def test_poison_in_a_row_stops_the_worker_instead_of_draining_the_topic(crowd: Crowd) -> None:
    """poison records in a row, as after a bad deploy: the breaker ends the worker, again at every start, and the records stay."""
    crowd.use(40)
    send(crowd.kafka, [b"garbage"] * POISON)
    send(crowd.kafka, [CODEC.encode(usage(["after"]))])
    for _ in range(3):
        worker = crowd.start()
        assert worker.ended() != 0
        assert "of the last 200 inputs of trends failed" in worker.log.read_text()
        assert len(letters(crowd)) <= POISON / 2
    crowd.read(0.5)
    assert "after" not in crowd.counts
    crowd.start(let_fail=POISON).ready()  # an operator has looked at them
    crowd.sent["after"] += 1
    crowd.exact()
    assert len(letters(crowd)) == POISON


def make_anew(crowd: Crowd) -> None:
    """Delete the topic and create it again, as somebody does who wants to be rid of its records."""
    admin = AdminClient(crowd.kafka.client_config())
    name = crowd.kafka.name(topics.USAGE.name)
    admin.delete_topics([name], operation_timeout=30)[name].result(30)
    until_s = time.monotonic() + 30
    while name in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < until_s, "the topic is not deleted"
    create_topics(crowd.kafka.client_config(), crowd.kafka.prefix, topics=[topics.USAGE])


@pytest.mark.faults
@pytest.mark.parametrize("records", [10, 300], ids=["fewer", "more"])
def test_a_topic_deleted_and_made_anew_is_refused(crowd: Crowd, records: int) -> None:
    """topic deleted and made anew, with fewer records than were read or with more: the next start refuses and says so."""
    worker = crowd.start().ready()
    crowd.use(100)
    crowd.exact()
    worker.send(signal.SIGTERM)
    worker.ended()
    make_anew(crowd)
    send(crowd.kafka, [CODEC.encode(usage(["new"]))] * records, 0)
    worker = crowd.start()
    assert worker.ended() != 0
    assert "made anew" in worker.log.read_text()
    crowd.read(0.5)
    assert "new" not in crowd.counts


@pytest.mark.faults
def test_a_topic_that_is_made_anew_under_a_running_worker_is_refused(crowd: Crowd) -> None:
    """topic deleted and made anew under a running worker: it ends, or its successor refuses; none of the new records passes for seen."""
    worker = crowd.start().ready()
    crowd.use(100)
    crowd.exact()
    make_anew(crowd)
    send(crowd.kafka, [CODEC.encode(usage(["new"]))] * 10, 0)
    assert worker.ended() != 0, crowd.said()
    if "made anew" not in worker.log.read_text():
        worker = crowd.start()
        assert worker.ended() != 0
        assert "made anew" in worker.log.read_text()
    crowd.read(0.5)
    assert "new" not in crowd.counts


@pytest.mark.faults
def test_a_clock_that_steps_back_changes_no_count(crowd: Crowd) -> None:
    """clock stepped back by an hour under a running worker, and records dated before the ones before: each input counts once."""
    worker = crowd.start(clock=True).ready()
    crowd.use(100)
    crowd.exact()
    worker.send(signal.SIGHUP)
    crowd.use(100)
    crowd.exact()
    old = Producer(crowd.kafka.client_config(enable_idempotence=True))
    for partition in range(topics.USAGE.partitions):
        item = f"p{partition}-0"
        now_ms = time.time_ns() // 1_000_000 - 7_200_000
        value = CODEC.encode(usage([item]))
        old.produce(crowd.kafka.name(topics.USAGE.name), value, b"key", partition=partition, timestamp=now_ms)
        crowd.sent[item] += 1
    assert old.flush(30) == 0
    crowd.exact()
    assert "the clock stepped back" in worker.log.read_text()
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0, crowd.said()


@pytest.mark.faults
def test_a_worker_that_hangs_in_its_work_ends_itself_and_the_next_goes_on(crowd: Crowd) -> None:
    """a worker that hangs with records waiting: its watchdog ends it (exit 70), the next one goes on where the state stands."""
    worker = crowd.start(stuck_ms=2_000, hang="hang").ready()
    crowd.use(40)
    crowd.exact()
    send(crowd.kafka, [CODEC.encode(usage(["hang"]))])
    crowd.sent["hang"] += 1
    assert worker.ended() == 70, crowd.said()
    assert "stands still" in worker.log.read_text()
    crowd.start().ready()
    crowd.exact()


@pytest.mark.faults
@pytest.mark.parametrize("web", [False, True], ids=["as shipped", "rule taken out"])
def test_a_worker_listens_nowhere(crowd: Crowd, web: bool) -> None:
    """Faust's web pages, which a setting alone does not keep off: a worker without metrics listens on no port."""
    if web and crowd.shell == "direct":
        pytest.skip("has no web pages")
    worker = crowd.start(**({"web_port": 16_066} if web else {})).ready()
    connections = psutil.Process(worker.process.pid).net_connections()
    assert [c.laddr for c in connections if c.status == psutil.CONN_LISTEN] == [] or web
    assert any(c.status == psutil.CONN_LISTEN for c in connections) == web, "the check would not notice"


class RegistryProcess:
    """A registry that can be killed and started again on the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "support.run_registry", str(self.port)]
        self.process = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[2])
        registry = Registry(f"http://127.0.0.1:{self.port}")
        register_all(registry)
        registry.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def registry() -> Iterator[RegistryProcess]:
    found = RegistryProcess()
    yield found
    found.kill()


@pytest.mark.faults
def test_who_knows_the_schemas_needs_no_registry(crowd: Crowd, registry: RegistryProcess) -> None:
    """registry away: who knows the schemas goes on; who starts ends with an error, sets nothing aside, and works once it is back."""
    asking = Registry(registry.url)
    crowd.codec = Codec(ConfluentFraming(asking))
    worker = crowd.start(registry=registry.url).ready()
    crowd.use(40)
    crowd.exact()
    registry.kill()
    crowd.use(40)
    crowd.exact()
    worker.send(signal.SIGKILL)
    crowd.use(40)
    without = crowd.start(registry=registry.url)
    assert without.ended() != 0
    assert "schema registry" in without.log.read_text()
    assert not letters(crowd)
    registry.start()
    crowd.start(registry=registry.url).ready()
    crowd.exact()
    asking.close()
