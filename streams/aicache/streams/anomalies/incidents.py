"""Incidents: what the detectors find, opened, growing, resolved; a timed fold over the counts of all partitions.

A window closes when the newest one is `GRACE_S` past its end, or the clock is. Then each release in it is compared with the other
releases of its family: failures by their rate, durations by the share above the others' 90th percentile. Thousands of comparisons
run side by side, so the level falls with their number: e-LOND (Xu and Ramdas, AISTATS 2024) keeps the false-discovery rate under
`FDR` whatever depends on what. Failures that name no release are watched for a rise of their own rate. One incident a series, kind
and family of releases: another bad release of it is merged in, and it is no longer among what good ones are compared with.
Pure: the time comes with `tick`.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import replace

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import Incident, SeriesCount
from aicache.streams.anomalies import evidence, sketches
from aicache.streams.anomalies.detectors.release import Window
from aicache.streams.anomalies.evidence import Comparison, Rate, State, Test
from aicache.streams.runtime.contract import Batch, Output, Step

FDR = 0.01
GRACE_S = 60
CLOCK_GRACE_S = 900
"""When nothing newer comes, a window closes by the clock after this long."""
TESTS_MAX = 100_000
RATES_MAX = 20_000
WINDOWS_MAX = 200_000
QUIET_S = 1_800
"""An incident none of whose releases has been worse for this long is resolved."""
GROWTH = 1.5
"""An open incident is published again when its events have grown by this factor: a bound on noise."""
SLOW_QUANTILE = 0.9
RATIO_MIN = 1.25
"""How many times the others' rate is worse at all."""
MEMORY = 0.9
"""What a window weighs in what was lately, against the one after it."""
FAILURES, LATENCY, RATE = "failure-rate", "latency", "rate-change"

Counts = tuple[int, int, sketches.Sketch]


