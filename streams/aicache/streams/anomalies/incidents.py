"""Incidents: what the detectors find, opened, growing, resolved; a timed fold over the counts of all partitions.

A window closes when the newest one is `GRACE_S` past its end, or the clock is. Then each release in it is compared with the other
releases of its family: failures by their rate, durations by the share above the others' 90th percentile. Thousands of comparisons
run side by side, so the level falls with their number: e-LOND (Xu and Ramdas, AISTATS 2024) keeps the false-discovery rate under
`FDR` whatever depends on what. One incident a series, kind and family of releases: another bad release of it is merged in.
Pure: the time comes with `tick`.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from aicache.privacy.errors import LocalError
from aicache.schemas import topics
from aicache.schemas.codec import Codec, SingleObject
from aicache.schemas.records import Incident, SeriesCount
from aicache.streams.anomalies import sketches
from aicache.streams.anomalies.detectors.release import ReleaseComparison, Window
from aicache.streams.runtime.contract import Batch, Output, Step

FDR = 0.01
GRACE_S = 60
CLOCK_GRACE_S = 900
"""When nothing newer comes, a window closes by the clock after this long."""
TESTS_MAX = 100_000
QUIET_WINDOWS = 30
"""An incident whose release has not been worse for this many windows is resolved."""
GROWTH = 1.5
"""An open incident is published again when its events have grown by this factor: a bound on noise."""
SLOW_QUANTILE = 0.9
FAILURES, LATENCY = "failure-rate", "latency"
CODEC = Codec(SingleObject())  # of state, which stays the same whatever the wire form of topics

Test = tuple[str, str, str]  # series, release, kind
Partials = dict[tuple[str, int], tuple[int, int, dict[float, float]]]  # by release and partition


@dataclass(slots=True)
class Comparison:
    """A release's comparison on one series.

    Attributes:
        number: order in which comparisons began; decides the level.
        test: the evidence.
        sketch: durations so far.
        quiet: windows in a row in which it was not worse.
    """

    number: int
    test: ReleaseComparison = field(default_factory=ReleaseComparison)
    sketch: dict[float, float] = field(default_factory=dict)
    quiet: int = 0


@dataclass(slots=True)
class State:
    """What the control plane knows."""

    deployment: str = ""
    newest_s: int = 0
    closed_s: int = 0
    tests: int = 0
    found: int = 0
    windows: dict[tuple[int, str], Partials] = field(default_factory=dict)
    comparisons: dict[Test, Comparison] = field(default_factory=dict)
    open: dict[str, Incident] = field(default_factory=dict)


class Incidents:
    """The fold."""

    name = "incidents"
    version = 1
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
        state = State()
        for key, value in entries:
            kind, name = key[:1], key[1:]
            if kind == b"m":
                state.deployment, state.newest_s, state.closed_s, state.tests, state.found = json.loads(value)
            elif kind == b"w":
                start_s, series = json.loads(name)
                state.windows[start_s, series] = {
                    (release, partition): (events, failures, {float(b): c for b, c in sketch.items()})
                    for release, partition, events, failures, sketch in json.loads(value)
                }
            elif kind == b"c":
                number, numbers, sketch, quiet = json.loads(value)
                comparison = Comparison(number, sketch={float(b): c for b, c in sketch.items()}, quiet=quiet)
                comparison.test.restore(numbers)
                state.comparisons[tuple(json.loads(name))] = comparison
            elif kind == b"i":
                state.open[name.decode()] = CODEC.decode(value, Incident).record
        return state

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        step = Step()
        touched: set[tuple[int, str]] = set()
        for message in batch.messages:
            record = message.record
            if not isinstance(record, SeriesCount) or record.window_start_s <= state.closed_s:
                continue  # a window that has been judged stays judged: replays give the same incidents
            state.deployment = record.deployment
            state.newest_s = max(state.newest_s, record.window_start_s)
            window = (record.window_start_s, record.series)
            counts = (record.events, record.failures, sketches.unpack(record.sketch))
            state.windows.setdefault(window, {})[record.release, record.partition] = counts
            touched.add(window)
            self._close(state, state.newest_s - record.window_s - GRACE_S, step)
        for window in touched & state.windows.keys():
            step.changed[b"w" + json.dumps(window).encode()] = _window_value(state.windows[window])
        if touched:
            step.changed[b"m"] = _meta(state)
        return step

    def tick(self, state: State, now_ms: int) -> Step:
        """See `TimedFold.tick`."""
        step = Step()
        if state.windows and now_ms // 1000 - state.newest_s > CLOCK_GRACE_S:
            self._close(state, state.newest_s, step)
            step.changed[b"m"] = _meta(state)
        return step

    # ------------------------------------------------------------ judging

    def _close(self, state: State, up_to_s: int, step: Step) -> None:
        """Judge all windows that start at or before `up_to_s`, oldest first."""
        if up_to_s <= state.closed_s:
            return
        for window in sorted(window for window in state.windows if window[0] <= up_to_s):
            self._judge(state, window, step)
            del state.windows[window]
            step.changed[b"w" + json.dumps(window).encode()] = None
        state.closed_s = up_to_s

    def _judge(self, state: State, window: tuple[int, str], step: Step) -> None:
        start_s, series = window
        by_release: dict[str, tuple[int, int, dict[float, float]]] = {}
        for (release, _), (events, failures, sketch) in sorted(state.windows[window].items()):
            before = by_release.get(release, (0, 0, {}))
            by_release[release] = (before[0] + events, before[1] + failures, sketches.merge((before[2], sketch)))
        for release, counts in by_release.items():
            others = [c for other, c in by_release.items() if other != release and _family(other) == _family(release)]
            kind = LATENCY if counts[2] else FAILURES
            comparison = self._comparison(state, (series, release, kind))
            if comparison is None:
                continue
            seen = self._window(state, series, release, kind, counts, others)
            if seen is not None:
                comparison.test.learn_one(seen)
                self._decide(state, (series, release, kind), comparison, seen, start_s, step)
            comparison.sketch = sketches.merge((comparison.sketch, counts[2]))
            step.changed[b"c" + json.dumps([series, release, kind]).encode()] = _comparison_value(comparison)

    @staticmethod
    def _comparison(state: State, test: Test) -> Comparison | None:
        known = state.comparisons.get(test)
        if known is None and len(state.comparisons) < TESTS_MAX:
            state.tests += 1
            known = state.comparisons[test] = Comparison(state.tests)
        return known

    @staticmethod
    def _window(
        state: State,
        series: str,
        release: str,
        kind: str,
        counts: tuple[int, int, dict[float, float]],
        others: list[tuple[int, int, dict[float, float]]],
    ) -> Window | None:
        events, other_events = counts[0], sum(other[0] for other in others)
        if not other_events:
            return None
        if kind == FAILURES:
            return Window(events, counts[1], other_events, sum(other[1] for other in others))
        past = sketches.merge(
            comparison.sketch
            for (name, other, _), comparison in state.comparisons.items()
            if name == series and other != release and _family(other) == _family(release)
        )
        if not past:
            return None
        edge = sketches.quantile(past, SLOW_QUANTILE)
        now = sketches.merge(other[2] for other in others)
        return Window(
            round(sum(counts[2].values())),
            round(sketches.count_above(counts[2], edge)),
            round(sum(now.values())),
            round(sketches.count_above(now, edge)),
        )

    def _decide(self, state: State, test: Test, comparison: Comparison, seen: Window, start_s: int, step: Step) -> None:
        series, release, kind = test
        name = _incident_name(series, kind, _family(release))
        known = state.open.get(name)
        worse = seen.events > 0 and seen.failures / seen.events > comparison.test.other_rate * 1.25
        comparison.quiet = 0 if worse else comparison.quiet + 1
        listed = known is not None and release in known.versions
        if not listed and comparison.test.p_value <= level(comparison.number, state.found):
            state.found += 1
            incident = self._incident(state, test, comparison, start_s, known)
        elif listed and known is not None and release == known.release:
            if comparison.quiet >= QUIET_WINDOWS:
                incident = replace(known, status="resolved", updated_s=start_s)
            elif comparison.test.events >= known.n * GROWTH:
                incident = replace(self._incident(state, test, comparison, start_s, known), status="growing")
            else:
                return
        else:
            return
        step.outputs.append(Output(topics.ANOMALIES.name, name.encode(), incident, _cloud_event(incident)))
        if incident.status == "resolved":
            del state.open[name]
            step.changed[b"i" + name.encode()] = None
        else:
            state.open[name] = incident
            step.changed[b"i" + name.encode()] = CODEC.encode(incident)

    def _incident(
        self, state: State, test: Test, comparison: Comparison, start_s: int, known: Incident | None
    ) -> Incident:
        series, release, kind = test
        seen, expected = comparison.test.rate, comparison.test.other_rate
        ratio = max(seen, 1e-9) / max(expected, 1e-4)
        if kind == FAILURES:
            said = f"{series} fails in {seen:.1%} of uses with {release}, in {expected:.1%} with other releases"
        else:
            said = f"{series} takes long in {seen:.1%} of runs with {release}, in {expected:.1%} with other releases"
        versions = sorted({release, *(known.versions if known else [])})
        return Incident(
            deployment=state.deployment,
            incident=_incident_name(series, kind, _family(release)),
            status="opened" if known is None else "growing",
            kind=kind,
            subject=series,
            release=release if known is None else known.release,
            versions=versions,
            since_s=start_s if known is None else known.since_s,
            updated_s=start_s,
            seen=seen,
            expected=expected,
            unit="share of uses" if kind == FAILURES else "share of runs above the 90th percentile",
            severity=min(1.0, max(0.0, math.log2(ratio) / 5)),
            confidence=1.0 - comparison.test.p_value,
            explanation=said,
            n=comparison.test.events,
            guarantee=None,
        )


def level(number: int, found: int) -> float:
    """e-LOND: the level of the number-th comparison after `found` discoveries; all together stay under `FDR`·(found + 1)."""
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


def _window_value(partials: Partials) -> bytes:
    rows = [[release, partition, *counts] for (release, partition), counts in sorted(partials.items())]
    return json.dumps(rows).encode()


def _comparison_value(comparison: Comparison) -> bytes:
    fields = [comparison.number, comparison.test.numbers(), comparison.sketch, comparison.quiet]
    return json.dumps(fields).encode()


def _meta(state: State) -> bytes:
    return json.dumps([state.deployment, state.newest_s, state.closed_s, state.tests, state.found]).encode()
