"""The masked path of a round of pairs gives the same integers as the sum in the clear that the benchmark works with at full size."""

import sys
from pathlib import Path

import numpy as np
import pytest

from aicache.privacy.quantize import quantize
from aicache.privacy.sampling import Stream
from aicache.producers.vectors import vector_of
from aicache.schemas.records import Aggregate, Proposal
from aicache.streams.recommendations import gram
from support.deployment import Deployment, deployment, make_task
from support.rounds import Person

LABELS = [f"pypi:{n}" for n in range(16)]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
    import recommend_private

    return recommend_private


def baskets_of(people: int) -> list[list[list[int]]]:
    rng = np.random.default_rng(8)
    return [
        [list(map(int, rng.choice(16, size=rng.integers(2, 9), replace=False))) for _ in range(3)]
        for _ in range(people)
    ]


def played(clip: float, scale: float, noise: str = "clients") -> tuple[Deployment, list[list[list[int]]]]:
    """A whole round: real keys, ciphertexts and shares. The tests' clients add no noise, so noise `clients` opens to the clear sum."""
    play = deployment(clients=8)
    task = make_task(kind="pairs", labels=LABELS, length=16 * 17 // 2, clip=clip, scale=scale, noise=noise)
    play.world.log.append("aicache.tasks", task)
    everyone = dict(zip((person.id for person in play.world.people), baskets_of(8), strict=True))

    def vector(person: Person, proposal: Proposal) -> np.ndarray:
        data = [[LABELS[n] for n in basket] for basket in everyone[person.id]]
        return quantize(vector_of(task, data), clip=proposal.clip, scale=proposal.scale, entropy=person.entropy)

    play.vector_of = vector
    play.run(8_000)
    return play, list(everyone.values())


def opened(play: Deployment) -> tuple[Aggregate, np.ndarray]:
    (aggregate,) = play.aggregates()
    assert aggregate.n == 8
    return aggregate, np.frombuffer(aggregate.sum, dtype="<i8")


def test_the_masked_sum_is_the_benchmarks_clear_sum_to_the_last_integer(benchmark) -> None:
    play, clients = played(
        clip=100.0, scale=10.0
    )  # nothing is shortened, and every coordinate is an integer: rounding has no choice
    aggregate, masked = opened(play)
    clear, n = benchmark.clipped_sum(benchmark.triangles(clients, 16), aggregate.length, Stream(bytes(32)), 100.0, 10.0)
    assert n == 8
    assert np.array_equal(masked, clear)


def test_shortened_vectors_differ_only_by_how_each_client_rounded(benchmark) -> None:
    play, clients = played(clip=2.0, scale=500.0)
    aggregate, masked = opened(play)
    clear, _ = benchmark.clipped_sum(benchmark.triangles(clients, 16), aggregate.length, Stream(bytes(32)), 2.0, 500.0)
    assert np.array_equal(masked, play.clear_sum("tags-1"))
    assert np.abs(masked - clear).max() <= 8
    solved = [gram.solve(total / 500.0, 16, 0.0).weights for total in (masked, clear)]
    assert np.abs(solved[0] - solved[1]).max() < 0.02


def test_the_benchmarks_noise_has_the_standard_deviation_that_a_round_of_the_committee_has(benchmark) -> None:
    rounds = benchmark.Rounds(4.0, "committee", Stream(bytes(32)))
    length = 40_000
    nobody = iter([(np.array([0]), np.array([0.0]))])
    values, sigma = rounds.opened(nobody, length, 1.3)
    bound = benchmark.quantize.sensitivity(benchmark.private.CLIP, benchmark.private.SCALE, length)
    assert sigma == pytest.approx(1.3 * bound * (5 / 2) ** 0.5 / benchmark.private.SCALE)
    assert np.std(values) == pytest.approx(sigma, rel=0.03)
