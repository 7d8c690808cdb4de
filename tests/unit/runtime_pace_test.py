"""Batches become as large as their time allows, at once where they are quick, and never larger than their bounds."""

from hypothesis import given
from hypothesis import strategies as st

from aicache.streams.runtime.pace import BATCH_S, GROWTH_MAX, SIZE_FIRST, SIZE_MAX, SIZE_MIN, Pace


def caught_up(seconds_a_record: float, batches: int) -> Pace:
    """After so many full batches of a backlog."""
    pace = Pace()
    for _ in range(batches):
        pace.took(pace.size, pace.size * seconds_a_record, full=True)
    return pace


def test_a_backlog_of_quick_records_is_read_in_the_largest_batches_after_three() -> None:
    assert caught_up(10e-6, 3).size == SIZE_MAX


@given(st.floats(1e-7, 1.0))
def test_full_batches_settle_where_they_take_between_half_and_all_of_their_time(seconds_a_record: float) -> None:
    size = caught_up(seconds_a_record, 40).size
    seconds = size * seconds_a_record
    assert seconds <= BATCH_S or size == SIZE_MIN
    assert seconds >= BATCH_S / 2 - seconds_a_record or size == SIZE_MAX


@given(st.lists(st.tuples(st.integers(0, 2 * SIZE_MAX), st.floats(0, 600), st.booleans())))
def test_whatever_batches_take_their_size_stays_within_its_bounds(told: list[tuple[int, float, bool]]) -> None:
    pace = Pace()
    for inputs, seconds, full in told:
        before = pace.size
        pace.took(inputs, seconds, full=full)
        assert SIZE_MIN <= pace.size <= min(SIZE_MAX, GROWTH_MAX * before)


def test_batches_that_are_not_full_say_nothing_about_larger_ones() -> None:
    pace = Pace()
    pace.took(5, 0.001, full=False)
    assert pace.size == SIZE_FIRST
