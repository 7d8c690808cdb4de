"""The embedded Kafka itself."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer

from aicache.local.kafka import EmbeddedKafka
from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings

ANSWER_TIMEOUT_S = 30.0


def write(kafka: KafkaSettings, topic: str, values: list[bytes]) -> None:
    producer = Producer(kafka.client_config(acks="all"))
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(ANSWER_TIMEOUT_S) == 0


def read(kafka: KafkaSettings, topic: str, count: int) -> list[bytes]:
    consumer = Consumer(
        kafka.client_config(group_id=f"{topic}-reader", group_protocol="consumer", auto_offset_reset="earliest")
    )
    try:
        consumer.subscribe([topic])
        messages = []
        while len(messages) < count:
            message = consumer.poll(ANSWER_TIMEOUT_S)
            assert message is not None
            assert message.error() is None, message.error()
            messages.append(message.value())
        return messages
    finally:
        consumer.close()


def test_a_record_goes_in_and_comes_out_with_the_new_group_protocol(
    kafka: KafkaSettings, create_topic: Callable[..., str]
) -> None:
    topic = create_topic("letters", partitions=2)
    write(kafka, topic, [b"a", b"b"])
    assert sorted(read(kafka, topic, 2)) == [b"a", b"b"]


def test_two_tests_share_a_broker_but_no_topic_prefix(kafka: KafkaSettings, embedded_kafka: EmbeddedKafka) -> None:
    assert kafka.prefix.endswith(".")
    assert kafka.prefix != embedded_kafka.settings().prefix
    assert kafka.bootstrap_servers == embedded_kafka.bootstrap_servers


def test_it_listens_on_this_machine_only(embedded_kafka: EmbeddedKafka) -> None:
    assert embedded_kafka.pid is not None
    sockets = psutil.Process(embedded_kafka.pid).net_connections("tcp")
    listening = {item.laddr.ip for item in sockets if item.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker that a test may kill."""
    with EmbeddedKafka(tmp_path_factory.mktemp("own")) as broker:
        yield broker


def test_a_killed_broker_goes_on_with_its_data(own: EmbeddedKafka) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient(own.settings().client_config())
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(ANSWER_TIMEOUT_S)
    write(own.settings(), "kept", [b"before"])
    address = own.bootstrap_servers
    own.kill()
    assert own.pid is None or not psutil.pid_exists(own.pid)
    own.restart()
    assert own.bootstrap_servers == address
    write(own.settings(), "kept", [b"after"])
    assert read(own.settings(), "kept", 2) == [b"before", b"after"]


def test_a_folder_that_is_in_use_is_refused(own: EmbeddedKafka) -> None:
    with pytest.raises(LocalError, match="already runs"):
        EmbeddedKafka(own.folder).start()


def test_a_port_that_is_taken_is_named(own: EmbeddedKafka, tmp_path: Path) -> None:
    port = int(own.bootstrap_servers.rpartition(":")[2])
    with pytest.raises(LocalError, match=f"port {port} is taken") as caught:
        EmbeddedKafka(tmp_path, port=port).start()
    assert caught.value.got == port


def test_a_broker_that_does_not_come_up_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = EmbeddedKafka(tmp_path, settings={"log.retention.hours": "soon"})
    with pytest.raises(LocalError, match="retention"):
        broken.start()
    assert broken.pid is None


PARENT = """
import sys, threading
from pathlib import Path
from aicache.local.kafka import EmbeddedKafka
broker = EmbeddedKafka(Path(sys.argv[1]))
starter = threading.Thread(target=broker.start)  # a thread that ends: the broker must not end with it
starter.start(); starter.join()
print(broker.pid, flush=True)
sys.stdin.read()
"""


def test_the_broker_outlives_the_thread_that_started_it_and_not_the_process_that_was_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    broker = psutil.Process(int(parent.stdout.readline()))
    guard = broker.parent()
    assert guard is not None
    assert broker.is_running()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    _, alive = psutil.wait_procs([broker, guard], timeout=ANSWER_TIMEOUT_S)
    assert alive == []


def test_a_stopped_broker_leaves_no_process_port_or_temporary_folder() -> None:
    broker = EmbeddedKafka().start()
    folder, pid = broker.folder, broker.pid
    assert pid is not None
    watcher = threading.Thread(target=broker.stop)
    watcher.start()
    watcher.join()
    assert not folder.exists()
    assert not psutil.pid_exists(pid)
