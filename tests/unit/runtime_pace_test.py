"""The size of the direct shell's batches."""

from hypothesis import given
from hypothesis import strategies as st

from aicache.streams.runtime.pace import BATCH_S, SIZE_FIRST, SIZE_MAX, SIZE_MIN, Pace


@given(st.lists(st.tuples(st.integers(1, 2 * SIZE_MAX), st.floats(0, 600), st.booleans())))
def test_a_batch_has_a_bound_whatever_the_times_were(batches: list[tuple[int, float, bool]]) -> None:
    pace = Pace()
    for inputs, seconds, full in batches:
        pace.took(inputs, seconds, full=full)
        assert SIZE_MIN <= pace.size <= SIZE_MAX


def test_batches_grow_while_full_ones_are_quick_and_a_batch_that_was_not_full_tells_nothing() -> None:
    pace = Pace()
    pace.took(10, 0.001, full=False)
    assert pace.size == SIZE_FIRST
    for _ in range(20):
        pace.took(pace.size, 0.001, full=True)
    assert pace.size == SIZE_MAX


def test_a_slow_logic_gets_batches_of_about_the_time_that_one_may_take() -> None:
    """1 ms an input: what has begun must be finished before a partition can be handed over."""
    pace = Pace()
    for _ in range(20):
        pace.took(pace.size, pace.size * 0.001, full=True)
    assert BATCH_S / 4 <= pace.size * 0.001 <= BATCH_S
