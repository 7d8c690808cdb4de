"""Mechanisms: unbiased, with the variance they state, and a guarantee that is true of the coins they throw."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.privacy import mechanisms
from aicache.privacy.accounting import ORDERS, epsilon_from_rdp
from aicache.privacy.errors import LocalError
from aicache.privacy.guarantees import (
    ANSWER,
    CLIENT,
    Approximate,
    Concentrated,
    Pure,
    Renyi,
    compose_guarantees,
)
from aicache.privacy.noise import exp_bounds
from support.seeded import byte_source

ANSWERS = np.repeat(np.arange(6), [40_000, 20_000, 10_000, 5_000, 1_000, 0])
TRUE = np.bincount(ANSWERS, minlength=6)


@given(st.integers(2, 5000), st.floats(0.01, 30))
@settings(max_examples=200)
def test_the_odds_of_local_answers_never_exceed_e_to_the_epsilon(categories: int, epsilon: float) -> None:
    """In rationals: the coins' thresholds are integers over 2^64, and e^ε has a bound from below."""
    whole = 1 << 64
    inverse = exp_bounds(Fraction(epsilon), 200)[1]
    truth = Fraction(mechanisms.RandomizedResponse(categories, epsilon).truth, whole)
    lie = (1 - truth) / (categories - 1)
    assert truth * inverse <= lie
    assert truth > lie
    flip = Fraction(mechanisms.UnaryEncoding(categories, epsilon).lie, whole)
    assert (1 - flip) * inverse <= flip


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 5.0])
def test_randomized_response_is_unbiased_within_its_stated_variance(epsilon: float) -> None:
    mechanism = mechanisms.RandomizedResponse(6, epsilon)
    reports = np.bincount(mechanism.respond(ANSWERS, byte_source(f"rr {epsilon}")), minlength=6)
    estimate = mechanism.estimate(reports)
    assert (np.abs(estimate.counts - TRUE) < 6 * np.sqrt(estimate.variance)).all()
    assert estimate.counts.sum() == pytest.approx(len(ANSWERS))
    assert mechanism.guarantee == Pure(epsilon, ANSWER)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 5.0])
def test_unary_encoding_is_unbiased_within_its_stated_variance(epsilon: float) -> None:
    mechanism = mechanisms.UnaryEncoding(6, epsilon)
    reports = mechanism.respond(ANSWERS, byte_source(f"oue {epsilon}")).sum(axis=0, dtype=np.int64)
    estimate = mechanism.estimate(reports, len(ANSWERS))
    assert (np.abs(estimate.counts - TRUE) < 6 * np.sqrt(estimate.variance)).all()


def test_stated_variances_are_those_of_many_repetitions() -> None:
    answers = np.repeat(np.arange(4), [300, 150, 50, 0])
    source = byte_source("variance")
    runs = 1500
    response, unary = mechanisms.RandomizedResponse(4, 1.0), mechanisms.UnaryEncoding(4, 1.0)
    true = np.bincount(answers, minlength=4).astype(np.float64)
    by_response = np.array(
        [response.estimate(np.bincount(response.respond(answers, source), minlength=4)).counts for _ in range(runs)]
    )
    by_unary = np.array(
        [unary.estimate(unary.respond(answers, source).sum(axis=0, dtype=np.int64), 500).counts for _ in range(runs)]
    )
    p = response.truth / 2**64
    for estimates, odds in ((by_response, (p, (1 - p) / 3)), (by_unary, (0.5, unary.lie / 2**64))):
        stated = mechanisms._answer_variance(true, 500, *odds)
        assert np.allclose(estimates.var(axis=0), stated, rtol=0.25)
        assert (np.abs(estimates.mean(axis=0) - true) < 6 * np.sqrt(stated / runs)).all()


def test_unary_encoding_has_the_smaller_variance_where_there_are_many_categories() -> None:
    for categories, better in ((3, "response"), (500, "unary")):
        response = mechanisms.RandomizedResponse(categories, 2.0)
        unary = mechanisms.UnaryEncoding(categories, 2.0)
        p = response.truth / 2**64
        zero = np.zeros(1)
        by_response = mechanisms._answer_variance(zero, 1.0, p, (1 - p) / (categories - 1))[0]
        by_unary = mechanisms._answer_variance(zero, 1.0, 0.5, unary.lie / 2**64)[0]
        assert (by_response < by_unary) == (better == "response")


