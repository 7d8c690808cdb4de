"""Counts and durations: the unusual for its time, when a rate changed, which quantile has grown; quiet where nothing happens."""

from typing import Any

import numpy as np
import pytest

from aicache.privacy.errors import LocalError
from aicache.privacy.sketches import sketch_of
from aicache.streams.anomalies.detectors.changepoint import ALARM as CHANGED
from aicache.streams.anomalies.detectors.changepoint import ChangePoint, ChangePointColumns
from aicache.streams.anomalies.detectors.counts import ALARM, CountColumns, CountForecast
from aicache.streams.anomalies.detectors.quantiles import QuantileShift

SERIES, WINDOWS, PERIOD = 120, 600, 24


def table(seed: int, *, season: bool = False, trend: bool = False, spread: float = 0.0) -> Any:
    """Counts by window and series, of rates 0.5 to 50."""
    random = np.random.default_rng(seed)
    time = np.arange(WINDOWS)[:, None]
    rate = np.repeat(random.uniform(0.5, 50, SERIES)[None, :], WINDOWS, axis=0)
    if season:
        rate = rate * (1 + 0.7 * np.sin(2 * np.pi * (time + random.integers(PERIOD, size=SERIES)) / PERIOD))
    if trend:
        rate = rate * np.exp(random.uniform(-0.003, 0.003, SERIES) * time)
    if spread:
        rate = rate * random.gamma(1 / spread, spread, size=rate.shape)
    return random.poisson(rate).astype(float)


def p_values(counts: Any, period: int = 0) -> Any:
    columns = CountColumns(counts.shape[1], warm_up=100, period=period)
    found = []
    for row in counts:
        columns.update(row)
        found.append(columns.p_values)
    return np.array(found[100:])


@pytest.mark.parametrize(
    ("kind", "period"),
    [
        ({}, 0),
        ({"trend": True}, 0),
        ({"season": True}, PERIOD),
        ({"spread": 0.2}, 0),
        ({"season": True, "trend": True, "spread": 0.2}, PERIOD),
    ],
)
def test_p_values_of_quiet_counts_are_as_seldom_small_as_they_say(kind: dict[str, Any], period: int) -> None:
    found = p_values(table(1, **kind), period)
    for alpha in (0.1, 0.01, 0.001):
        assert (found <= alpha).mean() <= 1.1 * alpha
    assert (found <= 0.1).mean() >= 0.04  # nor is it deaf


def test_what_a_season_explains_is_no_alarm_and_the_same_count_at_another_hour_is() -> None:
    time = np.arange(400)
    counts = np.random.default_rng(3).poisson(20 * (1 + 0.9 * np.sin(2 * np.pi * time / PERIOD)))
    counts[330] = 38  # usual at 6, not at 18 o'clock
    forecast, alarms = CountForecast(warm_up=100, period=PERIOD), []
    for place, count in enumerate(counts.tolist()):
        if forecast.score_one({"failures": count}) > ALARM:
            alarms.append(place)
        forecast.learn_one({"failures": count})
    assert alarms == [330]


def test_a_rate_that_triples_is_found_in_five_windows_and_then_followed() -> None:
    random = np.random.default_rng(4)
    counts = table(5)
    counts[400:] = random.poisson(3 * counts[100:400].mean(axis=0), size=counts[400:].shape)
    busy = counts[:400].mean(axis=0) > 5
    columns = CountColumns(SERIES, warm_up=100)
    scores = np.array([columns.update(row) for row in counts])
    assert (scores[400:405] > ALARM).any(axis=0)[busy].mean() >= 0.95
    assert (scores[550:] > ALARM).mean() <= 0.002


def test_a_first_failure_after_long_silence_is_no_alarm_and_a_burst_is() -> None:
    forecast = CountForecast(warm_up=50)
    for _ in range(400):
        forecast.learn_one({"failures": 0})
    assert forecast.score_one({"failures": 1}) < ALARM
    assert forecast.score_one({"failures": 20}) > ALARM
    assert forecast.p_value({"failures": 0}) > 0.5


