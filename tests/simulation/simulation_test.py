"""A thousand seeds of the simulation, and every planted bug found."""

from simulation.run import find_planted, play


def test_seeds_keep_every_promise_under_faults() -> None:
    result = play(0, 250)
    assert result.failed == []
    assert result.rounds_opened > 50
    assert len(result.faults) >= 12


def test_every_planted_bug_is_found() -> None:
    assert {name: seed for name, seed in find_planted().items() if seed is None} == {}
