"""What every detector keeps to: River's interface, the same outcome twice, a state that comes back bit for bit, bounds, bad input."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import river.checks

from aicache.privacy.errors import LocalError
from aicache.privacy.sketches import sketch_of
from aicache.streams.anomalies.detectors.changepoint import ChangePoint, ChangePointColumns
from aicache.streams.anomalies.detectors.counts import CountColumns, CountForecast
from aicache.streams.anomalies.detectors.newcomer import Newcomer
from aicache.streams.anomalies.detectors.noisy_release import NoisyReleaseComparison, NoisyWindow
from aicache.streams.anomalies.detectors.novelty import ALARM, Parameters, WindowNovelty
from aicache.streams.anomalies.detectors.novelty_columns import WindowNoveltyColumns
from aicache.streams.anomalies.detectors.quantiles import QuantileShift
from aicache.streams.anomalies.detectors.rate import RateChange
from aicache.streams.anomalies.detectors.release import ReleaseComparison, Window
from aicache.streams.anomalies.detectors.shift import Shift, ShiftColumns

SMALL = Parameters(windows=50)


@dataclass(frozen=True)
class Case:
    """A detector under test.

    Attributes:
        make: a fresh one.
        step: shows it a point; what it said.
        point: one made of a number.
        is_alarm: whether what it said is one.
        bytes_max: of its state, however long it has run.
        bad: points that cannot be.
        refuses: whether those raise; otherwise they are left out.
    """

    make: Callable[[], Any]
    step: Callable[[Any, Any], Any]
    point: Callable[[float], Any]
    is_alarm: Callable[[Any], bool]
    bytes_max: int
    bad: tuple[Any, ...]
    refuses: bool


def learn_and_score(detector: Any, x: dict[str, float]) -> float:
    score = detector.score_one(x)
    detector.learn_one(x)
    return float(score)


def drift(detector: Any, x: float) -> bool:
    detector.update(x)
    return bool(detector.drift_detected)


def p_value(detector: Any, x: Any) -> float:
    detector.learn_one(x)
    return float(detector.p_value)


def window(value: float) -> Window:
    return Window(100, round(abs(value)), 1_000, 20)


def counts(value: float) -> Any:
    return np.round(np.abs([value, value + 2, 7.0]))


COLUMNS: dict[str, Any] = {
    "step": lambda detector, x: detector.update(x).tolist(),
    "point": lambda value: np.array([value, 3 - value, 7.0]),
    "is_alarm": lambda scores: max(scores) > ALARM,
    "bad": (np.zeros(2), np.array([0.0, np.nan, 0.0]), np.array([0.0, np.inf, 0.0])),
    "refuses": True,
}
BAD_COUNTS = (*COLUMNS["bad"], np.array([1.0, -1.0, 1.0]))
CASES = {
    "WindowNovelty": Case(
        lambda: WindowNovelty(40, SMALL),
        learn_and_score,
        lambda value: {"value": value},
        lambda score: score > ALARM,
        4_000,
        ({"value": float("nan")}, {"value": float("-inf")}),
        refuses=False,
    ),
    "WindowNoveltyColumns": Case(make=lambda: WindowNoveltyColumns(3, 40, SMALL), bytes_max=8_000, **COLUMNS),
    "ShiftColumns": Case(make=lambda: ShiftColumns(3, 40, [0, 12, 0]), bytes_max=4_000, **COLUMNS),
    "Shift": Case(
        lambda: Shift(40, 12), drift, float, bool, 2_000, (float("nan"), float("inf"), float("-inf")), refuses=False
    ),
    "RateChange": Case(
        RateChange,
        lambda detector, x: detector.learn_one(x),
        lambda value: round(abs(value)),
        bool,
        4_000,
        (-1, float("nan")),
        refuses=True,
    ),
    "ReleaseComparison": Case(
        ReleaseComparison,
        p_value,
        window,
        lambda p: p < 1e-3,
        500,
        (Window(10, 11, 10, 1), Window(10, -1, 10, 1), Window(-1, 0, 10, 1)),
        refuses=True,
    ),
    "NoisyReleaseComparison": Case(
        NoisyReleaseComparison,
        p_value,
        lambda value: NoisyWindow(100.0, abs(value), 1_000.0, 20.0, sigma=0.5),
        lambda p: p < 1e-3,
        500,
        (NoisyWindow(float("nan"), 1.0, 10.0, 1.0, 1.0), NoisyWindow(100.0, 1.0, 1_000.0, 1.0, -1.0)),
        refuses=True,
    ),
    "CountColumns": Case(
        make=lambda: CountColumns(3, 40, 12), bytes_max=5_000, **{**COLUMNS, "point": counts, "bad": BAD_COUNTS}
    ),
    "CountForecast": Case(
        lambda: CountForecast(40, 12),
        learn_and_score,
        lambda value: {"count": round(abs(value))},
        lambda score: score > ALARM,
        2_000,
        ({"count": -1}, {"count": float("nan")}),
        refuses=True,
    ),
    "ChangePointColumns": Case(
        make=lambda: ChangePointColumns(3), bytes_max=10_000, **{**COLUMNS, "point": counts, "bad": BAD_COUNTS}
    ),
    "ChangePoint": Case(
        ChangePoint, drift, lambda value: round(abs(value)), bool, 4_000, (-1, float("nan")), refuses=True
    ),
    "QuantileShift": Case(
        lambda: QuantileShift(learn=300),
        lambda detector, x: detector.learn_one(x),
        lambda value: sketch_of([0.01 + abs(value) * (1 + place / 20) for place in range(20)]),
        bool,
        12_000,
        ({0.5e9: 1.0}, {1.0: -1.0}, {1.0: float("nan")}),
        refuses=True,
    ),
    "Newcomer": Case(
        lambda: Newcomer(40, 0.2, 30),
        learn_and_score,
        lambda value: {"template": f"level {round(value / 4)}"},
        lambda score: score > ALARM,
        2_000,
        ({}, {"template": "x" * 2_000}),
        refuses=True,
    ),
}
ALONE = {(Shift, ShiftColumns), (CountForecast, CountColumns), (ChangePoint, ChangePointColumns)}
"""Whose bytes are those of columns of one series."""
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def values(points: int, seed: int = 1) -> list[float]:
    """Quiet, then higher, then quiet again."""
    random = np.random.default_rng(seed)
    series = 4 + np.sin(np.arange(points) * 2 * np.pi / 12) + random.normal(0, 0.4, points)
    series[points // 2 : points // 2 + points // 8] += 14
    return series.tolist()


@each
def test_the_same_points_give_the_same_outcomes_and_the_same_bytes(case: Case) -> None:
    one, other = case.make(), case.make()
    for value in values(160):
        assert case.step(one, case.point(value)) == case.step(other, case.point(value))
    assert one.to_bytes() == other.to_bytes()


@each
@pytest.mark.parametrize("cut", [0, 1, 40, 101])
def test_a_state_comes_back_bit_for_bit_and_goes_on_as_if_nothing_had_been(case: Case, cut: int) -> None:
    through, series = case.make(), values(160)
    for value in series[:cut]:
        case.step(through, case.point(value))
    back = type(through).from_bytes(through.to_bytes())
    assert back.to_bytes() == through.to_bytes()
    for value in series[cut:]:
        assert case.step(back, case.point(value)) == case.step(through, case.point(value))
    assert back.to_bytes() == through.to_bytes()


@each
def test_a_change_is_an_alarm(case: Case) -> None:
    detector = case.make()
    assert any(case.is_alarm(case.step(detector, case.point(value))) for value in values(240))


@each
@pytest.mark.parametrize("value", [0.0, 2.0])
def test_a_series_that_never_varies_is_never_an_alarm(case: Case, value: float) -> None:
    detector = case.make()
    assert not any(case.is_alarm(case.step(detector, case.point(value))) for _ in range(150))


@each
def test_what_it_remembers_is_bounded(case: Case) -> None:
    detector = case.make()
    for place, value in enumerate(values(700, 2)):
        case.step(detector, case.point(value))
        assert place % 50 or len(detector.to_bytes()) <= case.bytes_max


@each
def test_bad_points_leave_it_as_it_was(case: Case) -> None:
    detector = case.make()
    for value in values(100):
        case.step(detector, case.point(value))
    before = detector.to_bytes()
    for bad in case.bad:
        if case.refuses:
            with pytest.raises(LocalError):
                case.step(detector, bad)
        else:
            assert not case.is_alarm(case.step(detector, bad))
        assert detector.to_bytes() == before


@each
def test_bytes_that_are_of_another_or_damaged_are_refused(case: Case) -> None:
    detector = case.make()
    for value in values(60):
        case.step(detector, case.point(value))
    data = detector.to_bytes()
    others = [type(other.make()) for other in CASES.values() if type(other.make()) is not type(detector)]
    for reader in others:
        if (type(detector), reader) not in ALONE:
            with pytest.raises(LocalError):
                reader.from_bytes(data)
    for bad in (b"", data[:3], data[:20], data[:-1], data + b"0", data[4:], b"\xff" * 40):
        with pytest.raises(LocalError):
            type(detector).from_bytes(bad)


@pytest.mark.parametrize("case", [case for case in CASES.values() if hasattr(case.make(), "clone")])
def test_a_clone_has_the_parameters_and_nothing_that_was_learned(case: Case) -> None:
    detector = case.make()
    for value in values(100):
        case.step(detector, case.point(value))
    assert detector.clone().to_bytes() == case.make().to_bytes()


class Series:
    """A series with rare spikes, as River's checks read data sets."""

    def __iter__(self) -> Iterator[tuple[dict[str, float], int]]:
        for place, value in enumerate(values(1_000, 3)[:490] * 2):
            spike = place % 97 == 96
            yield {"value": abs(value) + 20 * spike}, int(spike)


@pytest.mark.parametrize("make", [lambda: WindowNovelty(60), lambda: CountForecast(60), lambda: Newcomer(60)])
def test_rivers_own_checks_of_an_estimator_pass(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(river.checks, "_yield_datasets", lambda model, scale=1: iter([Series()]))
    for check in river.checks.yield_checks(make()):
        if check.__name__ not in {*make()._unit_test_skips(), "check_roc_auc"}:  # that one needs scikit-learn
            check(make().clone())


@pytest.mark.parametrize("make", [lambda: WindowNovelty(60), lambda: CountForecast(60)])
def test_spikes_rank_above_what_is_usual(make: Callable[[], Any]) -> None:
    detector = make()
    ranked = [(learn_and_score(detector, x), spike) for x, spike in Series()]
    spikes, usual = ([score for score, spike in ranked if spike == kind] for kind in (1, 0))
    assert np.mean([[spike > score for score in usual] for spike in spikes]) > 0.5
