import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.parameters import N10K, N60K, MaskParameters, by_name, check_round_fits, quorum


def test_the_frozen_sets_are_those_of_the_design() -> None:
    assert (N10K.sum_bound, N60K.sum_bound) == (2**32, 2**31)
    assert N10K.remainder_bound(10_000) == 12_800 < N10K.delta // 2
    assert N60K.remainder_bound(60_000) == 31_353 < min(N60K.delta // 2, N60K.prime // 2)
    assert by_name("n10k") is N10K
    assert by_name("n60k") is N60K
    with pytest.raises(RemoteError, match="not a parameter set"):
        by_name("n1m")


@given(st.integers(0, 10**7))
def test_the_bound_on_remainders_is_the_integer_root(senders: int) -> None:
    bound = N10K.remainder_bound(senders)
    assert bound**2 <= (8 * 16) ** 2 * senders < (bound + 1) ** 2


@pytest.mark.parametrize(
    "changes",
    [
        {"senders_max": 0},
        {"senders_max": 16_384},  # 8σ√n reaches Δ/2
        {"delta_bits": 14},
        {"ring_degree": 1024},
        {"ring_degree": 3000},
        {"modulus_bits": 60},
        {"sigma": 4},
        {"sigma": 64},
        {"prime": 65_519},
    ],
)
def test_unsafe_combinations_are_refused(changes: dict[str, int]) -> None:
    values = {"senders_max": 10_000, "delta_bits": 15, **changes}
    with pytest.raises(LocalError) as caught:
        MaskParameters("unsafe", **values)
    assert caught.value.got is not None
    assert caught.value.needed is not None


def test_two_quorums_share_a_member_beyond_any_coalition_below_the_threshold() -> None:
    assert (quorum(5, 3), quorum(7, 4), quorum(7, 3), quorum(3, 2), quorum(1, 1)) == (4, 6, 5, 3, 1)
    for members in range(1, 9):
        for threshold in range(1, members + 1):
            k = quorum(members, threshold)
            assert threshold <= k <= members
            numbers = range(members)
            smallest = min(
                len(set(a) & set(b)) for a, b in itertools.product(itertools.combinations(numbers, k), repeat=2)
            )
            assert smallest >= threshold
    for members, threshold in ((5, 0), (5, 6), (0, 0)):
        with pytest.raises(LocalError):
            quorum(members, threshold)


@given(st.integers(1, 10_000), st.floats(1e-6, 1e9), st.floats(0, 1e9))
def test_a_round_fits_exactly_where_its_largest_sum_is_below_the_bound(n_max: int, c: float, sigma: float) -> None:
    fits = n_max * (c + 1) + 12 * sigma < N10K.sum_bound
    if fits:
        check_round_fits(N10K, n_max=n_max, scale=c, clip=1.0, sigma_total=sigma)
    else:
        with pytest.raises(RemoteError) as caught:
            check_round_fits(N10K, n_max=n_max, scale=c, clip=1.0, sigma_total=sigma)
        assert caught.value.reason == "round-does-not-fit"


@pytest.mark.parametrize(
    "changes",
    [
        {"n_max": 0},
        {"n_max": 10_001},
        {"n_max": 9_999, "members": 5},
        {"members": -1},
        {"scale": 0.0},
        {"scale": math.nan},
        {"clip": -1.0},
        {"clip": math.inf},
        {"sigma_total": -1.0},
    ],
)
def test_rounds_that_make_no_sense_do_not_fit(changes: dict[str, float]) -> None:
    values = {"n_max": 1000, "scale": 1000.0, "clip": 1.0, "sigma_total": 100.0, **changes}
    with pytest.raises(RemoteError) as caught:
        check_round_fits(N10K, **values)
    assert caught.value.reason == "round-does-not-fit"
