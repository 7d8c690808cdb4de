"""Plays seeds: each a run of the data plane and, for some, whole rounds; a seed that fails prints the line that replays it."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from aicache.schemas.records import Aggregate
from aicache.streams.anomalies.logic import Anomalies
from aicache.streams.runtime.contract import Message
from simulation.planted import PLANTED_IN_ROUNDS, PLANTED_IN_WORKERS
from simulation.rounds import Rounds
from simulation.workers import Partition, check
from support.counting import Counting, usage

MESSAGES = 60
ROUNDS_EVERY = 5
"""Every fifth seed also plays rounds: real keys and ciphertexts take most of the time."""
PLANTED_SEEDS = 60
"""A planted bug has to be found within so many seeds."""


@dataclass
class Result:
    """What some seeds came to."""

    seeds: int = 0
    rounds_opened: int = 0
    faults: Counter = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)


def messages(random: np.random.Generator) -> list[Message]:
    """Usage of a partition: a few items by a few people."""
    found = []
    for offset in range(MESSAGES):
        record = usage([f"tag:{n}" for n in random.integers(0, 6, size=2)], pseudonym=int(random.integers(4)))
        record.events.append(_failure(int(random.integers(0, 1_800))))
        found.append(Message("aicache.usage", 0, offset, 1_700_001_800_000, b"", record))
    return found


def _failure(second: int):
    from aicache.schemas.records import UsageEvent

    return UsageEvent("failure", 1_700_000_000 + second // 60 * 60, ["op:build"], [], "pypi:tool@1.0", 1, b"", -1, 0.0)


def play_workers(seed: int) -> Partition:
    """One partition of the data plane, disturbed."""
    random = np.random.default_rng([seed, 1])
    partition = Partition((Counting(), Anomalies())[seed % 2], messages(random), random)
    partition.run()
    check(partition)
    return partition


def play_rounds(seed: int) -> Rounds:
    """Two rounds, disturbed."""
    rounds = Rounds(seed)
    rounds.play()
    rounds.check()
    return rounds


def play(first: int, count: int) -> Result:
    """Play seeds first … first + count − 1."""
    result = Result()
    for seed in range(first, first + count):
        result.seeds += 1
        try:
            result.faults.update(play_workers(seed).faults)
            if seed % ROUNDS_EVERY == 0:
                rounds = play_rounds(seed)
                result.faults.update(rounds.faults)
                result.rounds_opened += len(rounds.world.log.records("aicache.insights.aggregates", Aggregate))
        except Exception as error:
            result.failed.append((seed, f"{type(error).__name__}: {error}"))
    return result


def find_planted() -> dict[str, int | None]:
    """For each planted bug the first seed that finds it."""
    found: dict[str, int | None] = {}
    for planted, run, step in ((PLANTED_IN_WORKERS, play_workers, 1), (PLANTED_IN_ROUNDS, play_rounds, 1)):
        for name, bug in planted.items():
            found[name] = None
            with bug():
                for seed in range(0, PLANTED_SEEDS, step):
                    try:
                        run(seed)
                    except AssertionError:
                        found[name] = seed
                        break
    return found
