"""What rounds cost: our formulas against numbers (sums of discrete Gaussians, convolved) and against dp-accounting."""

import math
from dataclasses import fields

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.rdp import rdp_privacy_accountant
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aicache.privacy import accounting
from aicache.privacy.accounting import ORDERS
from aicache.privacy.errors import LocalError
from aicache.schemas import records


def sum_of_gaussians(sigma: float, shares: int) -> NDArray[np.float64]:
    """The law of a sum of discrete Gaussians on a symmetric range of the integers, by convolution."""
    reach = math.ceil(sigma * 14)
    x = np.arange(-reach, reach + 1)
    one = np.exp(-(x**2) / (2 * sigma**2))
    one /= one.sum()
    total = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    return total[total > 1e-280]


def renyi(law: NDArray[np.float64], shift: int, order: float) -> float:
    """D_α(law shifted ‖ law), over what both cover; leaves out only terms that are positive."""
    log_p, log_q = np.log(law[:-shift]), np.log(law[shift:])
    terms = order * log_p + (1 - order) * log_q
    top = terms.max()
    return float((top + np.log(np.exp(terms - top).sum())) / (order - 1))


@pytest.mark.parametrize(
    ("sigma", "shares", "shift"), [(2.0, 1, 1), (2.0, 2, 3), (2.0, 5, 4), (3.0, 12, 7), (0.7, 3, 1)]
)
def test_the_divergence_of_a_sum_is_never_above_the_formula_and_close_to_it(
    sigma: float, shares: int, shift: int
) -> None:
    law = sum_of_gaussians(sigma, shares)
    ours = accounting.gaussian_sum_rdp(sensitivity=float(shift), sigma_share=sigma, shares=shares, length=1)
    spread = sigma * math.sqrt(shares)
    checked = 0
    for order, bound in zip(ORDERS, ours, strict=True):
        if order * shift < 5 * spread:  # farther out the law underflows
            number = renyi(law, shift, float(order))
            assert number <= bound * (1 + 1e-9) + 1e-12
            if sigma >= 2:
                assert number >= bound * 0.999
            checked += 1
    assert checked >= 8


@pytest.mark.parametrize(("sigma", "shares", "shift"), [(2.0, 4, 2), (3.0, 9, 5), (4.0, 1, 4)])
@pytest.mark.parametrize("delta", [1e-3, 1e-6])
def test_epsilon_of_a_sum_is_above_the_privacy_loss_distribution_and_within_a_sixth(
    sigma: float, shares: int, shift: int, delta: float
) -> None:
    law = sum_of_gaussians(sigma, shares)
    points = {i: float(math.log(p)) for i, p in enumerate(law) if p > 0}
    moved = {i + shift: p for i, p in points.items()}
    exact = privacy_loss_distribution.from_two_probability_mass_functions(
        points, moved, value_discretization_interval=1e-3, pessimistic_estimate=False
    ).get_epsilon_for_delta(delta)
    rdp = accounting.gaussian_sum_rdp(sensitivity=float(shift), sigma_share=sigma, shares=shares, length=1)
    ours = accounting.epsilon_from_rdp(rdp, delta)
    assert exact - 2e-3 <= ours <= exact * 1.17 + 0.05


@pytest.mark.parametrize("rounds", [1, 10, 300])
@pytest.mark.parametrize("multiplier", [0.8, 5.0, 60.0])
def test_rounds_compose_above_the_privacy_loss_distribution(rounds: int, multiplier: float) -> None:
    rdp = accounting.compose([accounting.gaussian_rdp(1 / multiplier)] * rounds)
    ours = accounting.epsilon_from_rdp(rdp, 1e-6)
    effective = multiplier / math.sqrt(rounds)
    exact = privacy_loss_distribution.from_gaussian_mechanism(
        effective, value_discretization_interval=1e-3
    ).get_epsilon_for_delta(1e-6)
    assert exact * 0.999 - 2e-3 <= ours <= exact * 1.2 + 0.01