class Incidents:
    """The fold."""

    name = "incidents"
    version = 2
    inputs = (topics.SERIES,)

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        del partition
        return State()

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        del partition
        if version != self.version:
            raise LocalError("the incidents' state is of another version", got=version, needed=self.version)
        return evidence.load(entries)

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        step = Step()
        touched: set[tuple[int, str]] = set()
        for message in batch.messages:
            record = message.record
            if not isinstance(record, SeriesCount) or record.window_start_s <= state.closed_s:
                continue  # a window that has been judged stays judged: replays give the same incidents
            window = (record.window_start_s, record.series)
            try:
                counts = _counts(record)
                if window not in state.windows and len(state.windows) >= WINDOWS_MAX:
                    raise RemoteError("too many windows are open", reason="too-many-windows", needed=f"≤ {WINDOWS_MAX}")
            except RemoteError as error:
                step.dead.append((message, error))
                continue
            state.deployment = record.deployment
            state.newest_s = max(state.newest_s, record.window_start_s)
            state.windows.setdefault(window, {})[record.release, record.partition] = counts
            touched.add(window)
            self._close(state, state.newest_s - record.window_s - GRACE_S, step)
        for window in touched & state.windows.keys():
            step.changed[evidence.window_key(window)] = evidence.window_value(state.windows[window])
        if touched:
            key, value = evidence.meta_entry(state)
            step.changed[key] = value
        return step

    def tick(self, state: State, now_ms: int) -> Step:
        """See `TimedFold.tick`."""
        step = Step()
        now_s = now_ms // 1000
        if state.windows and now_s - state.newest_s > CLOCK_GRACE_S:
            self._close(state, state.newest_s, step)
        if state.open and now_s - state.newest_s > CLOCK_GRACE_S:
            self._resolve(state, now_s - CLOCK_GRACE_S, step)
        if step.changed:
            key, value = evidence.meta_entry(state)
            step.changed[key] = value
        return step

    # ------------------------------------------------------------ judging

    def _close(self, state: State, up_to_s: int, step: Step) -> None:
        """Judge all windows that start at or before `up_to_s`, oldest first."""
        if up_to_s <= state.closed_s:
            return
        for window in sorted(window for window in state.windows if window[0] <= up_to_s):
            self._resolve(state, window[0], step)
            self._judge(state, window, step)
            del state.windows[window]
            step.changed[evidence.window_key(window)] = None
        state.closed_s = up_to_s

    def _judge(self, state: State, window: tuple[int, str], step: Step) -> None:
        start_s, series = window
        by_release: dict[str, Counts] = {}
        for (release, _), (events, failures, sketch) in sorted(state.windows[window].items()):
            before = by_release.get(release, (0, 0, {}))
            by_release[release] = (before[0] + events, before[1] + failures, sketches.merge((before[2], sketch)))
        for release, counts in by_release.items():
            if not release:
                self._rate(state, series, counts[1], start_s, step)
                continue
            timed = round(sum(counts[2].values()))
            if counts[0] > timed:
                self._compare(state, (series, release, FAILURES), by_release, start_s, step)
            if timed:
                self._compare(state, (series, release, LATENCY), by_release, start_s, step)

    def _compare(self, state: State, test: Test, by_release: dict[str, Counts], start_s: int, step: Step) -> None:
        series, release, kind = test
        known = state.open.get(_incident_name(series, kind, _family(release)))
        bad = set(known.versions) if known else set()
        family = [other for other in by_release if other != release and _family(other) == _family(release)]
        others = [by_release[other] for other in family if other not in bad] or [by_release[other] for other in family]
        comparison = state.comparisons.get(test)
        if comparison is None:
            _make_room(state, step)
            state.tests += 1
            comparison = Comparison(state.tests)
            state.keep(test, comparison)
        seen = (
            _failures(by_release[release], others) if kind == FAILURES else _slow(state, test, by_release, others, bad)
        )
        comparison.seen_s = start_s
        if seen is not None:
            comparison.test.learn_one(seen)
            if _worse_lately(comparison, seen):
                comparison.worse_s = start_s
            self._decide(state, test, comparison, known, start_s, step)
        if kind == LATENCY:
            comparison.sketch = sketches.merge((comparison.sketch, by_release[release][2]))
        step.changed[evidence.comparison_key(test)] = evidence.comparison_value(comparison)

    def _decide(
        self, state: State, test: Test, comparison: Comparison, known: Incident | None, start_s: int, step: Step
    ) -> None:
        _, release, _ = test
        if known is not None and release in known.versions:
            if release == known.release and comparison.test.events >= known.n * GROWTH:
                self._publish(state, _incident(state, test, comparison, start_s, known), step)
        elif comparison.test.p_value <= level(comparison.number, state.found):
            state.found += 1
            self._publish(state, _incident(state, test, comparison, start_s, known), step)

    def _rate(self, state: State, series: str, failures: int, start_s: int, step: Step) -> None:
        rate = state.rates.get(series)
        if rate is None:
            if len(state.rates) >= RATES_MAX:
                oldest = min(state.rates, key=lambda name: (state.rates[name].seen_s, name))
                del state.rates[oldest]
                step.changed[evidence.rate_key(oldest)] = None
            rate = state.rates[series] = Rate()
        rate.seen_s = start_s
        risen = rate.detector.learn_one(failures)
        name = _incident_name(series, RATE, "")
        known = state.open.get(name)
        if risen:
            rate.before = rate.before if known else rate.detector.before
        if risen or (known and failures > rate.before * RATIO_MIN):
            rate.worse_s = start_s
        if risen and (known is None or rate.detector.after > known.seen * GROWTH):
            self._publish(state, _risen(state, series, rate, start_s, known), step)
        step.changed[evidence.rate_key(series)] = evidence.rate_value(rate)

    # ------------------------------------------------------------ incidents

    @staticmethod
    def _publish(state: State, incident: Incident, step: Step) -> None:
        name = incident.incident
        step.outputs.append(Output(topics.ANOMALIES.name, name.encode(), incident, _cloud_event(incident)))
        if incident.status == "resolved":
            del state.open[name]
            step.changed[evidence.incident_key(name)] = None
        else:
            state.open[name] = incident
            step.changed[evidence.incident_key(name)] = evidence.incident_value(incident)

    def _resolve(self, state: State, now_s: int, step: Step) -> None:
        """Resolve what has not been worse for long, also where its series has stopped, and begin its comparisons anew."""
        for name in sorted(state.open):
            incident = state.open[name]
            tests = [(incident.subject, release, incident.kind) for release in incident.versions]
            worse = [state.comparisons[test].worse_s for test in tests if test in state.comparisons]
            if incident.kind == RATE and incident.subject in state.rates:
                worse = [state.rates[incident.subject].worse_s]
            if now_s - max([incident.since_s, *worse]) < QUIET_S:
                continue
            self._publish(state, replace(incident, status="resolved", updated_s=now_s), step)
            for test in tests:
                if test in state.comparisons:
                    state.tests += 1
                    old = state.comparisons[test]
                    state.keep(test, Comparison(state.tests, sketch=old.sketch, seen_s=old.seen_s))
                    step.changed[evidence.comparison_key(test)] = evidence.comparison_value(state.comparisons[test])


