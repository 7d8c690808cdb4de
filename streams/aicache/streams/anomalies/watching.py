"""Series by themselves: failures that name no release, watched for a rise of their rate; durations, for a shift of their median.

What a window's durations are is the median release's median, so that one slow release, which `comparing` tells, is no shift of all.
Logarithms go through `Shift`, and only a slowdown by `SLOWER_MIN` is told: the size of an effect counts, not how sure it is. Pure.
"""

import math

from aicache.schemas.records import Incident
from aicache.streams.anomalies import announcing, sketches, written
from aicache.streams.anomalies.announcing import DRIFT, GROWTH, LATENCY, RATE, name_of
from aicache.streams.anomalies.comparing import RATIO_MIN
from aicache.streams.anomalies.evidence import DRIFT_WARM_UP, Drift, Rate, State
from aicache.streams.runtime.contract import Step

RATES_MAX = 20_000
DRIFTS_MAX = 5_000
DURATIONS_MIN = 20
"""Durations of a window without which its median says little."""
RECENT = 5
SLOWER_MIN = 1.25


def watch_rate(state: State, series: str, failures: int, start_s: int, step: Step) -> None:
    """Learn how often a series without a release happened in a window, and tell if that has risen."""
    rate = state.rates.get(series)
    if rate is None:
        if len(state.rates) >= RATES_MAX:
            oldest = min(state.rates, key=lambda name: (state.rates[name].seen_s, name))
            del state.rates[oldest]
            step.changed[written.rate_key(oldest)] = None
        rate = state.rates[series] = Rate()
    rate.seen_s = start_s
    risen = rate.detector.learn_one(failures)
    known = state.open.get(name_of(series, RATE, ""))
    if risen:
        rate.before = rate.before if known else rate.detector.before
    if risen or (known and failures > rate.before * RATIO_MIN):
        rate.worse_s = start_s
    if risen and (known is None or rate.detector.after > known.seen * GROWTH):
        announcing.publish(state, _risen(state, series, rate, start_s, known), step)
    step.changed[written.rate_key(series)] = written.rate_value(rate)


def watch_durations(state: State, series: str, by_release: list[sketches.Sketch], start_s: int, step: Step) -> None:
    """Learn the durations of a series in a window, a sketch each release, and tell if they have become longer."""
    many = [sketch for sketch in by_release if sum(sketch.values()) >= DURATIONS_MIN] or [sketches.merge(by_release)]
    count = round(sum(sum(sketch.values()) for sketch in many))
    if count < DURATIONS_MIN:
        return
    drift = state.drifts.get(series)
    if drift is None:
        if len(state.drifts) >= DRIFTS_MAX:
            oldest = min(state.drifts, key=lambda name: (state.drifts[name].seen_s, name))
            del state.drifts[oldest]
            step.changed[written.drift_key(oldest)] = None
        drift = state.drifts[series] = Drift()
    drift.seen_s = start_s
    median_s = sorted(sketches.quantile(sketch, 0.5) for sketch in many)[(len(many) - 1) // 2]
    drift.recent = [*drift.recent, math.log(median_s)][-RECENT:]
    drift.detector.update(math.log(median_s))
    known = state.open.get(name_of(series, DRIFT, ""))
    if drift.detector.drift_detected:
        _shifted(state, series, drift, known, count, step)
    elif known is not None and median_s > drift.before * SLOWER_MIN:
        drift.worse_s = start_s
    drift.points, drift.total = drift.points + 1, drift.total + math.log(median_s)
    step.changed[written.drift_key(series)] = written.drift_value(drift)


def _shifted(state: State, series: str, drift: Drift, known: Incident | None, count: int, step: Step) -> None:
    """Begin to learn the new level, and tell it where it is slower and no release is known to be why."""
    recent = drift.recent[1:]
    old = (drift.total - sum(recent[:-1])) / max(1, drift.points - len(recent) + 1)
    before, after = math.exp(old), math.exp(sorted(recent)[len(recent) // 2])
    start_s = drift.seen_s
    slow = any(one.kind == LATENCY and one.subject == series for one in state.open.values())
    if after > before * SLOWER_MIN and not slow:
        drift.before = drift.before if known else before
        drift.worse_s = start_s
        if known is None or after > known.seen * GROWTH:
            announcing.publish(state, _slower(state, series, drift, after, count, known), step)
    fresh = Drift(before=drift.before, seen_s=start_s, worse_s=drift.worse_s)
    drift.detector, drift.points, drift.total, drift.recent = fresh.detector, 0, 0.0, []


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


def _slower(state: State, series: str, drift: Drift, seen: float, count: int, known: Incident | None) -> Incident:
    ratio = seen / drift.before
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
        seen=seen,
        expected=drift.before,
        unit="seconds, median",
        severity=announcing.severity(seen, drift.before, 1e-9),
        confidence=CONFIDENCE,
        explanation=f"{series} takes {seen:.3g} s where it took {drift.before:.3g} s, {ratio:.1f} times as long",
        n=count,
        guarantee=None,
    )


CONFIDENCE = 0.99
"""`Shift` has a false alarm in fewer than one of a thousand points; how sure one alarm is depends on how often there is a reason."""

assert DRIFT_WARM_UP > RECENT, "what was before is told from more than what came after"
