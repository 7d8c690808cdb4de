"""Shares of noise: any h of them are one discrete Laplace, and the promise that follows."""

import math
import os
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aicache.privacy import accounting, noise, polya
from aicache.privacy.errors import LocalError
from support.seeded import byte_source


@pytest.mark.parametrize(("scale", "honest"), [(1.0, 2), (0.5, 3), (7.25, 1), (40.0, 5)])
def test_the_table_of_a_share_is_the_negative_binomial(scale: float, honest: int) -> None:
    weights = np.array([weight / 2**128 for weight in polya._table(scale, honest).weights])
    places = np.arange(len(weights))
    np.testing.assert_allclose(
        weights, stats.nbinom.pmf(places, 1 / honest, -math.expm1(-1 / scale)), rtol=1e-9, atol=1e-25
    )


@pytest.mark.parametrize(("scale", "honest"), [(1.0, 2), (3.5, 3)])
def test_so_many_tables_convolved_are_the_discrete_laplace(scale: float, honest: int) -> None:
    one = np.array([weight / 2**128 for weight in polya._table(scale, honest).weights])[:120]
    whole = np.array([1.0])
    for _ in range(honest):
        whole = np.convolve(np.convolve(whole, one), one[::-1])
    middle = len(whole) // 2
    places = np.arange(-40, 41)
    laplace = np.exp(-np.abs(places) / scale) * math.tanh(1 / (2 * scale))
    np.testing.assert_allclose(whole[middle - 40 : middle + 41], laplace, rtol=1e-6, atol=1e-12)


def test_shares_of_those_who_are_honest_add_up_to_the_whole_noise() -> None:
    source = byte_source("shares")
    total = sum(polya.share(1.0, 2, 400_000, source) for _ in range(2))
    other = noise.discrete_laplace(1.0, 400_000, source)
    table = np.array([np.bincount(np.clip(v, -9, 9) + 9, minlength=19) for v in (total, other)])
    assert stats.chi2_contingency(table).pvalue > 1e-8
    assert np.std(total) == pytest.approx(polya.sigma(1.0), rel=0.01)


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=8), st.integers(1, 50))
def test_a_tally_is_within_its_bound_and_points_the_same_way(values: list[int], clip: int) -> None:
    vector = np.array(values, dtype=np.int64)
    kept = polya.tally(vector, clip)
    assert np.abs(kept).sum() <= clip
    assert (kept * np.sign(vector) >= 0).all()
    assert (np.abs(kept) <= np.abs(vector)).all()
    if np.abs(vector).sum() <= clip:
        assert (kept == vector).all()


def test_what_one_client_changes_is_bounded_by_epsilon() -> None:
    scale = 2.0
    shares = [polya._table(scale, 2).weights for _ in range(2)]
    one = np.array([weight / 2**128 for weight in shares[0]])[:200]
    law = np.convolve(np.convolve(one, one[::-1]), np.convolve(one, one[::-1]))
    middle = len(law) // 2
    ratio = law[middle - 60 : middle + 60] / law[middle - 59 : middle + 61]
    epsilon = polya.guarantee(1, scale, 3, 2, 1e-6).epsilon
    assert epsilon == 0.5
    assert np.abs(np.log(ratio)).max() <= epsilon * (1 + 1e-6)


def test_a_guarantee_is_pure_in_one_round_and_adds_up_over_many() -> None:
    one = polya.guarantee(1, 1.0, 5, 3, 1e-6)
    assert (one.epsilon, one.mechanism, one.honest) == (1.0, "discrete-laplace", 2)
    assert accounting.epsilon_from_rdp(one.rdp, 1e-6) <= 1.01
    assert accounting.epsilon_from_rdp(10 * np.array(one.rdp), 1e-6) <= 10.1
    assert float(Fraction(one.sigma).limit_denominator(10**6)) == pytest.approx(1.357, abs=1e-3)


@pytest.mark.parametrize(
    ("scale", "honest", "size"), [(0.0, 2, 1), (math.nan, 2, 1), (1e9, 2, 1), (1.0, 0, 1), (1.0, 65, 1), (1.0, 2, -1)]
)
def test_numbers_out_of_range_draw_nothing(scale: float, honest: int, size: int) -> None:
    def never(size: int) -> bytes:
        raise AssertionError("entropy was asked for")

    with pytest.raises(LocalError):
        polya.share(scale, honest, size, never)


def test_what_has_no_guarantee_is_refused() -> None:
    for bad in ((0, 1.0, 3, 2, 1e-6), (1, -1.0, 3, 2, 1e-6), (1, 1.0, 3, 2, 0.0)):
        with pytest.raises(LocalError):
            polya.guarantee(*bad)
    with pytest.raises(LocalError):
        polya.tally(np.zeros(2), 1)  # type: ignore[arg-type]
    with pytest.raises(LocalError):
        polya.tally(np.zeros(2, dtype=np.int64), 0)


def test_every_share_is_drawn_afresh() -> None:
    assert (polya.share(3.0, 2, 500, os.urandom) != polya.share(3.0, 2, 500, os.urandom)).any()
