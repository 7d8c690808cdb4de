"""Sketches of durations: what merging and packing keep, and how far a quantile may be off."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.sketches import (
    ALPHA,
    BUCKETS_MAX,
    SECONDS_MAX,
    SECONDS_MIN,
    count_above,
    merge,
    pack,
    quantile,
    sketch_of,
    unpack,
)

durations = st.lists(st.floats(SECONDS_MIN, SECONDS_MAX), min_size=1, max_size=60)


@given(durations)
def test_a_sketch_comes_back_from_its_bytes(values: list[float]) -> None:
    assert unpack(pack(sketch_of(values))) == sketch_of(values)


@given(durations, durations)
def test_merging_sketches_is_the_sketch_of_all_durations(left: list[float], right: list[float]) -> None:
    assert merge((sketch_of(left), sketch_of(right))) == sketch_of(left + right)


@given(durations, st.floats(0.01, 1.0))
def test_a_quantile_is_off_by_at_most_alpha_of_itself(values: list[float], q: float) -> None:
    exact = sorted(values)[max(0, math.ceil(q * len(values) - 1e-9) - 1)]
    assert abs(quantile(sketch_of(values), q) - exact) <= (ALPHA + 1e-9) * exact


@given(durations)
def test_above_nothing_lies_everything_and_above_the_largest_nothing(values: list[float]) -> None:
    assert count_above(sketch_of(values), 0) == len(values)
    assert count_above(sketch_of(values), max(values)) == 0


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, 2 * SECONDS_MAX])
def test_a_duration_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(LocalError, match="duration"):
        sketch_of([seconds])


@pytest.mark.parametrize(
    "data",
    [
        b"1234567",
        bytes(16 * (BUCKETS_MAX + 1)),
        np.array([1.0, -1.0]).tobytes(),
        np.array([1.0, math.nan]).tobytes(),
        np.array([1.5, 1.0]).tobytes(),
        np.array([1e300, 1.0]).tobytes(),
        np.array([math.nan, 1.0]).tobytes(),
        np.array([1.0, 1.0, 1.0, 1.0]).tobytes(),
        np.array([1.0, 1e300]).tobytes(),
    ],
)
def test_bytes_that_are_no_sketch_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        unpack(data)
    assert caught.value.reason == "bad-sketch"
