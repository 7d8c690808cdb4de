"""What the control plane of anomalies remembers, and how it is written to its changelog: windows, comparisons, rates, incidents. Pure."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aicache.schemas.codec import Codec, SingleObject
from aicache.schemas.records import Incident
from aicache.streams.anomalies import sketches
from aicache.streams.anomalies.detectors.rate import RateChange
from aicache.streams.anomalies.detectors.release import ReleaseComparison

CODEC = Codec(SingleObject())  # of state, which stays the same whatever the wire form of topics

Test = tuple[str, str, str]  # series, release, kind
Partials = dict[
    tuple[str, int], tuple[int, int, sketches.Sketch]
]  # by release and partition: events, failures, durations


@dataclass(slots=True)
class Comparison:
    """A release's comparison on one series.

    Attributes:
        number: order in which comparisons began; decides the level.
        test: the evidence.
        sketch: durations so far.
        seen_s: its newest window.
        worse_s: the newest window in which it was worse than the others lately; 0 where there is none.
        recent: events and failures, those of a window ago weighing a tenth less.
    """

    number: int
    test: ReleaseComparison = field(default_factory=ReleaseComparison)
    sketch: sketches.Sketch = field(default_factory=dict)
    seen_s: int = 0
    worse_s: int = 0
    recent: tuple[float, float] = (0.0, 0.0)


@dataclass(slots=True)
class Rate:
    """The rate of a series without releases.

    Attributes:
        detector: what has been learned.
        seen_s: its newest window.
        worse_s: the newest window in which it was above what it was before it rose.
        before: failures a window before it rose.
    """

    detector: RateChange = field(default_factory=RateChange)
    seen_s: int = 0
    worse_s: int = 0
    before: float = 0.0


@dataclass(slots=True)
class State:
    """What the control plane knows.

    Attributes:
        deployment: of the records.
        newest_s, closed_s: start of the newest window, and of the newest that has been judged.
        tests, found: comparisons begun, and how many of them found something.
        windows: counts of windows that are not yet judged, by their start and series.
        comparisons, rates, open: evidence, and the incidents that are not resolved.
        by_series: the comparisons of each series.
    """

    deployment: str = ""
    newest_s: int = 0
    closed_s: int = 0
    tests: int = 0
    found: int = 0
    windows: dict[tuple[int, str], Partials] = field(default_factory=dict)
    comparisons: dict[Test, Comparison] = field(default_factory=dict)
    rates: dict[str, Rate] = field(default_factory=dict)
    open: dict[str, Incident] = field(default_factory=dict)
    by_series: dict[str, set[Test]] = field(default_factory=dict)

    def keep(self, test: Test, comparison: Comparison) -> None:
        """Add a comparison."""
        self.comparisons[test] = comparison
        self.by_series.setdefault(test[0], set()).add(test)

    def drop(self, test: Test) -> None:
        """Forget a comparison."""
        del self.comparisons[test]
        self.by_series[test[0]].discard(test)
        if not self.by_series[test[0]]:
            del self.by_series[test[0]]


def load(entries: Iterable[tuple[bytes, bytes]]) -> State:
    """The state that wrote these entries."""
    state = State()
    for key, value in entries:
        kind, name = key[:1], key[1:]
        if kind == b"m":
            state.deployment, state.newest_s, state.closed_s, state.tests, state.found = json.loads(value)
        elif kind == b"w":
            start_s, series = json.loads(name)
            state.windows[start_s, series] = {
                (release, partition): (events, failures, _sketch(sketch))
                for release, partition, events, failures, sketch in json.loads(value)
            }
        elif kind == b"c":
            number, numbers, sketch, seen_s, worse_s, recent = json.loads(value)
            comparison = Comparison(number, ReleaseComparison(), _sketch(sketch), seen_s, worse_s, tuple(recent))
            comparison.test.restore(numbers)
            series, release, what = json.loads(name)
            state.keep((series, release, what), comparison)
        elif kind == b"r":
            values, seen_s, worse_s, before = json.loads(value)
            rate = Rate(RateChange(), seen_s, worse_s, before)
            rate.detector.restore(values)
            state.rates[name.decode()] = rate
        elif kind == b"i":
            state.open[name.decode()] = CODEC.decode(value, Incident).record
    return state


def meta_entry(state: State) -> tuple[bytes, bytes]:
    """The changelog's entry of what is not in any other."""
    fields = [state.deployment, state.newest_s, state.closed_s, state.tests, state.found]
    return b"m", json.dumps(fields).encode()


def window_key(window: tuple[int, str]) -> bytes:
    """The changelog's key of a window."""
    return b"w" + json.dumps(window).encode()


def window_value(partials: Partials) -> bytes:
    """The changelog's value of a window."""
    rows = [[release, partition, *counts] for (release, partition), counts in sorted(partials.items())]
    return json.dumps(rows).encode()


def comparison_key(test: Sequence[str]) -> bytes:
    """The changelog's key of a comparison."""
    return b"c" + json.dumps(list(test)).encode()


def comparison_value(comparison: Comparison) -> bytes:
    """The changelog's value of a comparison."""
    numbers = comparison.test.numbers()
    seen = [comparison.seen_s, comparison.worse_s, comparison.recent]
    return json.dumps([comparison.number, numbers, comparison.sketch, *seen]).encode()


def rate_key(series: str) -> bytes:
    """The changelog's key of a rate."""
    return b"r" + series.encode()


def rate_value(rate: Rate) -> bytes:
    """The changelog's value of a rate."""
    return json.dumps([rate.detector.values, rate.seen_s, rate.worse_s, rate.before]).encode()


def incident_key(name: str) -> bytes:
    """The changelog's key of an incident."""
    return b"i" + name.encode()


def incident_value(incident: Incident) -> bytes:
    """The changelog's value of an incident."""
    return CODEC.encode(incident)


def _sketch(pairs: dict[str, float]) -> sketches.Sketch:
    return {float(bucket): count for bucket, count in pairs.items()}