@pytest.mark.parametrize("multiplier", [0.3, 1.0, 4.5, 50.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-6, 1e-2])
def test_the_conversion_is_that_of_dp_accounting(multiplier: float, delta: float) -> None:
    theirs = rdp_privacy_accountant.RdpAccountant(orders=ORDERS.tolist())
    theirs.compose(dp_event.GaussianDpEvent(multiplier))
    ours = accounting.epsilon_from_rdp(accounting.gaussian_rdp(1 / multiplier), delta)
    assert ours == pytest.approx(theirs.get_epsilon(delta), rel=1e-9)
    assert accounting.delta_from_rdp(accounting.gaussian_rdp(1 / multiplier), ours) == pytest.approx(delta, rel=1e-6)


@given(st.floats(0.3, 200), st.floats(-9, -2))
@settings(max_examples=100)
def test_the_grid_of_orders_costs_under_one_percent(multiplier: float, log_delta: float) -> None:
    delta = 10**log_delta
    rdp = accounting.gaussian_rdp(1 / multiplier)
    dense = 1 + np.geomspace(0.1, 1000, 20_000)
    best = dense / (2 * multiplier**2) + np.log1p(-1 / dense) - (math.log(delta) + np.log(dense)) / (dense - 1)
    assert accounting.epsilon_from_rdp(rdp, delta) <= max(0.0, float(best.min())) * 1.01 + 1e-3


def test_tau_is_the_papers_sum_and_bounded_beyond_64_terms() -> None:
    for sigma, shares in ((0.5, 3), (0.6, 40), (0.5, 1000)):
        exact = 10 * math.fsum(math.exp(-2 * math.pi**2 * sigma**2 * k / (k + 1)) for k in range(1, shares))
        assert exact * (1 - 1e-12) <= accounting.share_tau(sigma, shares) <= exact * 1.1
    assert accounting.share_tau(2.0, 1) == 0
    assert accounting.share_tau(2.0, 10_000) * 10**7 < 1e-6


def test_small_shares_cost_more_than_one_gaussian_of_the_same_spread() -> None:
    whole = accounting.gaussian_rdp(1 / (0.6 * 3))
    shares = accounting.gaussian_sum_rdp(sensitivity=1.0, sigma_share=0.6, shares=9, length=100)
    assert (shares > whole + 10).all()


def test_a_committee_counts_only_the_members_that_must_be_honest() -> None:
    assert accounting.honest_shares("committee", 5, 3, 0) == 2
    assert accounting.honest_shares("committee", 7, 3, 0) == 3
    assert accounting.honest_shares("clients", 5, 3, 40) == 40
    assert accounting.share_sigma("committee", 100.0, 5, 3, 0) == pytest.approx(100 / math.sqrt(2))
    assert accounting.share_sigma("clients", 100.0, 5, 3, 25) == pytest.approx(20)


def test_all_the_noise_together_is_that_of_every_party_that_may_be_there() -> None:
    assert accounting.total_sigma("committee", 100.0, 5, 3, 0, 1000) == pytest.approx(100 * math.sqrt(5 / 2))
    assert accounting.total_sigma("clients", 100.0, 5, 3, 25, 100) == pytest.approx(200)


def test_a_round_is_refused_that_may_have_fewer_clients_than_are_assumed_honest() -> None:
    arguments = {"n_min": 50, "n_max": 1000, "delta": 1e-6}
    accounting.check_round(noise="clients", honest=50, **arguments)  # type: ignore[arg-type]
    accounting.check_round(noise="committee", honest=0, **arguments)  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="h = 51"):
        accounting.check_round(noise="clients", honest=51, **arguments)  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="1/n"):
        accounting.check_round(noise="committee", honest=0, n_min=50, n_max=1000, delta=1e-3)
    with pytest.raises(LocalError):
        accounting.check_round(noise="committee", honest=0, n_min=5, n_max=4, delta=1e-6)


def guarantee(**changes: object) -> accounting.RoundGuarantee:
    arguments: dict[str, object] = {
        "noise": "committee",
        "sensitivity": 1000.0,
        "sigma": 4000.0,
        "members": 5,
        "threshold": 3,
        "honest": 0,
        "length": 1000,
        "delta": 1e-6,
    }
    return accounting.round_guarantee(**{**arguments, **changes})  # type: ignore[arg-type]


