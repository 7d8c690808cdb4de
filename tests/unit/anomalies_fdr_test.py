"""False discoveries over thousands of series stay under their rate, and what has changed is found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors.counts import CountColumns
from aicache.streams.anomalies.detectors.fdr import Lond, Lord, Saffron, gamma

SERIES, CHANGED, FDR = 5_000, 100, 0.05
RULES: list[Callable[[], Any]] = [
    lambda: Lond(FDR),
    lambda: Lond(FDR, dependent=True),
    lambda: Lord(FDR),
    lambda: Saffron(FDR),
]


@pytest.mark.parametrize("make", RULES)
def test_over_5000_series_at_most_the_stated_share_of_discoveries_is_false(make: Callable[[], Any]) -> None:
    random = np.random.default_rng(1)
    shares = []
    for _ in range(4):
        changed = random.random(SERIES) < CHANGED / SERIES
        values = np.where(changed, random.random(SERIES) * 1e-9, random.random(SERIES))
        rule = make()
        found = np.array([rule.learn_one(value) for value in values.tolist()])
        shares.append((found & ~changed).sum() / max(1, found.sum()))
        assert (found & changed).sum() >= 0.95 * changed.sum()
    assert np.mean(shares) <= FDR + 0.02  # three standard errors


def test_counts_of_5000_series_beside_each_other_are_quiet_but_for_those_that_changed() -> None:
    random = np.random.default_rng(2)
    rates = random.uniform(1, 30, SERIES)
    columns, rule = CountColumns(SERIES, warm_up=50), Lord(FDR)
    false, found = 0, set()
    for window in range(66):
        rate = rates.copy()
        if window >= 60:
            rate[:CHANGED] *= 5
        columns.update(random.poisson(rate).astype(float))
        if window >= 50:
            told = {series for series, p in enumerate(columns.p_values.tolist()) if rule.learn_one(p)}
            false += sum(series >= CHANGED or window < 60 for series in told)
            found |= {series for series in told if series < CHANGED and window >= 60}
    assert len(found) >= 0.9 * CHANGED
    assert false <= FDR * rule.discoveries


@pytest.mark.parametrize("make", RULES)
def test_without_any_change_a_discovery_is_rare(make: Callable[[], Any]) -> None:
    random = np.random.default_rng(3)
    runs = []
    for _ in range(60):
        rule = make()
        runs.append(any(rule.learn_one(p) for p in random.random(300).tolist()))
    assert np.mean(runs) <= FDR + 3 * np.sqrt(FDR / 60)


def test_tests_that_all_hang_together_make_few_false_discoveries_where_that_is_said() -> None:
    random = np.random.default_rng(4)
    runs = []
    for p in random.random(600).tolist():
        rule = Lond(FDR, dependent=True)
        runs.append(any(rule.learn_one(p) for _ in range(20)))
    assert np.mean(runs) <= FDR


def test_the_weights_of_places_add_up_to_less_than_one() -> None:
    places = np.arange(1, 1_000_001, dtype=np.float64)
    beyond = 0.76 / np.log(1e6)  # the integral from there on
    assert 0.9 < (0.76 / ((places + 1) * np.log(places + 2) ** 2)).sum() + beyond < 1
    assert gamma(1) == pytest.approx(0.76 / (2 * np.log(3) ** 2))


@pytest.mark.parametrize("make", RULES)
@given(values=st.lists(st.floats(0, 1), max_size=40), cut=st.integers(0, 40))
def test_a_rule_comes_back_from_its_bytes_and_smaller_p_values_find_no_less(
    make: Callable[[], Any], values: list[float], cut: int
) -> None:
    rule, lower = make(), make()
    for p in values[:cut]:
        rule.learn_one(p)
    back = type(rule).from_bytes(rule.to_bytes())
    assert [back.learn_one(p) for p in values[cut:]] == [rule.learn_one(p) for p in values[cut:]]
    assert back.to_bytes() == rule.to_bytes()
    for p in values:
        lower.learn_one(p / 1_000)
    assert lower.discoveries >= rule.discoveries


@pytest.mark.parametrize("make", RULES)
@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused_and_decides_nothing(make: Callable[[], Any], bad: float) -> None:
    rule = make()
    rule.learn_one(0.5)
    before = rule.to_bytes()
    with pytest.raises(LocalError):
        rule.learn_one(bad)
    assert rule.to_bytes() == before
    with pytest.raises(LocalError):
        type(rule)(2.0)


@pytest.mark.parametrize("make", [lambda: Lord(FDR), lambda: Saffron(FDR)])
def test_discoveries_without_end_take_no_more_memory(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicache.streams.anomalies.detectors.fdr.DISCOVERIES_MAX", 20)
    rule = make()
    for _ in range(200):
        assert rule.learn_one(0.0)
    assert len(rule.to_bytes()) < 500
    assert 0 < rule.level <= 0.5