def _counts(record: SeriesCount) -> Counts:
    """What a record counted.

    Raises:
        RemoteError: `bad-counts`, `bad-sketch`: it cannot have been counted.
    """
    if not 0 <= record.failures <= record.events or record.window_s <= 0:
        raise RemoteError(
            "a window has impossible counts",
            reason="bad-counts",
            got=(record.events, record.failures, record.window_s),
            needed="0 ≤ failures ≤ events, a length above 0",
        )
    return record.events, record.failures, sketches.unpack(record.sketch)


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
        if other[2] == LATENCY and other[1] != release and _family(other[1]) == _family(release)
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
        step.changed[evidence.comparison_key(test)] = None


def _incident(state: State, test: Test, comparison: Comparison, start_s: int, known: Incident | None) -> Incident:
    series, release, kind = test
    seen, expected = comparison.test.rate, comparison.test.other_rate
    if kind == FAILURES:
        said = f"{series} fails in {seen:.1%} of uses with {release}, in {expected:.1%} with other releases"
    else:
        said = f"{series} takes long in {seen:.1%} of runs with {release}, in {expected:.1%} with other releases"
    return Incident(
        deployment=state.deployment,
        incident=_incident_name(series, kind, _family(release)),
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
        severity=_severity(seen, expected, 1e-4),
        confidence=1.0 - comparison.test.p_value,
        explanation=said,
        n=comparison.test.events,
        guarantee=None,
    )


def _risen(state: State, series: str, rate: Rate, start_s: int, known: Incident | None) -> Incident:
    seen = rate.detector.after
    return Incident(
        deployment=state.deployment,
        incident=_incident_name(series, RATE, ""),
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
        severity=_severity(seen, rate.before, 0.1),
        confidence=1.0 - math.exp(-rate.detector.slack * rate.detector.threshold),
        explanation=f"{series} happens {seen:.1f} times a window, {rate.before:.1f} times before",
        n=sum(rate.detector.values),
        guarantee=None,
    )


def _severity(seen: float, expected: float, least: float) -> float:
    return min(1.0, max(0.0, math.log2(max(seen, 1e-9) / max(expected, least)) / 5))


def level(number: int, found: int) -> float:
    """e-LOND: the level of the number-th comparison after `found` discoveries; all together stay under `FDR`."""
    return FDR * (found + 1) * 0.4 / ((number + 1) * math.log(number + 2) ** 2)


def _family(release: str) -> str:
    """What has releases: `pypi:numpy` of `pypi:numpy@2.4`."""
    return release.rpartition("@")[0]


def _incident_name(series: str, kind: str, family: str) -> str:
    return hashlib.sha256(json.dumps([series, kind, family]).encode()).hexdigest()[:16]


def _cloud_event(incident: Incident) -> tuple[tuple[str, bytes], ...]:
    """Headers of CloudEvents 1.0, Kafka binding."""
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", f"aicache.incident.{incident.status}".encode()),
        ("ce_source", f"aicache/{incident.deployment}/incidents".encode()),
        ("ce_id", f"{incident.incident}-{incident.updated_s}-{incident.status}".encode()),
    )