def test_a_round_states_its_guarantee_in_the_fields_of_the_record() -> None:
    stated = guarantee()
    assert [f.name for f in fields(stated)] == [f.name for f in fields(records.Guarantee)]
    assert stated.epsilon == pytest.approx(accounting.epsilon_from_rdp(accounting.gaussian_rdp(0.25), 1e-6))
    assert (stated.honest, stated.unit, stated.window, stated.neighbouring) == (2, "client", "round", "add-or-remove")
    assert len(stated.rdp) == len(ORDERS)


def test_replacing_a_client_moves_the_sum_twice_as_far_as_removing_it() -> None:
    removed, replaced = guarantee(), guarantee(neighbouring="replace-one")
    assert replaced.sensitivity == 2 * removed.sensitivity
    assert np.allclose(replaced.rdp, 4 * np.array(removed.rdp))
    assert replaced.epsilon > 1.9 * removed.epsilon


def test_a_window_adds_up_the_rounds_and_keeps_what_the_last_one_says() -> None:
    one = guarantee()
    total = accounting.compose([np.array(one.rdp)] * 4)
    window = accounting.window_guarantee(one, total, "task:tags")
    assert window.epsilon == pytest.approx(guarantee(sensitivity=2000.0).epsilon)
    assert (window.window, window.delta, window.sigma) == ("task:tags", one.delta, one.sigma)


@given(st.floats(0.05, 50), st.floats(-10, -3), st.integers(1, 500))
@settings(max_examples=40)
def test_a_planned_multiplier_spends_the_epsilon_and_hardly_less(epsilon: float, log_delta: float, rounds: int) -> None:
    multiplier = accounting.noise_multiplier(epsilon, 10**log_delta, rounds)
    spent = accounting.epsilon_from_rdp(rounds * accounting.gaussian_rdp(1 / multiplier), 10**log_delta)
    assert epsilon * 0.999 - 1e-5 <= spent <= epsilon


@pytest.mark.parametrize(
    "changes",
    [
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": math.nan},
        {"sigma": 0.0},
        {"sigma": math.nan},
        {"sigma": math.inf},
        {"sigma": 2.0},
        {"sensitivity": 0.0},
        {"sensitivity": math.nan},
        {"sensitivity": math.inf},
        {"length": 0},
        {"noise": "nobody"},
        {"noise": "clients", "honest": 0},
        {"threshold": 6},
        {"threshold": 0},
        {"neighbouring": "both"},
    ],
)
def test_a_guarantee_is_refused_for_numbers_that_mean_nothing(changes: dict[str, object]) -> None:
    with pytest.raises(LocalError) as error:
        guarantee(**changes)
    assert error.value.needed is not None


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf, 1e7])
def test_an_epsilon_that_protects_nobody_is_refused(epsilon: float) -> None:
    with pytest.raises(LocalError):
        accounting.noise_multiplier(epsilon, 1e-6)
    with pytest.raises(LocalError):
        accounting.check_epsilon(epsilon)


def test_a_delta_that_lets_one_of_n_go_unprotected_is_refused() -> None:
    accounting.check_delta(9e-4, n=1000)
    with pytest.raises(LocalError, match="below 1/n"):
        accounting.check_delta(1e-3, n=1000)


@pytest.mark.parametrize("ledger", [[1.0], [-1.0] * 48, [math.nan] * 48])
def test_a_ledger_of_the_wrong_shape_is_refused(ledger: list[float]) -> None:
    with pytest.raises(LocalError):
        accounting.epsilon_from_rdp(ledger, 1e-6)
    with pytest.raises(LocalError):
        accounting.compose([np.zeros(48), np.array(ledger)])


def test_the_orders_are_frozen_because_every_ledger_is_written_in_them() -> None:
    assert len(ORDERS) == 48
    assert (ORDERS[0], ORDERS[24], ORDERS[-1]) == (1.1, 12.0294, 1001.0)
    with pytest.raises(ValueError, match="read-only"):
        ORDERS[0] = 2.0
