"""Usage events a second through the direct shell, beside a bare consumer, Quix Streams and Faust; and how fast the reducer reads.

`python benchmarks/throughput.py` prints a table, with `--json` one line. The logic counts 10,000 items of Zipf exponent 1.1;
state and outputs are written in transactions. `bare` only consumes and decodes the same records with the same decoder. Only
reading is timed: from the first batch to the last commit. What is compared runs in turn, several times, and the median counts.
Quix Streams needs an older confluent-kafka, so it gets an environment of its own, built where it is not there (peers.py).
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import throughput_reducer
import throughput_start
from aicache.local.kafka import EmbeddedKafka
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.catalog import newest
from aicache.schemas.codec import Codec
from aicache.schemas.records import UsageBatch, UsageEvent
from aicache.streams.runtime.direct import DirectShell
from peers import python_of
from support.counting import DEPLOYMENT, Counting

KEYS = 10_000
EXPONENT = 1.1
EVENTS_A_RECORD = 20
QUIX = "quixstreams==3.28.1"
PARTS = ("start", "many", "single", "reducer")
PEER_TIMEOUT_S = 300
CODEC = Codec()
HERE = Path(__file__).parent
Figures = dict[str, float]


def fill(kafka: KafkaSettings, records: int, events: int) -> None:
    """Usage records of so many events; the key is the first event's item, as those need it who keep state by key."""
    names = [f"item:{number}" for number in range(KEYS)]
    create_topics(kafka.client_config(), kafka.prefix, topics=[topics.USAGE, topics.TRENDS, topics.DEAD_LETTERS])
    weights = np.arange(1, KEYS + 1) ** -EXPONENT
    chosen = np.random.default_rng(1).choice(KEYS, size=(records, events), p=weights / weights.sum())
    producer = Producer(kafka.client_config(linger_ms=20, compression_type="lz4", enable_idempotence=True))
    for number, row in enumerate(chosen.tolist()):
        told = [UsageEvent("used", 1_700_000_000, [names[i]], [], "", 1, b"", -1, 0.0) for i in row]
        name = number.to_bytes(16, "big")
        batch = UsageBatch(DEPLOYMENT, name, 1, 0, "python", "", "linux", "build", "pytest@9", told)
        place = {"key": names[row[0]].encode(), "partition": number % topics.USAGE.partitions}
        while True:
            try:
                producer.produce(kafka.name(topics.USAGE.name), CODEC.encode(batch), **place)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


def timed(step: Callable[[], int], records: int) -> float:
    """Seconds from the first record to the last."""
    began, seen = 0.0, 0
    while seen < records:
        before = time.perf_counter()
        new = step()
        began = began or (before if new else 0.0)
        seen += new
    return time.perf_counter() - began


def bare(kafka: KafkaSettings, records: int) -> float:
    config = kafka.client_config(
        group_id=kafka.name("bare"), enable_auto_commit=False, fetch_wait_max_ms=10, fetch_queue_backoff_ms=10
    )
    consumer = Consumer(config)
    consumer.assign([TopicPartition(kafka.name(topics.USAGE.name), p, 0) for p in range(topics.USAGE.partitions)])

    def step() -> int:
        found = consumer.consume(1_000, 0.01)
        for message in found:
            CODEC.decode(message.value(), UsageBatch)
        return len(found)

    gc.disable()  # as the shell has it
    try:
        return timed(step, records)
    finally:
        gc.enable()
        consumer.close()


def direct(kafka: KafkaSettings, records: int, run: int) -> float:
    began, ended, seen = 0.0, 0.0, 0

    def told(_partition: int, inputs: int, seconds: float) -> None:
        nonlocal began, ended, seen
        ended = time.perf_counter()
        began = began or ended - seconds
        seen += inputs

    fold = Counting()
    fold.name = f"counting-{run}"  # a group, a state and transactions of its own: each run begins at the first record
    state = topics.state_topic(fold.name, topics.USAGE.partitions)
    create_topics(kafka.client_config(), kafka.prefix, topics=[state])
    DirectShell(fold, kafka, on_batch=told).run(lambda: seen >= records)
    return ended - began  # the last commit is part of it, leaving the group is not


