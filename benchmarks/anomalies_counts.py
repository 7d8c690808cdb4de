"""Counts, durations and thousands of tests: what detectors of them find how soon, how often they are wrong, and what a point costs.

Rates are drawn from 5 to 50 a window, alone or with a season of 24 windows, a trend of up to 0.3% a window, and a spread beyond Poisson's
(Gamma of shape 5). After 600 quiet windows a rate grows by 2 to 4. Durations are log-normal, 30 a window, and become 2 times as long.
FDR: 5,000 series with a p-value each, 100 of them changed, one rule over all in the order in which they come. ADWIN and Page-Hinkley run
on the counts of some of the series.
"""

import os
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from river.drift import ADWIN, PageHinkley

from aicache.privacy.sketches import sketch_of
from aicache.streams.anomalies.detectors import changepoint, counts, fdr
from aicache.streams.anomalies.detectors.quantiles import QuantileShift

LEARN, QUIET, AFTER, PERIOD = 100, 600, 20, 24
SOON = 5
PEERS_SERIES = 50
Floats = npt.NDArray[np.float64]
KINDS: dict[str, dict[str, bool]] = {
    "plain": {},
    "season": {"season": True},
    "trend": {"trend": True},
    "spread": {"spread": True},
    "all": {"season": True, "trend": True, "spread": True},
}


def table(
    random: np.random.Generator, series: int, *, season: bool = False, trend: bool = False, spread: bool = False
) -> Floats:
    """Counts by window and series; the last `AFTER` windows have the grown rate."""
    length = QUIET + AFTER
    moment = np.arange(length)[:, None]
    rate = np.repeat(random.uniform(5, 50, series)[None, :], length, axis=0)
    if season:
        rate = rate * (1 + 0.7 * np.sin(2 * np.pi * (moment + random.integers(PERIOD, size=series)) / PERIOD))
    if trend:
        rate = rate * np.exp(random.uniform(-0.003, 0.003, series) * moment)
    if spread:
        rate = rate * random.gamma(5, 0.2, size=rate.shape)
    rate[QUIET:] *= random.uniform(2, 4, series)
    return random.poisson(rate).astype(float)


def forecast(random: np.random.Generator, series: int) -> dict[str, Any]:
    result = {}
    for name, kind in KINDS.items():
        values = table(random, series, **kind)
        columns = counts.CountColumns(series, warm_up=LEARN, period=PERIOD if kind.get("season") else 0)
        start = time.process_time()
        p_values = []
        for row in values:
            columns.update(row)
            p_values.append(columns.p_values)
        seconds = time.process_time() - start
        found = np.array(p_values)
        result[name] = {
            "p_below_0.001": round(float((found[LEARN:QUIET] < 1e-3).mean()), 6),
            "false_alarms_in_1000": round(1_000 * float((found[LEARN:QUIET] < counts.ALPHA).mean()), 3),
            "found_within_5": round(float((found[QUIET : QUIET + SOON] < counts.ALPHA).any(axis=0).mean()), 3),
            "us_per_point": round(1e6 * seconds / values.size, 2),
        }
    return result


def change_points(random: np.random.Generator, series: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in ("plain", "spread"):
        values = table(random, series, **KINDS[name])
        columns = changepoint.ChangePointColumns(series, warm_up=LEARN)
        start = time.process_time()
        above = np.array([columns.update(row) > changepoint.ALARM for row in values])
        seconds = time.process_time() - start
        begun = above[1:] & ~above[:-1]
        result[name] = {
            "found_within_20": round(float(above[QUIET:].any(axis=0).mean()), 3),
            "windows_until_found": float(np.median(above[QUIET:].argmax(axis=0)) + 1),
            "false_alarms_in_1000": round(1_000 * float(begun[LEARN : QUIET - 1].mean()), 3),
            "change_dated_within_2": round(float((np.abs(columns.run_lengths - AFTER) <= 2).mean()), 3),
            "us_per_point": round(1e6 * seconds / values.size, 2),
            "peers": {make.__name__: peer(make, values[:, :PEERS_SERIES]) for make in (ADWIN, PageHinkley)},
        }
    return result


def peer(make: Any, values: Floats) -> dict[str, float]:
    found, false = [], 0
    for series in values.T.tolist():
        detector, alarms = make(), []
        for place, value in enumerate(series):
            detector.update(value)
            if detector.drift_detected:
                alarms.append(place)
        false += sum(LEARN <= place < QUIET for place in alarms)
        found.append(any(place >= QUIET for place in alarms))
    rate = 1_000 * false / (values.shape[1] * (QUIET - LEARN))
    return {"found_within_20": round(float(np.mean(found)), 3), "false_alarms_in_1000": round(rate, 3)}


def durations(random: np.random.Generator, series: int) -> dict[str, Any]:
    found, inside, false, seconds = [], [], 0, 0.0
    for _ in range(series):
        shift = QuantileShift()
        windows = [sketch_of((factor * random.lognormal(0, 1, 30)).tolist()) for factor in (1.0,) * 100 + (2.0,) * 20]
        start = time.process_time()
        told = [shift.learn_one(window) for window in windows]
        seconds += time.process_time() - start
        false += sum(told[:100])
        found.append(any(told[100:]))
        if found[-1] and shift.effect is not None:
            inside.append(shift.effect.low <= 2 <= shift.effect.high)
    return {
        "found_within_20": round(float(np.mean(found)), 3),
        "interval_covers": round(float(np.mean(inside)), 3),
        "false_alarms_in_1000": round(10 * false / series, 3),
        "us_per_window": round(1e6 * seconds / (120 * series), 1),
    }


def discoveries(random: np.random.Generator, runs: int) -> dict[str, Any]:
    """The false share of discoveries among 5,000 series, and how much of what has changed is found."""
    made: dict[str, Any] = {
        "Lond": lambda: fdr.Lond(0.05),
        "Lond_dependent": lambda: fdr.Lond(0.05, dependent=True),
        "Lord": lambda: fdr.Lord(0.05),
        "Saffron": lambda: fdr.Saffron(0.05),
    }
    shares: dict[str, list[float]] = {name: [] for name in made}
    power: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(runs):
        changed = random.random(5_000) < 0.02
        values = np.where(changed, 10.0 ** -random.uniform(2, 10, 5_000), random.random(5_000)).tolist()
        for name, make in made.items():
            rule = make()
            told = np.array([rule.learn_one(value) for value in values])
            shares[name].append((told & ~changed).sum() / max(1, told.sum()))
            power[name].append((told & changed).sum() / changed.sum())
    return {
        name: {
            "false_discovery_rate": round(float(np.mean(shares[name])), 4),
            "found": round(float(np.mean(power[name])), 3),
        }
        for name in made
    }


def measure(runs: int | None) -> dict[str, Any]:
    series = runs or 300
    seed = int.from_bytes(os.urandom(4), "big")
    random = np.random.default_rng(seed)
    return {
        "benchmark": "anomalies counts",
        "seed": seed,
        "series": series,
        "forecast": forecast(random, series),
        "change_points": change_points(random, series),
        "durations": durations(random, min(series, 100)),
        "fdr": discoveries(random, 20),
    }