def test_numeric_noise_has_the_scale_that_the_guarantee_needs() -> None:
    integers, pure = mechanisms.geometric(
        np.zeros(200_000, dtype=np.int64), sensitivity=3, epsilon=0.5, entropy=byte_source("geometric")
    )
    assert pure == Pure(0.5, CLIENT)
    assert float(np.abs(integers).mean()) == pytest.approx(6.0, rel=0.02)
    values, pure = mechanisms.laplace(
        np.full(100, 0.25), sensitivity=1.0, epsilon=1.0, step=0.5, entropy=byte_source("laplace")
    )
    assert pure.epsilon == 1.0
    assert (np.mod(values, 0.5) == 0).all()
    rough, rho = mechanisms.gaussian(
        np.zeros(100_000), sensitivity=1.0, sigma=4.0, step=1e-3, entropy=byte_source("gaussian")
    )
    assert float(rough.std()) == pytest.approx(4.0, rel=0.02)
    assert rho.rho == pytest.approx((1 + math.sqrt(100_000) * 1e-3) ** 2 / 32)


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=8),
    st.lists(st.floats(-1, 1), min_size=8, max_size=8),
    st.floats(0.01, 3),
)
def test_rounding_to_the_grid_never_moves_neighbours_farther_than_is_counted(
    values: list[float], moves: list[float], step: float
) -> None:
    first = np.array(values)
    second = first + np.array(moves[: len(values)])
    gap = np.abs(mechanisms._to_grid(first, step) - mechanisms._to_grid(second, step)).astype(np.float64)
    apart = np.abs(first - second)
    d = len(values)
    tiny = 1e-300
    assert gap.sum() <= mechanisms.grid_sensitivity(apart.sum() + tiny, step, d) + 1e-9
    assert np.linalg.norm(gap) <= mechanisms.grid_sensitivity(np.linalg.norm(apart) + tiny, step, d**0.5) + 1e-9


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(LocalError):
        mechanisms.laplace(np.array([value]), sensitivity=1.0, epsilon=1.0, step=1.0, entropy=byte_source("x"))


@pytest.mark.parametrize(
    ("sensitivity", "epsilon", "step"),
    [
        (0.0, 1.0, 1.0),
        (math.nan, 1.0, 1.0),
        (1.0, 0.0, 1.0),
        (1.0, math.nan, 1.0),
        (1.0, 1.0, 0.0),
        (1.0, 1.0, math.inf),
    ],
)
def test_noise_is_refused_for_numbers_that_mean_nothing(sensitivity: float, epsilon: float, step: float) -> None:
    with pytest.raises(LocalError):
        mechanisms.laplace(np.zeros(1), sensitivity=sensitivity, epsilon=epsilon, step=step, entropy=byte_source("x"))


def test_local_answers_outside_their_categories_are_refused() -> None:
    for kind in (mechanisms.RandomizedResponse, mechanisms.UnaryEncoding):
        with pytest.raises(LocalError):
            kind(1, 1.0)
        with pytest.raises(LocalError):
            kind(3, 0.0)
        for answers in ([3], [-1]):
            with pytest.raises(LocalError):
                kind(3, 1.0).respond(np.array(answers), byte_source("x"))
    with pytest.raises(LocalError):
        mechanisms.RandomizedResponse(3, 1.0).estimate(np.zeros(4, dtype=np.int64))


def test_guarantees_of_a_kind_compose_within_the_kind() -> None:
    assert compose_guarantees(Pure(1.0), Pure(0.5)) == Pure(1.5)
    assert compose_guarantees(Concentrated(0.1), Concentrated(0.2)).rho == pytest.approx(0.3)  # type: ignore[union-attr]
    assert compose_guarantees(Approximate(1.0, 1e-6), Approximate(2.0, 1e-7)) == Approximate(3.0, 1.1e-6)
    assert compose_guarantees(Pure(2.0), Approximate(1.0, 1e-6)) == Approximate(3.0, 1e-6)


def test_guarantees_of_different_kinds_meet_in_renyi_divergences() -> None:
    mixed = compose_guarantees(Pure(0.3), Concentrated(0.05))
    assert isinstance(mixed, Renyi)
    expected = np.minimum(0.3, ORDERS * 0.045) + ORDERS * 0.05
    assert np.allclose(mixed.rdp(), expected)
    assert compose_guarantees(mixed, mixed).at(1e-6) == pytest.approx(epsilon_from_rdp(2 * expected, 1e-6))  # type: ignore[union-attr]
    both = compose_guarantees(Concentrated(0.05), Approximate(1.0, 1e-6))
    assert both == Approximate(1.0 + Concentrated(0.05).at(1e-6), 2e-6)


def test_a_pure_guarantee_never_gets_worse_by_conversion() -> None:
    assert Pure(0.1).at(1e-6) == 0.1
    assert Pure(20.0).at(1e-6) <= 20.0


def test_guarantees_about_different_units_do_not_compose() -> None:
    with pytest.raises(LocalError, match="scope"):
        compose_guarantees(Pure(1.0, CLIENT), Pure(1.0, ANSWER))


@pytest.mark.parametrize("rho", [0.0, -1.0, math.nan, math.inf])
def test_guarantees_that_promise_nothing_are_refused(rho: float) -> None:
    with pytest.raises(LocalError):
        Concentrated(rho)
    with pytest.raises(LocalError):
        Pure(rho)
    with pytest.raises(LocalError):
        Approximate(1.0, rho)