def peer(python: Path | str, script: str, *arguments: str) -> float:
    """What a peer's script prints."""
    command = [str(python), "-W", "ignore", str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PEER_TIMEOUT_S, check=False)
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"{script} failed: {done.stderr[-2000:]}")
    line = done.stdout.splitlines()[-1]
    return float(json.loads(line[line.index("{") :])["events_per_s"])  # Faust writes to the terminal before it


def many(kafka: KafkaSettings, records: int, rounds: int) -> Figures:
    """Twenty events a record."""
    fill(kafka, records, EVENTS_A_RECORD)
    runs = [(bare(kafka, records), direct(kafka, records, run)) for run in range(rounds)]
    bare_s, direct_s = zip(*runs, strict=True)
    events = records * EVENTS_A_RECORD
    return {"events_per_s": events / float(np.median(direct_s)), "bare_events_per_s": events / float(np.median(bare_s))}


def single(kafka: KafkaSettings, records: int, rounds: int, peers: bool) -> Figures:
    """One event a record, as the peers have it."""
    fill(kafka, records, 1)
    topic, schema = kafka.name(topics.USAGE.name), newest("UsageBatch")
    avsc = HERE.parent / "schemas" / "aicache" / "schemas" / "avsc" / "UsageBatch" / f"{schema.version}.avsc"
    found: dict[str, list[float]] = {}
    for run in range(rounds):
        found.setdefault("single_bare_events_per_s", []).append(records / bare(kafka, records))
        found.setdefault("single_events_per_s", []).append(records / direct(kafka, records, run))
        if peers:
            where = (kafka.bootstrap_servers, topic)
            quix = peer(python_of(QUIX), "throughput_quix.py", *where, kafka.name("quix"), str(records), str(avsc))
            found.setdefault("quix_events_per_s", []).append(quix)
            faust = peer(sys.executable, "throughput_faust.py", *where, str(records))
            found.setdefault("faust_record_events_per_s", []).append(faust)
    return {key: float(np.median(values)) for key, values in found.items()}


def ratios(figures: Figures) -> Figures:
    """What the bars are about, where both sides were measured."""
    pairs = {
        "share_of_bare": ("events_per_s", "bare_events_per_s"),
        "times_quix": ("events_per_s", "quix_events_per_s"),
        "times_faust": ("events_per_s", "faust_record_events_per_s"),
        "single_times_quix": ("single_events_per_s", "quix_events_per_s"),
        "reducer_share_of_bare": ("reducer_mb_per_s", "bare_mb_per_s"),
    }
    return {key: figures[a] / figures[b] for key, (a, b) in pairs.items() if a in figures and b in figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=40_000, help="of 20 events; as many single ones again")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--clients", type=int, default=200, help="of the reducer's round, 0.6 MB each")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="leave the other parts out")
    parser.add_argument("--no-peers", action="store_true", help="leave Quix and Faust out")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    figures: Figures = {}
    with EmbeddedKafka() as broker:
        settings = lambda prefix: broker.settings(prefix=prefix, deployment=DEPLOYMENT)  # noqa: E731
        parts = {
            "start": lambda: throughput_start.measure(settings("start.")),
            "many": lambda: many(settings("many."), chosen.records, chosen.rounds),
            "single": lambda: single(settings("single."), chosen.records, chosen.rounds, not chosen.no_peers),
            "reducer": lambda: throughput_reducer.measure(settings("reducer."), chosen.clients, chosen.rounds),
        }
        for name in chosen.only:
            figures |= parts[name]()
    figures |= ratios(figures)
    if chosen.json:
        print(json.dumps({"benchmark": "throughput", "records": chosen.records, **figures}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", title=f"{chosen.records:,} records of 20 events, then of one")
    for key, value in figures.items():
        table.add_row(key, f"{value:,.2f}" if value < 100 else f"{value:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
