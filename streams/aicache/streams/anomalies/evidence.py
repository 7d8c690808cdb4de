"""What the control plane of anomalies remembers: windows, comparisons, rates, people, rounds, incidents. `written` writes it down. Pure."""

from dataclasses import dataclass, field

from aicache.schemas.records import Acknowledgement, Aggregate, Guarantee, Incident
from aicache.streams.anomalies import sketches
from aicache.streams.anomalies.detectors.noisy_release import NoisyReleaseComparison
from aicache.streams.anomalies.detectors.quantiles import QuantileShift
from aicache.streams.anomalies.detectors.rate import RateChange
from aicache.streams.anomalies.detectors.release import ReleaseComparison

Test = tuple[str, str, str]  # series, release, kind
Partials = dict[
    tuple[str, int], tuple[int, int, sketches.Sketch, int, tuple[int, ...]]
]  # by release and partition: events, failures, durations, people, failures of the heaviest people
Cells = dict[tuple[str, str], dict[int, tuple[int, int]]]  # by candidate and stratum, then partition: people, failing

SLOWER_MIN = 1.2
"""By what factor durations have surely grown where that is worth telling."""


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
        people: how many have told failures or durations of it, by partition, up to a few.
    """

    number: int
    test: ReleaseComparison = field(default_factory=ReleaseComparison)
    sketch: sketches.Sketch = field(default_factory=dict)
    seen_s: int = 0
    worse_s: int = 0
    recent: tuple[float, float] = (0.0, 0.0)
    people: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Rate:
    """The rate of a series without releases.

    Attributes:
        detector: what has been learned.
        seen_s: its newest window.
        worse_s: the newest window in which it was above what it was before it rose.
        before: failures a window before it rose.
        people: how many have told it, by partition, up to a few.
    """

    detector: RateChange = field(default_factory=RateChange)
    seen_s: int = 0
    worse_s: int = 0
    before: float = 0.0
    people: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Drift:
    """The durations of a series, whatever the release.

    Attributes:
        detector: of the slow end; what is new becomes what is usual.
        before: seconds, before the shift that is an incident.
        seen_s, worse_s: its newest window, and the newest one that was slower than before the shift.
    """

    detector: QuantileShift = field(default_factory=lambda: QuantileShift(ratio_min=SLOWER_MIN))
    before: float = 0.0
    seen_s: int = 0
    worse_s: int = 0


@dataclass(slots=True)
class Signature:
    """A signature as it was first seen.

    Attributes:
        first_s, release: its first window, and the release with which it came.
        seen_s: its newest window.
        people: how many have told it with that release, by partition.
        checked: the newest round whose opened sum was asked for it.
        estimate, least: people by that sum, about and at least; 0 until it passed.
        guarantee: of the sum.
        told: whether it has been an incident.
    """

    first_s: int
    release: str
    seen_s: int = 0
    people: dict[int, int] = field(default_factory=dict)
    checked: str = ""
    estimate: float = 0.0
    least: float = 0.0
    guarantee: Guarantee | None = None
    told: bool = False


@dataclass(slots=True)
class Plan:
    """Of a task of sketches, what reading its opened sums takes.

    Attributes:
        version: the newest.
        active: whether the task goes on.
        shapes: depth and width of the newest versions.
    """

    version: int = 0
    active: bool = True
    shapes: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Table:
    """The newest opened count sketch of a task: integers, row-major, `scale` of them a person."""

    round_id: str
    number: int
    depth: int
    width: int
    scale: float
    sums: bytes
    guarantee: Guarantee


@dataclass(slots=True)
class Rounds:
    """A release's comparison by opened sums with noise in them.

    Attributes:
        number: order in which comparisons began; decides the level.
        test: the evidence.
        clients: of the release, over all rounds.
        rdp: divergences of the rounds together.
        quiet: rounds in a row in which it was not worse.
    """

    number: int
    test: NoisyReleaseComparison = field(default_factory=NoisyReleaseComparison)
    clients: float = 0.0
    rdp: list[float] = field(default_factory=list)
    quiet: int = 0


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
        acknowledged: what people know of, by incident.
        held: incidents that wait for their turn to be told; whether nothing of them was told yet.
        hour, told: the hour of event time, and what was told in it.
        drifts, signatures: evidence by series.
        began_s: the first window of all.
        plans, tables: tasks of sketches, and the newest opened ones.
        early: opened sketches that wait for their task, by round.
        rounds, compared: comparisons by opened sums, by task and release, and how many were begun.
        learned: number of the newest round that was compared, by task.
        periods: people by what they had, by start of the period and outcome, until they are judged.
        judged_s, cells: start of the newest period that was judged, and cells of those that were not.
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
    acknowledged: dict[str, Acknowledgement] = field(default_factory=dict)
    held: dict[str, bool] = field(default_factory=dict)
    hour: int = 0
    told: int = 0
    drifts: dict[str, Drift] = field(default_factory=dict)
    signatures: dict[str, Signature] = field(default_factory=dict)
    began_s: int = 0
    plans: dict[str, Plan] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    early: dict[str, Aggregate] = field(default_factory=dict)
    rounds: dict[tuple[str, str], Rounds] = field(default_factory=dict)
    compared: int = 0
    learned: dict[str, int] = field(default_factory=dict)
    periods: dict[int, dict[str, Cells]] = field(default_factory=dict)
    judged_s: int = -1
    cells: int = 0

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
