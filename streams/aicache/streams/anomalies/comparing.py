"""Each release against the others of its family: failures by their rate, durations by the share above the others' 90th percentile.

Thousands of comparisons run side by side, so the level falls with their number: e-LOND (Xu and Ramdas, AISTATS 2024) keeps the
false-discovery rate under `FDR` whatever depends on what. Another bad release of a family joins its incident, and is no longer among
what good ones are compared with. Pure.
"""

import math

from aicache.schemas.records import Incident
from aicache.streams.anomalies import announcing, sketches, written
from aicache.streams.anomalies.announcing import FAILURES, GROWTH, LATENCY, family, level, name_of
from aicache.streams.anomalies.detectors.release import Window
from aicache.streams.anomalies.evidence import Comparison, State, Test
from aicache.streams.anomalies.people import HEAVIEST
from aicache.streams.runtime.contract import Step

TESTS_MAX = 100_000
SLOW_QUANTILE = 0.9
RATIO_MIN = 1.25
"""How many times the others' rate is worse at all."""
PEOPLE_MIN = 3
MEMORY = 0.9
"""What a window weighs in what was lately, against the one after it."""

Counts = tuple[int, int, sketches.Sketch]


def enough(known: dict[int, int], now: dict[int, int]) -> bool:
    """Learn how many people have told something, by partition; whether they are enough for an incident.

    One or two, whatever they send, make none. Where nobody was counted, nobody is asked for.
    """
    for partition, count in now.items():
        if count:
            known[partition] = max(count, known.get(partition, 0))
    return not known or sum(known.values()) >= PEOPLE_MIN


def excess(heaviest: list[int]) -> int:
    """Failures of a window that are not counted: what the two people with most have beyond the third, or beyond one each.

    Only of the release that is judged: of the others it would make that one look worse.
    """
    first = sorted(heaviest, reverse=True)[:HEAVIEST]
    most = max(1, first[-1] if len(first) == HEAVIEST else 0)
    return sum(max(0, one - most) for one in first)


def compare(
    state: State, test: Test, by_release: dict[str, Counts], people: dict[int, int], start_s: int, step: Step
) -> None:
    """Learn what a window says of a release, and tell if it is worse.

    Args:
        state: changed in place.
        test: series, release and kind.
        by_release: counts of the window, of all releases of the series.
        people: how many have told failures or durations of the release so far, by partition.
        start_s: of the window.
        step: what follows is added.
    """
    series, release, kind = test
    known = state.open.get(name_of(series, kind, family(release)))
    bad = set(known.versions) if known else set()
    kin = [other for other in by_release if other != release and family(other) == family(release)]
    others = [by_release[other] for other in kin if other not in bad] or [by_release[other] for other in kin]
    comparison = state.comparisons.get(test)
    if comparison is None:
        _make_room(state, step)
        state.tests += 1
        comparison = Comparison(state.tests)
        state.keep(test, comparison)
    seen = _failures(by_release[release], others) if kind == FAILURES else _slow(state, test, by_release, others, bad)
    comparison.seen_s = start_s
    if seen is not None:
        comparison.test.learn_one(seen)
        if _worse_lately(comparison, seen):
            comparison.worse_s = start_s
        if enough(comparison.people, people):
            _decide(state, test, comparison, known, start_s, step)
    if kind == LATENCY:
        comparison.sketch = sketches.merge((comparison.sketch, by_release[release][2]))
    step.changed[written.comparison_key(test)] = written.comparison_value(comparison)


def begin_anew(state: State, test: Test, step: Step) -> None:
    """Forget the evidence of a comparison whose incident is over."""
    old = state.comparisons.get(test)
    if old is not None:
        state.tests += 1
        state.keep(test, Comparison(state.tests, sketch=old.sketch, seen_s=old.seen_s, people=old.people))
        step.changed[written.comparison_key(test)] = written.comparison_value(state.comparisons[test])


def _decide(state: State, test: Test, comparison: Comparison, known: Incident | None, start_s: int, step: Step) -> None:
    _, release, _ = test
    if known is not None and release in known.versions:
        if release == known.release and comparison.test.events >= known.n * GROWTH:
            announcing.publish(state, _incident(state, test, comparison, start_s, known), step)
    elif comparison.test.p_value <= level(comparison.number, state.found):
        state.found += 1
        announcing.publish(state, _incident(state, test, comparison, start_s, known), step)


def _tried(counts: Counts) -> int:
    """Events that could have failed: all but the durations."""
    return max(counts[0] - round(sum(counts[2].values())), counts[1])


def _failures(counts: Counts, others: list[Counts]) -> Window | None:
    tried = sum(_tried(other) for other in others)
    return Window(_tried(counts), counts[1], tried, sum(other[1] for other in others)) if tried else None


def _slow(
    state: State, test: Test, by_release: dict[str, Counts], others: list[Counts], bad: set[str]
) -> Window | None:
    """How many durations lie above the 90th percentile that the other releases had until now."""
    series, release, _ = test
    alike = [
        other
        for other in sorted(state.by_series.get(series, ()))
        if other[2] == LATENCY and other[1] != release and family(other[1]) == family(release)
    ]
    good = [other for other in alike if other[1] not in bad] or alike
    past = sketches.merge(state.comparisons[other].sketch for other in good)
    now = sketches.merge(other[2] for other in others)
    if not past or not now:
        return None
    edge = sketches.quantile(past, SLOW_QUANTILE)
    own = by_release[release][2]
    return Window(
        round(sum(own.values())),
        round(sketches.count_above(own, edge)),
        round(sum(now.values())),
        round(sketches.count_above(now, edge)),
    )


def _worse_lately(comparison: Comparison, seen: Window) -> bool:
    """Whether the release's latest windows together have more failures than the others' rate and chance explain."""
    events, failures = comparison.recent
    events, failures = MEMORY * events + seen.events, MEMORY * failures + seen.failures
    comparison.recent = (events, failures)
    expected = events * comparison.test.other_rate
    return failures > RATIO_MIN * expected + 2 * math.sqrt(expected)


def _make_room(state: State, step: Step) -> None:
    """Forget the tenth of the comparisons that was not seen for longest, once there are too many."""
    if len(state.comparisons) < TESTS_MAX:
        return
    by_age = sorted(state.comparisons, key=lambda test: (state.comparisons[test].seen_s, test))
    for test in by_age[: max(1, TESTS_MAX // 10)]:
        state.drop(test)
        step.changed[written.comparison_key(test)] = None


def _incident(state: State, test: Test, comparison: Comparison, start_s: int, known: Incident | None) -> Incident:
    series, release, kind = test
    seen, expected = comparison.test.rate, comparison.test.other_rate
    if kind == FAILURES:
        said = f"{series} fails in {seen:.1%} of uses with {release}, in {expected:.1%} with other releases"
    else:
        said = f"{series} takes long in {seen:.1%} of runs with {release}, in {expected:.1%} with other releases"
    return Incident(
        deployment=state.deployment,
        incident=name_of(series, kind, family(release)),
        status="opened" if known is None else "growing",
        kind=kind,
        subject=series,
        release=release if known is None else known.release,
        versions=sorted({release, *(known.versions if known else [])}),
        since_s=start_s if known is None else known.since_s,
        updated_s=start_s,
        seen=seen,
        expected=expected,
        unit="share of uses" if kind == FAILURES else "share of runs above the 90th percentile",
        severity=announcing.severity(seen, expected, 1e-4),
        confidence=1.0 - comparison.test.p_value,
        explanation=said,
        n=comparison.test.events,
        guarantee=None,
    )
