"""How long a worker takes from its start to its first committed batch, with everything warm in the file cache."""

import os
import subprocess
import sys
import time

from confluent_kafka import Consumer, Producer

from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from support.counting import usage

WORKERS = ("recommendations", "anomalies")
LIMIT_S = 60.0


def measure(settings: KafkaSettings) -> dict[str, float]:
    """Seconds of each kind of worker: the second of two starts, since the first one fills the cache."""
    create_topics(settings.client_config(), settings.prefix, replication=1)
    return {f"start_{name}_s": min(_start(settings, name) for _ in range(2)) for name in WORKERS}


def _start(settings: KafkaSettings, name: str) -> float:
    consumer = Consumer(settings.reader_config("start"))
    state = settings.name(topics.STATE_PREFIX + name)
    before = watermarks(consumer, state, 0)[1]
    producer = Producer(settings.client_config())
    producer.produce(settings.name(topics.USAGE.name), Codec().encode(usage(["pypi:numpy", "pypi:scipy"])), partition=0)
    assert producer.flush(30) == 0
    command = [sys.executable, "-m", "aicache.cli.main", "worker", "run", name]
    environment = os.environ | {
        "AICACHE_KAFKA__BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "AICACHE_KAFKA__DEPLOYMENT": settings.deployment,
        "AICACHE_KAFKA__PREFIX": settings.prefix,
    }
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            while watermarks(consumer, state, 0)[1] == before:
                assert process.poll() is None and time.perf_counter() - began < LIMIT_S, f"{name} did not start"
                time.sleep(0.01)
            return time.perf_counter() - began
        finally:
            process.terminate()
            consumer.close()
