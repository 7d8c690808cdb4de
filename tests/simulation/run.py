"""Plays seeds: each a run of the data plane and, for some, whole rounds; a seed that fails prints the line that replays it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aicache.schemas.codec import Codec
from aicache.schemas.records import Aggregate, UsageEvent
from aicache.streams.anomalies.logic import Anomalies
from simulation.oracles import check
from simulation.planted import PLANTED_IN_ROUNDS, PLANTED_IN_WORKERS
from simulation.rounds import Rounds
from simulation.workers import Input, Plane
from support.counting import Counting, usage

PARTITIONS = 2
MESSAGES = 30
ROUNDS_EVERY = 9
"""Every ninth seed also plays rounds: real keys and ciphertexts take most of the time."""
PLANTED_SEEDS = 60
"""A planted bug has to be found within so many seeds."""
ROUNDS_FAULTS = "rounds: "
CODEC = Codec()
AGGREGATES = "aicache.insights.aggregates"


@dataclass
class Result:
    """What some seeds came to.

    Attributes:
        failed: seed, why, and the trace of what had gone wrong before.
    """

    seeds: int = 0
    rounds_opened: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str, list[str]]] = field(default_factory=list)


def inputs(random: np.random.Generator) -> list[list[Input]]:
    """Usage by partition: a few items by a few people; the items name their partition, so that counts have one source."""
    return [[(b"", CODEC.encode(_use(random, partition))) for _ in range(MESSAGES)] for partition in range(PARTITIONS)]


def _use(random: np.random.Generator, partition: int) -> Any:
    items = [f"tag:{partition}-{n}" for n in random.integers(0, 6, size=2)]
    record = usage(items, pseudonym=int(random.integers(4)))
    second = 1_700_000_000 + int(random.integers(0, 1_800)) // 60 * 60
    record.events.append(UsageEvent("failure", second, [f"op:build-{partition}"], [], "pypi:tool@1.0", 1, b"", -1, 0.0))
    return record


def plane_of(seed: int) -> Plane:
    """The data plane of a seed, not yet disturbed."""
    random = np.random.default_rng([seed, 1])
    return Plane((Counting(), Anomalies())[seed % 2], inputs(random), random)


def play_workers(seed: int) -> Plane:
    """Two partitions of the data plane, disturbed."""
    plane = plane_of(seed)
    plane.run()
    check(plane)
    return plane


def play_rounds(seed: int) -> Rounds:
    """Two rounds, disturbed."""
    rounds = Rounds(seed)
    try:
        rounds.play()
        rounds.check()
    finally:
        rounds.close()
    return rounds


def play(first: int, count: int) -> Result:
    """Play seeds first … first + count − 1."""
    result = Result()
    for seed in range(first, first + count):
        result.seeds += 1
        for one in _runs(seed):
            try:
                one.play_and_check()
            except Exception as error:
                result.failed.append((seed, f"{type(error).__name__}: {error}", one.trace()))
                continue
            result.faults.update(one.faults())
            result.rounds_opened += one.opened()
    return result


def _runs(seed: int) -> Iterator["Run"]:
    yield Run(plane_of(seed))
    if seed % ROUNDS_EVERY == 0:
        yield Run(Rounds(seed))


@dataclass
class Run:
    """One run of a seed."""

    world: Plane | Rounds

    def play_and_check(self) -> None:
        """Disturb it, then ask the oracles."""
        if isinstance(self.world, Plane):
            self.world.run()
            check(self.world)
            return
        try:
            self.world.play()
            self.world.check()
        finally:
            self.world.close()

    def trace(self) -> list[str]:
        """What went wrong, in its order."""
        return self.world.trace

    def faults(self) -> Counter[str]:
        """How often what went wrong."""
        if isinstance(self.world, Plane):
            return self.world.faults
        return Counter({ROUNDS_FAULTS + fault: times for fault, times in Counter(self.world.faults).items()})

    def opened(self) -> int:
        """Rounds that were opened."""
        return 0 if isinstance(self.world, Plane) else len(self.world.world.log.records(AGGREGATES, Aggregate))


def find_planted() -> dict[str, int | None]:
    """For each planted bug the first seed that finds it."""
    found: dict[str, int | None] = {}
    for planted, run in ((PLANTED_IN_WORKERS, play_workers), (PLANTED_IN_ROUNDS, play_rounds)):
        for name, bug in planted.items():
            found[name] = None
            with bug():
                for seed in range(PLANTED_SEEDS):
                    try:
                        run(seed)
                    except AssertionError:
                        found[name] = seed
                        break
    return found
