import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.privacy import rings
from aicache.privacy.errors import LocalError
from support import naive

N = naive.N
KEY_MAX, OPENED_MAX = 160, 32_760


def _signs(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int64), N)


def _worst_elements(count: int) -> dict[str, np.ndarray]:
    """Polynomials whose every piece has the largest magnitude that a centred piece can have."""
    bits = 48 // count
    lowest = -sum(1 << (bits - 1 + bits * index) for index in range(count)) % naive.Q
    alternating = np.full(N, lowest, np.uint64)
    highest = sum(((1 << (bits - 1)) - 1) << (bits * index) for index in range(count))
    alternating[1::2] = highest
    random = np.where(_signs(3) > 0, lowest, highest).astype(np.uint64)
    return {"lowest": np.full(N, lowest, np.uint64), "alternating": alternating, "random": random}


def _worst_factors(largest: int) -> dict[str, np.ndarray]:
    alternating = np.full(N, largest, np.int64)
    alternating[1::2] = -largest
    return {
        "highest": np.full(N, largest),
        "lowest": np.full(N, -largest),
        "alternating": alternating,
        "random": largest * _signs(4),
    }


CASES = [
    (count, largest, element, factor)
    for count, largest in ((2, KEY_MAX), (3, OPENED_MAX))
    for element in ("lowest", "alternating", "random")
    for factor in ("highest", "lowest", "alternating", "random")
]


def _product(element: np.ndarray, factor: np.ndarray, count: int, largest: int) -> np.ndarray:
    product = rings.multiply(rings.pieces(element, count), rings.transform(factor), largest, N)
    return product & np.int64(naive.Q - 1)


@pytest.mark.parametrize(("count", "largest", "element", "factor"), CASES)
def test_products_are_exact_at_the_bound(count: int, largest: int, element: str, factor: str) -> None:
    """The inputs have the largest norms that the client's and the opening's operands can have."""
    a, s = _worst_elements(count)[element], _worst_factors(largest)[factor]
    assert _product(a, s, count, largest).tolist() == naive.multiply(a.tolist(), s.tolist())


@pytest.mark.parametrize(("count", "largest", "element", "factor"), CASES)
def test_the_error_before_rounding_stays_below_the_proven_bound(
    count: int, largest: int, element: str, factor: str
) -> None:
    a, s = _worst_elements(count)[element], _worst_factors(largest)[factor]
    bound = rings.error_bound(48 // count, largest, N)
    assert bound < 0.08
    for piece in rings.pieces(a, count):
        parts = rings.approximate(piece, rings.transform(s), N).view(np.float64)
        assert np.abs(parts - np.rint(parts)).max() <= bound


def test_two_pieces_are_refused_where_the_bound_does_not_cover_them() -> None:
    a, s = _worst_elements(2)["lowest"], _worst_factors(OPENED_MAX)["highest"]
    with pytest.raises(LocalError, match="not be exact"):
        rings.multiply(rings.pieces(a, 2), rings.transform(s), OPENED_MAX, N)


def test_pieces_put_together_are_the_polynomial() -> None:
    a = np.random.default_rng(5).integers(0, naive.Q, N, np.uint64)
    one = np.zeros(N, np.int64)
    one[0] = 1
    for count in (2, 3):
        assert _product(a, one, count, 1).tolist() == a.tolist()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(2, KEY_MAX), (3, OPENED_MAX)]), st.integers(1, N))
def test_products_of_random_polynomials_agree_with_big_integers(seed: int, kind: tuple[int, int], ones: int) -> None:
    count, largest = kind
    rng = np.random.default_rng(seed)
    a = rng.integers(0, naive.Q, N, np.uint64)
    s = rng.integers(-largest, largest + 1, N)
    s[ones:] = 0  # sparse ones too
    assert _product(a, s, count, largest).tolist() == naive.multiply(a.tolist(), s.tolist())


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, naive.Q - 1), min_size=8, max_size=8),
    st.lists(st.integers(-99, 99), min_size=8, max_size=8),
)
def test_the_reference_agrees_with_the_schoolbook(a: list[int], s: list[int]) -> None:
    assert naive.multiply(a, s) == naive.schoolbook(a, s, naive.Q)


def test_many_blocks_are_multiplied_as_each_alone() -> None:
    rng = np.random.default_rng(6)
    blocks = rng.integers(0, naive.Q, (3, N), np.uint64)
    s = rng.integers(-KEY_MAX, KEY_MAX + 1, N)
    together = _product(blocks, s, 2, KEY_MAX)
    assert (together == np.stack([_product(block, s, 2, KEY_MAX) for block in blocks])).all()
