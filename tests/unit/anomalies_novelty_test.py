"""The detector of real-valued series: River's interface, columns alike, and what it must and must not tell."""

from typing import Any

import numpy as np
import pytest

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors.novelty import ALARM, Parameters, WindowNovelty
from aicache.streams.anomalies.detectors.novelty_columns import WindowNoveltyColumns


def scores(series: Any, warm_up: int = 200, parameters: Parameters | None = None) -> np.ndarray[Any, Any]:
    detector = WindowNovelty(warm_up, parameters)
    return np.array([detector.update(float(value)) for value in series])


def daily(points: int, seed: int = 1) -> Any:
    random = np.random.default_rng(seed)
    return np.sin(np.arange(points) * 2 * np.pi / 48) + random.normal(0, 0.1, points)


def test_scoring_changes_nothing_and_learning_after_it_is_the_same_as_both_in_one() -> None:
    series = daily(700)
    series[500:520] += 5
    both, apart, without = WindowNovelty(200), WindowNovelty(200), WindowNovelty(200)
    for value in series.tolist():
        score = both.update(value)
        assert apart.score_one({"value": value}) == apart.score_one({"value": value}) == score
        apart.score_one({"value": value + 1})
        apart.learn_one({"value": value})
        without.learn_one({"value": value})
    assert without.score_one({"value": 3.0}) == both.score_one({"value": 3.0}) == apart.score_one({"value": 3.0})


def test_columns_score_as_single_series_do() -> None:
    short = Parameters(windows=70)  # so that old windows are forgotten in both
    random = np.random.default_rng(2)
    table = np.stack([daily(900, 3), random.normal(size=900), random.poisson(2, 900).astype(float), np.full(900, 4.0)])
    table[1, 600:] += 6
    columns = WindowNoveltyColumns(4, 200, short)
    together = np.array([columns.update(row) for row in table.T]).T
    np.testing.assert_allclose(together, [scores(series, 200, short) for series in table], atol=1e-9)


@pytest.mark.parametrize("change", [lambda s: s + 4, lambda s: s * 5, lambda s: s * 0 + 9])
def test_a_series_that_changes_is_an_alarm_soon(change: Any) -> None:
    series = daily(800)
    series[600:] = change(series[600:])
    fired = np.flatnonzero(scores(series) > ALARM)
    assert 600 <= fired[fired >= 600][0] <= 640


def test_nothing_is_told_while_warming_up_and_an_alarm_is_followed_by_a_pause() -> None:
    series = np.r_[daily(400), daily(400, 2) + 8]
    found = scores(series)
    assert not found[:200].any()
    first = int(np.flatnonzero(found[400:] > ALARM)[0]) + 400
    assert not found[first + 1 : first + 32].any()


def test_a_series_that_never_varies_is_silent_and_its_first_change_is_not() -> None:
    series = np.full(800, 45.0)
    assert not (scores(series) > ALARM).any()
    series[700] = 46.0
    assert np.flatnonzero(scores(series) > ALARM).tolist() == [700]


def test_quiet_series_are_seldom_an_alarm() -> None:
    assert sum(int((scores(daily(3_000, seed)) > ALARM).sum()) for seed in range(10)) <= 30


def test_what_is_no_finite_number_is_left_out() -> None:
    one, other = WindowNovelty(50), WindowNovelty(50)
    for value in daily(200).tolist():
        one.learn_one({"value": value})
        other.learn_one({"value": value})
        assert one.score_one({"value": float("nan")}) == 0.0
        one.learn_one({"value": float("inf")})
    assert one.score_one({"value": 9.0}) == other.score_one({"value": 9.0})
    assert one.score_one({"value": 1e300}) > ALARM


def test_bad_points_are_refused_and_leave_the_detector_as_it_was() -> None:
    with pytest.raises(LocalError):
        WindowNovelty(5).learn_one({"a": 1.0, "b": 2.0})
    columns = WindowNoveltyColumns(2, 5)
    for bad in (np.zeros(3), np.array([1.0, np.nan])):
        with pytest.raises(LocalError):
            columns.update(bad)
    assert columns._first == []


def test_it_can_be_cloned_as_every_estimator_of_river() -> None:
    detector = WindowNovelty(warm_up=77)
    assert detector.clone().warm_up == 77
