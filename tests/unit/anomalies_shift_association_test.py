"""Changes of a series and associations with failures: found when they are there, and only then."""

import numpy as np
import pytest
from scipy.stats import hypergeom

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors.association import Counts, associations, chosen
from aicache.streams.anomalies.detectors.shift import ALARM, Shift, ShiftColumns

WARM_UP, CHANGE = 200, 600


def test_a_shift_a_spread_and_a_lost_season_are_alarms_and_quiet_series_are_not() -> None:
    random = np.random.default_rng(1)
    wave = 3 * np.sin(np.arange(700) * 2 * np.pi / 24)
    table = random.normal(size=(700, 5)) + np.stack([wave, wave, np.zeros(700), np.zeros(700), wave], axis=1)
    table[CHANGE:, 0] += 3
    table[CHANGE:, 1] -= wave[CHANGE:]
    table[CHANGE:, 2] *= 3
    columns = ShiftColumns(5, WARM_UP, [24, 24, 0, 0, 24])
    alarms = np.stack([columns.update(row) for row in table]) > ALARM
    assert alarms[:CHANGE].sum() == 0
    assert alarms[CHANGE : CHANGE + 40].any(axis=0).tolist() == [True, True, True, False, False]


def test_the_rate_of_counts_and_one_series_alone_are_seen_the_same() -> None:
    random = np.random.default_rng(2)
    series = np.r_[random.poisson(8, CHANGE), random.poisson(24, 100)].astype(float)
    columns, one = ShiftColumns(1, WARM_UP), Shift(WARM_UP)
    expected, found = [], []
    for place, value in enumerate(series.tolist()):
        if columns.update(np.array([value]))[0] > ALARM:
            expected.append(place)
        one.update(value)
        if one.drift_detected:
            found.append(place)
    assert found == expected
    assert CHANGE <= found[0] < CHANGE + 10


def test_a_series_that_never_varied_and_then_does_is_an_alarm() -> None:
    shift = Shift(warm_up=50)
    found = []
    for place in range(100):
        shift.update(7.0 if place < 80 else 9.0)
        found.append(shift.drift_detected)
    assert not any(found[:80])
    assert any(found[80:])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LocalError):
        ShiftColumns(2, 40, [0, 24])
    with pytest.raises(LocalError):
        ShiftColumns(2, 40).update(np.array([1.0, np.nan]))
    shift = Shift(warm_up=50)
    shift.update(float("nan"))
    assert not shift.drift_detected


def crowd(seed: int, risk: float) -> Counts:
    """Two strata: in the second both the candidate 1 and failures are frequent; candidate 0 has the risk."""
    random = np.random.default_rng(seed)
    exposed, bad, clients, failing = [], [], [], []
    for base, use in ((0.02, 0.1), (0.12, 0.6)):
        has = random.random((8_000, 50)) < 0.1
        has[:, 1] = random.random(8_000) < use
        fails = random.random(8_000) < base * np.where(has[:, 0], risk, 1)
        exposed.append(has.sum(axis=0))
        bad.append(has[fails].sum(axis=0))
        clients.append(8_000)
        failing.append(fails.sum())
    return Counts(*(np.array(part, dtype=np.float64) for part in (exposed, bad, clients, failing)))


def test_a_planted_association_is_found_and_a_confounded_one_only_without_strata() -> None:
    counts = crowd(1, 2.0)
    (found,) = associations(counts)
    assert found.candidate == 0
    assert found.low < 2.0 < found.high
    flat = Counts(
        counts.exposed.sum(axis=0, keepdims=True),
        counts.exposed_failing.sum(axis=0, keepdims=True),
        counts.clients.sum(keepdims=True),
        counts.failing.sum(keepdims=True),
    )
    assert 1 in {one.candidate for one in associations(flat)}


def test_without_an_association_nothing_is_told_in_most_runs() -> None:
    assert sum(bool(associations(crowd(seed, 1.0))) for seed in range(20)) <= 2


def test_noise_widens_the_interval_and_empty_and_negative_cells_do_no_harm() -> None:
    counts = crowd(2, 3.0)
    noisy = Counts(counts.exposed, counts.exposed_failing, counts.clients, counts.failing, sigma=15.0)
    (plain,), (wide,) = associations(counts), associations(noisy)
    assert wide.low < plain.low < plain.high < wide.high
    zeros = np.zeros((2, 3))
    assert associations(Counts(zeros - 1, zeros - 1, np.zeros(2), np.zeros(2), 5.0)) == []


def test_bad_counts_are_refused() -> None:
    zeros = np.zeros((2, 3))
    with pytest.raises(LocalError):
        associations(Counts(zeros, zeros[:1], np.zeros(2), np.zeros(2)))
    with pytest.raises(LocalError):
        associations(Counts(zeros + np.nan, zeros, np.zeros(2), np.zeros(2)))


@pytest.mark.parametrize(
    ("clients", "failing", "exposed"), [(20_000, 1_000, 2_000), (5_000, 125, 500), (5_000, 250, 40)]
)
@pytest.mark.parametrize("small", [1e-2, 1e-4, 1e-6])
def test_rare_failures_are_judged_by_a_tail_as_long_as_the_exact_one(
    clients: int, failing: int, exposed: int, small: float
) -> None:
    exact = hypergeom(clients, failing, exposed)
    seen = int(exact.isf(small))
    numbers = [np.array([[float(exposed)]]), np.array([[float(seen)]]), np.array([float(clients)])]
    (told,) = associations(Counts(*numbers, np.array([float(failing)])), 1.0)
    assert 0.95 * exact.sf(seen - 1) <= told.p_value <= 5 * exact.sf(seen - 1)


def test_rejections_follow_benjamini_and_yekutieli() -> None:
    assert chosen(np.array([0.9, 0.0001, 0.002, 0.5]), 0.05) == [1, 2]
    assert chosen(np.array([]), 0.05) == []
    assert chosen(np.array([0.9, 0.0001, 0.02, 0.5]), 0.05) == [1]
    assert chosen(np.array([0.9, 0.0001, 0.02, 0.5]), 0.05, dependent=False) == [1, 2]
