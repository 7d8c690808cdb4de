"""What the reproducers share: a broker, a topic, workers as processes, and the offset that their group has committed.

Each reproducer is one file with a plain Faust app, run as `python docs/upstream/NAME.py`. Exit code 0: Faust still does it; 1: it does
not any more, and the rule that works around it can go.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import faust
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from aicache.local.kafka import EmbeddedKafka

TOPIC = "events"
GROUP = "reproducer"
EVENTS = 10
WAIT_S = 30.0


def make_app(servers: str, **settings: object) -> faust.App:
    """A plain app that commits often."""
    given = {"broker_commit_interval": 0.2, "topic_disable_leader": True, "store": "memory://", "web_enabled": False}
    return faust.App(GROUP, broker=f"kafka://{servers}", **{**given, **settings})


def work(app: faust.App) -> None:
    """Run a worker until a signal."""
    faust.Worker(app, loglevel="ERROR", quiet=True).execute_from_commandline()


def start(script: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """The script once more, as a worker."""
    return subprocess.Popen([sys.executable, script, *arguments], stdout=subprocess.PIPE)


def fill(kafka: EmbeddedKafka, partitions: int = 1) -> None:
    """Make the topic and write the events."""
    config = kafka.settings().client_config()
    admin = AdminClient(config)
    admin.create_topics([NewTopic(TOPIC, partitions, 1)])[TOPIC].result(WAIT_S)
    producer = Producer(config)
    for number in range(EVENTS):
        producer.produce(TOPIC, b"%d" % number, partition=number % partitions)
    producer.flush(WAIT_S)


def committed(kafka: EmbeddedKafka) -> int:
    """The offset that the group has committed, once it has committed one."""
    consumer = Consumer(kafka.settings().client_config(group_id=GROUP))
    until_s = time.monotonic() + WAIT_S
    offset = -1
    while offset < 0 and time.monotonic() < until_s:
        with suppress(KafkaException):  # the broker is still making its topics
            (place,) = consumer.committed([TopicPartition(TOPIC, 0)], WAIT_S)
            offset = place.offset
    consumer.close()
    return offset


def tell(found: bool, what: str) -> None:
    """The verdict, as text and as exit code."""
    print(f"{'still there' if found else 'mended'}: {what}")
    sys.exit(0 if found else 1)


def reproduce(check: Callable[[EmbeddedKafka], None]) -> None:
    """With a broker of its own."""
    with EmbeddedKafka() as kafka:
        check(kafka)
