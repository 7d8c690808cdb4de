"""Heavy names of an open vocabulary come out of noisy sketches, and the error bounds hold."""

from dataclasses import replace

import numpy as np
import pytest

from aicache.privacy.errors import LocalError
from aicache.producers.session import make_message
from aicache.producers.vectors import count_sketch, sketch_estimate, vector_of
from aicache.schemas.records import AdaptiveClipping
from aicache.streams.rounds.heavy import error_bound, heavy_names, row_failure, sketch_of
from support.deployment import deployment, make_task

DEPTH, WIDTH, NAMES = 9, 1_024, 400


def crowd(seed: int, sigma: float) -> tuple[np.ndarray, dict[str, int]]:
    """A Zipf-like open vocabulary, whose names hash differently with each seed, under Gaussian noise."""
    truth = {f"{seed}/name-{n}": int(4_000 / (n + 1) ** 1.1) for n in range(NAMES)}
    table = np.zeros(DEPTH * WIDTH)
    for name, count in truth.items():
        table += count * count_sketch([name], DEPTH, WIDTH)
    table += np.random.default_rng(seed).normal(0.0, sigma, table.shape)
    return table.reshape(DEPTH, WIDTH), truth


@pytest.mark.parametrize("seed", range(6))
def test_every_estimate_lies_within_its_bound_and_no_light_name_is_called_heavy(seed: int) -> None:
    table, truth = crowd(seed, sigma=20.0)
    asked = [*truth, *(f"{seed}/absent-{n}" for n in range(400))]
    error = error_bound(table, len(asked))
    for name in asked:
        assert abs(sketch_estimate(table, name, DEPTH, WIDTH) - truth.get(name, 0)) <= error
    found = heavy_names(table, asked, 300.0)
    assert found, "the bound is small enough to be of use"
    assert all(truth.get(heavy.name, 0) >= 300 for heavy in found)
    surely = {name for name, count in truth.items() if count >= 300 + 2 * error}
    assert surely <= {heavy.name for heavy in found}
    assert [heavy.estimate for heavy in found] == sorted((heavy.estimate for heavy in found), reverse=True)


def test_more_noise_makes_the_bound_wider_not_wrong() -> None:
    clear, truth = crowd(7, sigma=0.0)
    noisy, _ = crowd(7, sigma=300.0)
    assert error_bound(noisy, 10) > 2 * error_bound(clear, 10)
    for heavy in heavy_names(noisy, truth, 0.0):
        assert abs(heavy.estimate - truth[heavy.name]) <= heavy.error


def test_more_candidates_rows_and_certainty_are_paid_for_and_rewarded() -> None:
    assert row_failure(9, 1, 0.01) > row_failure(9, 1_000, 0.01) > row_failure(9, 1_000, 1e-6)
    assert row_failure(15, 1_000, 0.01) > row_failure(5, 1_000, 0.01)
    assert row_failure(1, 1, 0.25) == pytest.approx(0.25)


def test_the_table_comes_out_of_a_whole_round_bit_or_no_bit() -> None:
    """An adaptive clip's bit stands behind the table and is no cell of it."""
    task = make_task(
        kind="count-sketch",
        length=5 * 64,
        labels=[],
        sketch_depth=5,
        sketch_width=64,
        noise="clients",
        noise_multiplier=0.5,
        clip=4.0,
        clipping="adaptive",
        adaptive=AdaptiveClipping(0.5, 0.2, 0.5, 1.0, 16.0),
    )
    play = deployment(clients=8)
    play.world.log.append("aicache.tasks", task)

    def vector(person, proposal):
        return make_message(proposal, vector_of(task, ["pypi:common", "pypi:common"]), person.entropy)

    play.vector_of = vector
    play.run(8_000)
    (aggregate,) = play.aggregates()
    table = sketch_of(aggregate, task)
    assert table.shape == (5, 64)
    (found,) = heavy_names(table, ["pypi:common", "pypi:rare"], 1.0, failure=0.2)
    assert found.name == "pypi:common"
    assert found.estimate == pytest.approx(8 * 2 * 3.88 / (2 * 5**0.5), rel=0.1), "clipped, and counted as clipped"
    for wrong in (replace(aggregate, kind="histogram"), replace(aggregate, n=0), replace(aggregate, task_version=2)):
        with pytest.raises(LocalError, match="no count sketch"):
            sketch_of(wrong, task)


def test_chances_and_thresholds_that_mean_nothing_are_refused() -> None:
    for failure, threshold in ((0.0, 1.0), (1.0, 1.0), (0.1, float("nan"))):
        with pytest.raises(LocalError, match="failure"):
            heavy_names(np.ones((3, 8)), ["a"], threshold, failure=failure)


def test_nothing_asked_is_nothing_found_and_another_form_is_refused() -> None:
    assert heavy_names(np.zeros((3, 8)), [], 1.0) == []
    assert heavy_names(np.zeros((3, 8)), ["a"], 1.0) == []
    for table in (np.zeros(24), np.full((3, 8), np.nan)):
        with pytest.raises(LocalError, match="count sketch"):
            heavy_names(table, ["a"], 1.0)
