import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aicache.privacy import quantize as module
from aicache.privacy.errors import LocalError
from aicache.privacy.quantize import clip_l2, clip_layers, quantize, sensitivity
from aicache.privacy.sampling import Stream
from support import naive

finite = st.floats(allow_nan=False, allow_infinity=False)
vectors = hnp.arrays(np.float64, st.integers(1, 40), elements=finite)
clips = st.floats(1e-3, 1e3)


def _stream(seed: int) -> Stream:
    return Stream(seed.to_bytes(32, "big"))


@given(vectors, clips)
def test_clipped_vectors_have_at_most_the_norm_and_keep_their_direction(vector: np.ndarray, clip: float) -> None:
    """Also where squares overflow (1e300) or vanish (1e-300)."""
    before = vector.copy()
    clipped = clip_l2(vector, clip)
    assert (vector == before).all()
    assert math.hypot(*clipped) <= clip * (1 + 1e-12)
    norm = math.hypot(*vector)
    if norm <= clip * (1 - 1e-12):
        assert (clipped == vector).all()
    else:
        expected = vector / np.abs(vector).max()
        expected *= min(clip, norm) / math.hypot(*expected)
        assert np.allclose(clipped, expected, rtol=1e-9, atol=1e-12 * clip)


@settings(deadline=None)
@given(vectors, clips, st.floats(1e-2, 1e4), st.integers(0, 2**32))
def test_integers_stay_within_the_sensitivity_and_near_the_scaled_vector(
    vector: np.ndarray, clip: float, scale: float, seed: int
) -> None:
    rounded = quantize(vector, clip=clip, scale=scale, entropy=_stream(seed))
    assert rounded.dtype == np.int64
    norm2 = sum(int(x) ** 2 for x in rounded)
    bound = sensitivity(clip, scale, vector.size)
    assert norm2 <= bound**2 * (1 + 1e-15)
    assert bound <= scale * clip + math.sqrt(vector.size)
    assert np.abs(rounded - clip_l2(vector, clip) * scale).max() <= 1 + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=40), st.floats(0.1, 1e4), st.integers(0, 2**32))
def test_rounding_agrees_with_the_reference(vector: list[float], scale: float, seed: int) -> None:
    seed_bytes = seed.to_bytes(32, "big")
    rounded = quantize(np.array(vector), clip=1.0, scale=scale, entropy=lambda _: seed_bytes)
    assert rounded.tolist() == naive.quantize(vector, 1.0, scale, seed_bytes)


def test_worst_cases_are_redrawn_until_they_fit() -> None:
    """All fractions at one half, norm at the clip: the bound is missed often, and never exceeded in what comes out."""
    length, scale = 4096, 32.0
    vector = np.full(length, 0.5 / scale)  # scaled: norm 32 = scale · clip, every fraction one half
    bound = sensitivity(1.0, scale, length)
    norms = [
        math.sqrt(float((quantize(vector, clip=1.0, scale=scale, entropy=_stream(seed)) ** 2).sum()))
        for seed in range(200)
    ]
    assert max(norms) <= bound < scale + math.sqrt(length)
    assert max(norms) > 0.98 * bound  # the bound is not idle


def test_a_vector_that_misses_the_bound_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for the mean norm only, about half of the draws miss; none that misses comes out, and draws end."""
    length, scale = 1024, 16.0
    vector = np.full(length, 0.5 / scale)
    tight = length // 2
    monkeypatch.setattr(module, "_norm2_bound", lambda *_: tight)
    for seed in range(20):
        assert int((quantize(vector, clip=1.0, scale=scale, entropy=_stream(seed)) ** 2).sum()) <= tight
    monkeypatch.setattr(module, "_norm2_bound", lambda *_: 0)
    with pytest.raises(LocalError, match="no draw"):
        quantize(vector, clip=1.0, scale=scale, entropy=_stream(0))


def test_rounding_is_unbiased() -> None:
    """Mean over 4,000 draws of fractions 0 … 1, five standard errors; integers stay as they are."""
    vector = np.linspace(0, 1, 21)
    total = sum(quantize(vector, clip=100.0, scale=1.0, entropy=_stream(seed)) for seed in range(4000))
    mean = total / 4000
    assert (np.abs(mean - vector) <= 5 * np.sqrt(vector * (1 - vector) / 4000) + 1e-12).all()
    assert mean[0] == 0
    assert mean[-1] == 1


def test_the_sensitivity_is_the_smaller_of_the_two_bounds() -> None:
    assert sensitivity(1.0, 1000.0, 1) == 1001.0 or sensitivity(1.0, 1000.0, 1) ** 2 <= 1001.0**2
    c, d = 1000.0, 1_000_000
    conditional = c * c + d / 4 + (c + math.sqrt(d) / 2)
    assert math.isclose(sensitivity(1.0, c, d) ** 2, conditional, rel_tol=1e-6)
    assert sensitivity(1.0, c, d) < c + math.sqrt(d)
    tiny = sensitivity(1.0, 1e-3, 4)  # here the plain bound is smaller
    assert tiny**2 <= (1e-3 + 2) ** 2


def test_layers_are_clipped_each_to_its_own_norm() -> None:
    vector = np.array([3.0, 4.0, 0.1, 30.0, 40.0])
    clipped = clip_layers(vector, [2, 1, 2], [1.0, 1.0, 5.0])
    assert np.allclose(clipped, [0.6, 0.8, 0.1, 3.0, 4.0])
    for layers, bounds in (([2, 2], [1.0, 1.0]), ([2, 3], [1.0]), ([5, 0], [1.0, 1.0]), ([2, 3], [1.0, 0.0])):
        with pytest.raises(LocalError):
            clip_layers(vector, layers, bounds)


@pytest.mark.parametrize(
    "vector",
    [
        np.array([math.nan]),
        np.array([math.inf]),
        np.array([1.0, -math.inf]),
        np.array([1], np.int64),
        np.array([1.0], np.float32),
        np.array([[1.0]]),
        np.array([]),
        [1.0],
    ],
    ids=["nan", "inf", "-inf", "int64", "float32", "matrix", "empty", "list"],
)
def test_bad_vectors_are_refused(vector: np.ndarray) -> None:
    for refuse in (lambda: clip_l2(vector, 1.0), lambda: quantize(vector, clip=1.0, scale=1.0, entropy=_stream(0))):
        with pytest.raises(LocalError) as caught:
            refuse()
        assert caught.value.got is not None
        assert caught.value.needed is not None


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, 2.0**40])
def test_bad_clips_and_scales_are_refused(bad: float) -> None:
    vector = np.array([0.5])
    with pytest.raises(LocalError):
        quantize(vector, clip=bad, scale=1.0, entropy=_stream(0))
    with pytest.raises(LocalError):
        quantize(vector, clip=1.0, scale=bad, entropy=_stream(0))
    with pytest.raises(LocalError):
        sensitivity(bad, 1.0, 1)
    with pytest.raises(LocalError):
        sensitivity(1.0, 1.0, 0)
