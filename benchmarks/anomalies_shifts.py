"""Injected changes over 1,000 synthetic series, whose kinds and sizes are drawn by a seed: what is found how soon, and false alarms.

Noise is Gaussian, heavy-tailed (Student's t with 3 degrees, scaled to σ = 1) or Poisson (rates 5 to 50), with or without a season of
period 24. A series has 400 points to learn, 1,000 without a change, and then one: the mean by 2 to 4 σ, a Poisson rate by 2 to 4,
variance by 4 to 9, a slope of 0.2 σ a point, or the season of amplitude 3 σ lost. A detector knows the period of a season, as a user
would, but nothing of the change. Found means: an alarm within the limit after the change. ADWIN and Page-Hinkley run on the same.
"""

import os
import time
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
from river.drift import ADWIN, PageHinkley

from aicache.streams.anomalies.detectors.shift import ShiftColumns

LEARN, QUIET, AFTER = 400, 1_000, 60
PERIOD, AMPLITUDE = 24, 3.0
LIMITS = {"mean": 20, "rate": 20, "variance": 60, "slope": 60, "season": 60}
PEERS_SERIES = 100
Floats = npt.NDArray[np.float64]


def series(random: np.random.Generator) -> tuple[Floats, str, str, bool]:
    """One series, its noise, its change, and whether it has a season."""
    noise = str(random.choice(["gaussian", "heavy", "poisson"]))
    kind = str(
        random.choice(["rate", "slope", "season"] if noise == "poisson" else ["mean", "variance", "slope", "season"])
    )
    seasonal = kind == "season" or bool(random.random() < 0.5)
    length, start = LEARN + QUIET + AFTER, LEARN + QUIET
    time_of = np.arange(length)
    wave = AMPLITUDE * np.sin(2 * np.pi * (time_of + random.integers(PERIOD)) / PERIOD) * seasonal
    if kind == "season":
        wave[start:] = 0
    drift = np.maximum(time_of - start + 1, 0) * 0.2 * random.choice([-1, 1]) if kind == "slope" else np.zeros(length)
    if noise == "poisson":
        rate = random.uniform(12 if seasonal else 5, 50)
        level = rate + np.sqrt(rate) * (wave + drift)
        level[start:] *= random.uniform(2, 4) if kind == "rate" else 1.0
        return random.poisson(np.maximum(level, 0)).astype(np.float64), noise, kind, seasonal
    draws = random.normal(size=length) if noise == "gaussian" else random.standard_t(3, length) / np.sqrt(3)
    if kind == "variance":
        draws[start:] *= np.sqrt(random.uniform(4, 9))
    step = np.where(time_of >= start, random.uniform(2, 4) * random.choice([-1, 1]), 0.0) if kind == "mean" else 0.0
    return draws + wave + drift + step, noise, kind, seasonal


def peer_alarms(make: Any, values: Floats) -> list[int]:
    detector, found = make(), []
    for place, value in enumerate(values.tolist()):
        detector.update(value)
        if detector.drift_detected:
            found.append(place)
    return found


class Tally:
    """Found by kind of change, and false alarms in the quiet stretch."""

    def __init__(self) -> None:
        self.found: dict[str, list[bool]] = defaultdict(list)
        self.false = self.points = 0

    def add(self, alarms: npt.NDArray[np.int64] | list[int], kind: str) -> None:
        start = LEARN + QUIET
        self.false += sum(LEARN <= alarm < start for alarm in alarms)
        self.points += QUIET
        self.found[kind].append(any(start <= alarm < start + LIMITS[kind] for alarm in alarms))

    def result(self) -> dict[str, Any]:
        shares = {kind: round(float(np.mean(found)), 3) for kind, found in sorted(self.found.items())}
        return {"found": shares, "false_alarms_in_1000_points": round(1_000 * self.false / self.points, 3)}


def measure(runs: int | None) -> dict[str, Any]:
    count = runs or 1_000
    seed = int.from_bytes(os.urandom(4), "big")
    random = np.random.default_rng(seed)
    made = [series(random) for _ in range(count)]
    table = np.stack([values for values, *_ in made], axis=1)
    detector = ShiftColumns(count, warm_up=LEARN, periods=[PERIOD if seasonal else 0 for *_, seasonal in made])
    start = time.process_time()
    scores = np.stack([detector.update(row) for row in table])
    seconds = time.process_time() - start
    own, by_noise = Tally(), defaultdict(Tally)
    peers = {"ADWIN": (ADWIN, Tally()), "PageHinkley": (PageHinkley, Tally())}
    for place, (values, noise, kind, _) in enumerate(made):
        alarms = np.flatnonzero(scores[:, place] > 0.5)
        own.add(alarms, kind)
        by_noise[noise].add(alarms, kind)
        if place < PEERS_SERIES:
            for make, tally in peers.values():
                tally.add(peer_alarms(make, values), kind)
    return {
        "benchmark": "anomalies shifts",
        "seed": seed,
        "series": count,
        **own.result(),
        "by_noise": {noise: tally.result() for noise, tally in sorted(by_noise.items())},
        "us_per_point": round(1e6 * seconds / table.size, 3),
        "peers_series": min(count, PEERS_SERIES),
        "peers": {name: tally.result() for name, (_, tally) in peers.items()},
    }
