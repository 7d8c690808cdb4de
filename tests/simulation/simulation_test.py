"""A thousand seeds of the simulation under every fault, every planted bug found, and a failure that replays."""

import pytest

from simulation.planted import redelivered_inputs_count_again
from simulation.run import ROUNDS_FAULTS, find_planted, play

DATA_PLANE = {
    "clock jump",
    "compaction",
    "crash after the commit",
    "crash at a write",
    "crash with a transaction open",
    "delay",
    "duplicate",
    "lost acknowledgement",
    "lost acknowledgement of a commit",
    "rebalance",
    "rebalance in mid-batch",
    "redelivery",
    "reorder across partitions",
    "slow disk",
    "zombie",
}
IN_ROUNDS = {
    "client vanishes",
    "clock jump",
    "coordinator killed",
    "coordinator killed before its write",
    "duplicate",
    "member cut off",
    "member killed",
    "member killed at a write",
    "reducer killed",
    "torn state file",
}


@pytest.mark.parametrize("first", [0, 500])
def test_seeds_keep_every_promise_under_faults(first: int) -> None:
    result = play(first, 500)
    assert result.failed == []
    assert result.rounds_opened > 50
    assert set(result.faults) >= DATA_PLANE | {ROUNDS_FAULTS + fault for fault in IN_ROUNDS}


def test_every_planted_bug_is_found() -> None:
    assert {name: seed for name, seed in find_planted().items() if seed is None} == {}


def test_a_seed_that_fails_fails_again_and_tells_what_went_wrong_before() -> None:
    with redelivered_inputs_count_again():
        once, again = play(0, 4), play(0, 4)
    assert once.failed
    assert once.failed == again.failed
    _, why, trace = once.failed[0]
    assert "exactly once" in why or "went back" in why
    assert any("ms  redelivery of partition" in line for line in trace)
