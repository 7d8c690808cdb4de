"""Half an hour under load with a kill every half minute: is every event counted once, and does memory stay flat?

`python benchmarks/soak.py` shows how it goes and prints a table, with `--json` one line. Two workers of the counting fold share the
partitions of an embedded Kafka; in turn each is killed with kill -9 and started again, as a supervisor does, while a source goes on.
Memory is what a worker holds just before it is killed. A single life that was catching up holds more, up to the bound on what is
fetched ahead; flat is the run whose last third of lives ends, in the middle, with as much as its first third after the warm-up.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aicache.local.kafka import EmbeddedKafka
from aicache.schemas import topics
from support.workers import Crowd, Worker, create_counting_topics

RATE_PER_S = 2_000
KILL_EVERY_S = 30.0
KEYS = 10_000
EXPONENT = 1.1
WARM_LIVES = 4
"""Lives of workers that are no measure yet: the first ones see counts that are still being filled."""
FLAT = 0.10
DRAWN = 1 << 16


class Soaked(Crowd):
    """A crowd whose source keeps a rate."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        weights = np.arange(1, KEYS + 1) ** -EXPONENT
        self._drawn = np.random.default_rng(3).choice(KEYS, size=DRAWN, p=weights / weights.sum()).tolist()
        self._count = 0

    def send(self, due: int) -> None:
        """Send until so many events are sent."""
        for number in range(self._count, due):
            partition = number % topics.USAGE.partitions
            self.use_one(partition, f"p{partition}-{self._drawn[number % DRAWN]}")
        self._count = max(due, self._count)
        self._producer.poll(0)


def resident_mb(worker: Worker) -> float:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1e3


def soak(crowd: Soaked, seconds: float, tell: Progress) -> dict[str, float | int | bool]:
    workers = {name: crowd.start(instance=name).ready() for name in ("one", "two")}
    memory: list[float] = []
    bar = tell.add_task("events", total=int(seconds * RATE_PER_S))
    began = time.monotonic()
    next_kill = began + KILL_EVERY_S
    while (now := time.monotonic()) - began < seconds:
        crowd.send(int((now - began) * RATE_PER_S))
        crowd.read(0.02)
        crowd.revive()
        tell.update(bar, completed=crowd.counts.total())
        if now >= next_kill:
            name = ("one", "two")[len(memory) % 2]
            memory.append(resident_mb(workers[name]))
            workers[name].send(signal.SIGKILL)
            workers[name].close()
            workers[name] = crowd.start(instance=name)
            next_kill += KILL_EVERY_S
    crowd.exact()
    settled = memory[WARM_LIVES:] or memory
    third = max(1, len(settled) // 3)
    growth = statistics.median(settled[-third:]) / statistics.median(settled[:third]) - 1
    return {
        "seconds": seconds,
        "events": crowd.sent.total(),
        "rate_per_s": crowd.sent.total() / seconds,
        "kills": len(memory),
        "revived": crowd.revived,
        "exact": crowd.counts == crowd.sent,
        "memory_median_mb": statistics.median(settled),
        "memory_max_mb": max(settled),
        "memory_growth": growth,
        "memory_flat": abs(growth) <= FLAT,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1_800.0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    screen = Console(stderr=True)
    with EmbeddedKafka() as broker, tempfile.TemporaryDirectory() as folder, Progress(console=screen) as tell:
        kafka = broker.settings()
        create_counting_topics(kafka)
        crowd = Soaked("direct", kafka, Path(folder))
        try:
            figures = soak(crowd, chosen.seconds, tell)
        finally:
            crowd.close()
    if chosen.json:
        print(json.dumps({"benchmark": "soak", **figures}))
    else:
        table = Table("figure", "value", title="Under load, with kills")
        for key, value in figures.items():
            table.add_row(key, str(value) if isinstance(value, bool) else f"{value:,.2f}")
        Console().print(table)
    sys.exit(0 if figures["exact"] and figures["memory_flat"] else 1)


if __name__ == "__main__":
    main()