@pytest.mark.parametrize("bad", [{"a": -1}, {"a": float("nan")}, {"a": 1, "b": 2}, {}])
def test_what_is_no_count_is_refused(bad: dict[Any, Any]) -> None:
    forecast = CountForecast()
    with pytest.raises(LocalError):
        forecast.learn_one(bad)
    with pytest.raises(LocalError):
        forecast.score_one(bad)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CountColumns(3, warm_up=40, period=24),
        lambda: ChangePointColumns(3, warm_up=5),
        lambda: ChangePointColumns(3, every=1),
        lambda: QuantileShift(q=1.0),
        lambda: QuantileShift(alpha=0.0),
    ],
)
def test_detectors_that_cannot_work_are_refused(make: Any) -> None:
    with pytest.raises(LocalError):
        make()


@pytest.mark.parametrize("factor", [0.3, 2.0, 4.0])
def test_a_change_of_rate_is_found_with_its_time_and_size(factor: float) -> None:
    random = np.random.default_rng(6)
    rates = random.uniform(8, 40, 60)
    counts = np.concatenate([random.poisson(rates, (300, 60)), random.poisson(factor * rates, (20, 60))]).astype(float)
    columns = ChangePointColumns(60)
    scores = np.array([columns.update(row) for row in counts])
    assert (scores[300:] > CHANGED).any(axis=0).mean() >= 0.95
    assert (scores[40:300] > CHANGED).any(axis=0).mean() <= 0.1
    assert np.median(np.abs(columns.run_lengths - 20)) <= 1
    assert np.median(columns.rates / (factor * rates)) == pytest.approx(1, abs=0.1)


def test_counts_that_vary_more_than_poissons_change_no_rate() -> None:
    random = np.random.default_rng(7)
    rates = random.uniform(5, 40, 100) * random.gamma(5, 0.2, size=(300, 100))
    columns = ChangePointColumns(100)
    above = np.array([columns.update(row) > CHANGED for row in random.poisson(rates).astype(float)])
    assert (above[1:] & ~above[:-1]).sum() <= 0.002 * above.size


def test_one_series_alone_is_told_of_a_change_once() -> None:
    random = np.random.default_rng(8)
    change, found = ChangePoint(), []
    for place, count in enumerate(np.r_[random.poisson(5, 200), random.poisson(20, 100)].tolist()):
        change.update(count)
        if change.drift_detected:
            found.append((place, change.run_length))
    ((place, age),) = found
    assert 200 <= place <= 204
    assert place - age + 1 in (199, 200, 201)
    assert change.rate == pytest.approx(20, rel=0.1)
    with pytest.raises(LocalError):
        change.update(-1)


def durations(seed: int, windows: int, factor: float = 1.0) -> list[dict[float, float]]:
    random = np.random.default_rng(seed)
    return [sketch_of((factor * random.lognormal(0, 1, 30)).tolist()) for _ in range(windows)]


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_slower_durations_are_found_with_how_much_slower_they_are(factor: float) -> None:
    soon = inside = 0
    for seed in range(15):
        shift = QuantileShift()
        assert not any(shift.learn_one(sketch) for sketch in durations(seed, 50))
        after = [shift.learn_one(sketch) for sketch in durations(100 + seed, 20, factor)]
        soon += True in after
        if shift.effect is not None:
            inside += shift.effect.low <= factor <= shift.effect.high
            assert shift.effect.low > 1.05
            assert 0.55 < shift.effect.superiority < 0.9
            assert shift.effect.low <= shift.effect.ratio <= shift.effect.high
    assert soon >= 14
    assert inside >= 11


def test_durations_that_stay_or_become_shorter_are_no_alarm_and_what_was_alarmed_is_usual_then() -> None:
    for seed in range(10):
        shift = QuantileShift()
        assert not any(shift.learn_one(sketch) for sketch in durations(seed, 150))
        assert not any(shift.learn_one(sketch) for sketch in durations(seed, 20, 0.3))
    shift = QuantileShift()
    told = [shift.learn_one(sketch) for sketch in durations(1, 40) + durations(2, 150, 4.0)]
    assert told.count(True) == 1
    assert 40 <= told.index(True) < 50


def test_a_change_too_small_to_matter_is_no_alarm_however_sure() -> None:
    shift = QuantileShift(ratio_min=2.0)
    assert not any(shift.learn_one(sketch) for sketch in durations(1, 30) + durations(2, 100, 1.5))


def test_windows_without_durations_say_nothing() -> None:
    shift = QuantileShift()
    for sketch in durations(1, 30):
        shift.learn_one(sketch)
    before = shift.to_bytes()
    assert not shift.learn_one({})
    assert shift.to_bytes() == before
