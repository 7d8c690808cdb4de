"""Series by themselves: failures that name no release, watched for a rise of their rate; durations, for a shift of their slow end.

Durations of all releases go through `QuantileShift`, and only what has surely grown by `SLOWER_MIN` is told: the size of an effect counts,
not how sure it is. The median release has to be slower too: one slow release is told by `comparing`, and is no shift of all. Pure.
"""

import math
from collections.abc import Callable
from typing import TypeVar

from aicache.schemas.records import Incident
from aicache.streams.anomalies import announcing, sketches, written
from aicache.streams.anomalies.announcing import DRIFT, GROWTH, RATE, name_of
from aicache.streams.anomalies.comparing import RATIO_MIN, enough
from aicache.streams.anomalies.detectors.quantiles import Effect
from aicache.streams.anomalies.evidence import SLOWER_MIN, Drift, Rate, State
from aicache.streams.runtime.contract import Step

W = TypeVar("W", Rate, Drift)
RATES_MAX = 20_000
DRIFTS_MAX = 1_000
DURATIONS_MIN = 20
"""Durations of a release in a window without which its quantile says little."""


def watch_rate(state: State, series: str, failures: int, people: dict[int, int], start_s: int, step: Step) -> None:
    """Learn how often a series without a release happened in a window, and tell if that has risen."""
    rate = _of(state.rates, series, Rate, RATES_MAX, written.rate_key, step)
    rate.seen_s = start_s
    risen = rate.detector.learn_one(failures)
    known = state.open.get(name_of(series, RATE, ""))
    if risen:
        rate.before = rate.before if known else rate.detector.before
    if risen or (known and failures > rate.before * RATIO_MIN):
        rate.worse_s = start_s
    if enough(rate.people, people) and risen and (known is None or rate.detector.after > known.seen * GROWTH):
        announcing.publish(state, _risen(state, series, rate, start_s, known), step)
    step.changed[written.rate_key(series)] = written.rate_value(rate)


def watch_durations(state: State, series: str, by_release: list[sketches.Sketch], start_s: int, step: Step) -> None:
    """Learn the durations of a series in a window, a sketch each release, and tell if all have become longer."""
    sketch = sketches.merge(by_release)
    drift = _of(state.drifts, series, Drift, DRIFTS_MAX, written.drift_key, step)
    drift.seen_s = start_s
    known = state.open.get(name_of(series, DRIFT, ""))
    is_shift = drift.detector.learn_one(sketch)
    many = [one for one in by_release if sum(one.values()) >= DURATIONS_MIN] or [sketch]
    usual_s = sorted(sketches.quantile(one, drift.detector.q) for one in many)[(len(many) - 1) // 2]
    effect = drift.detector.effect
    if is_shift and effect is not None and usual_s > effect.before_s * SLOWER_MIN:
        drift.before = drift.before if known else effect.before_s
        drift.worse_s = start_s
        if known is None or effect.after_s > known.seen * GROWTH:
            announcing.publish(state, _slower(state, series, drift, effect, known), step)
    elif known is not None and usual_s > drift.before * SLOWER_MIN:
        drift.worse_s = start_s
    step.changed[written.drift_key(series)] = written.drift_value(drift)


def _of(
    known: dict[str, W], series: str, make: Callable[[], W], known_max: int, key_of: Callable[[str], bytes], step: Step
) -> W:
    """What is known of a series; a new one takes the place of the one silent for longest where there is no room."""
    if series not in known:
        if len(known) >= known_max:
            oldest = min(known, key=lambda name: (known[name].seen_s, name))
            del known[oldest]
            step.changed[key_of(oldest)] = None
        known[series] = make()
    return known[series]


def _risen(state: State, series: str, rate: Rate, start_s: int, known: Incident | None) -> Incident:
    seen = rate.detector.after
    return Incident(
        deployment=state.deployment,
        incident=name_of(series, RATE, ""),
        status="opened" if known is None else "growing",
        kind=RATE,
        subject=series,
        release="",
        versions=[],
        since_s=start_s if known is None else known.since_s,
        updated_s=start_s,
        seen=seen,
        expected=rate.before,
        unit="failures a window",
        severity=announcing.severity(seen, rate.before, 0.1),
        confidence=1.0 - math.exp(-rate.detector.slack * rate.detector.threshold),
        explanation=f"{series} happens {seen:.1f} times a window, {rate.before:.1f} times before",
        n=sum(rate.detector.values),
        guarantee=None,
    )


def _slower(state: State, series: str, drift: Drift, effect: Effect, known: Incident | None) -> Incident:
    return Incident(
        deployment=state.deployment,
        incident=name_of(series, DRIFT, ""),
        status="opened" if known is None else "growing",
        kind=DRIFT,
        subject=series,
        release="",
        versions=[],
        since_s=drift.seen_s if known is None else known.since_s,
        updated_s=drift.seen_s,
        seen=effect.after_s,
        expected=drift.before,
        unit="seconds, 90th percentile",
        severity=announcing.severity(effect.after_s, drift.before, 1e-9),
        confidence=1.0 - drift.detector.alpha,
        explanation=(
            f"one run in ten of {series} takes {effect.after_s:.3g} s or more, {drift.before:.3g} s before: "
            f"{effect.ratio:.1f} times as long ({effect.low:.1f} to {effect.high:.1f}, 95%), with all releases"
        ),
        n=effect.n,
        guarantee=None,
    )
