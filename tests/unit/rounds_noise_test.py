"""The noise that an aggregate tells is the noise that is in it: of whoever was listed, in each group, under each rule."""

import math
from dataclasses import replace

import numpy as np
import pytest

from aicache.privacy import accounting
from aicache.privacy.errors import RemoteError
from aicache.privacy.noise import discrete_gaussian
from aicache.schemas.records import (
    Manifest,
    ManifestEntry,
    ManifestGroup,
    ManifestMember,
    MemberVector,
    Place,
    Proposal,
)
from aicache.streams.reducer.noise import noise_of
from aicache.streams.reducer.opening import combine_groups, means_averaged
from aicache.streams.rounds.task import present_sigma
from support.deployment import Deployment, deployment, make_task
from support.rounds import DEPLOYMENT, Person, World

LENGTH = 8_000
TOLERANCE = 4 / math.sqrt(2 * LENGTH)
"""Four standard errors of a standard deviation over so many coordinates: 3%. One member more or less is 12%."""


def played(noise: str, groups: int, silent: set[int]) -> tuple[Deployment, dict[bytes, np.ndarray]]:
    """A round, and what each client had before noise."""
    play = deployment(clients=12, seed=f"noise/{noise}/{groups}/{sorted(silent)}")
    play.world.silent = silent
    clear: dict[bytes, np.ndarray] = {}

    def vector(person: Person, proposal: Proposal) -> np.ndarray:
        own = clear[person.id] = np.zeros(LENGTH, dtype=np.int64)
        own[person.entropy(1)[0]] = int(proposal.clip * proposal.scale)
        if proposal.noise == "committee":
            return own
        return own + discrete_gaussian(proposal.sigma / proposal.honest**0.5, LENGTH, person.entropy)

    play.vector_of = vector
    play.world.log.append(
        "aicache.tasks",
        make_task(length=LENGTH, kind="sum", labels=[], noise=noise, groups=groups, n_min=2, honest=2, scale=1_000.0),
    )
    play.run(10_000)
    return play, clear


@pytest.mark.parametrize("noise", ["committee", "clients"])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("silent", [set(), {2}], ids=["all members", "a member missing"])
def test_the_noise_that_an_aggregate_tells_is_what_is_found_in_it(noise: str, groups: int, silent: set[int]) -> None:
    play, clear = played(noise, groups, silent)
    (aggregate,) = play.aggregates()
    (manifest,) = play.world.log.records("aicache.rounds", Manifest)
    counted = [entry.client for group in manifest.groups for entry in group.clients]
    found = float(np.std(np.frombuffer(aggregate.sum, "<i8") - sum(clear[client] for client in counted)))
    assert found == pytest.approx(aggregate.sigma, rel=TOLERANCE)
    assert len(manifest.groups) > 1 or groups == 1
    parties = len(counted) if noise == "clients" else len(manifest.groups) * len(manifest.members)
    assert aggregate.sigma == pytest.approx(aggregate.guarantee.sigma * math.sqrt(parties / 2))
    assert len(manifest.members) == (4 if silent else 5)


def test_of_one_group_that_all_members_have_part_in_it_is_what_room_was_planned_for() -> None:
    play, _ = played("committee", 1, set())
    (aggregate,) = play.aggregates()
    task = make_task(length=LENGTH, kind="sum", labels=[], scale=1_000.0)
    assert aggregate.sigma == pytest.approx(present_sigma(task, aggregate.n))


# ---------------------------------------------------------------- what follows from a manifest alone


def listed(sizes: list[int], members: int = 5) -> Manifest:
    """A manifest of groups of these sizes."""
    nowhere = Place(0, [0])
    vectors = [MemberVector(group, b"", b"", nowhere) for group in range(len(sizes))]
    groups = [ManifestGroup(number, [ManifestEntry(b"", b"", -1, nowhere)] * size) for number, size in enumerate(sizes)]
    return Manifest(
        DEPLOYMENT, "t", "t-1", bytes(32), [ManifestMember(n, b"", vectors) for n in range(members)], groups, []
    )


PROPOSAL = World().proposal(sigma=1_000.0)


def test_groups_that_were_not_opened_bring_no_noise_and_members_that_were_not_listed_none() -> None:
    share = accounting.share_sigma("committee", 1_000.0, 5, 3, 0)
    manifest = listed([4, 5, 6])
    assert noise_of(PROPOSAL, manifest, [0, 1, 2]) == pytest.approx(share * math.sqrt(15))
    assert noise_of(PROPOSAL, manifest, [2, 0]) == pytest.approx(share * math.sqrt(10))
    assert (
        noise_of(PROPOSAL, listed([4, 5, 6], members=4), [1])
        == pytest.approx(share * 2)
        == pytest.approx(1_000 * 2**0.5)
    )
    assert noise_of(PROPOSAL, manifest, []) == 0.0
    by_clients = replace(PROPOSAL, noise="clients", honest=4)
    assert noise_of(by_clients, manifest, [0, 2]) == pytest.approx(1_000 / 2 * math.sqrt(10))


@pytest.mark.parametrize("rule", ["none", "trimmed-mean", "median", "norm-filter"])
@pytest.mark.parametrize("noise", ["committee", "clients"])
@pytest.mark.parametrize("sizes", [[9, 9, 9, 9], [5, 6, 7, 9, 30], [4, 40], [10] * 10], ids=str)
@pytest.mark.parametrize("apart", [0.0, 400.0])
def test_of_whatever_rule_the_noise_is_at_most_as_told_and_of_plain_sums_just_that(
    rule: str, noise: str, sizes: list[int], apart: float
) -> None:
    """Conservative where the rule chooses by what is noisy: never less than what is found, whether groups agree or not."""
    proposal = replace(PROPOSAL, robust=rule, noise=noise, honest=4)
    manifest = listed(sizes)
    told = noise_of(proposal, manifest, range(len(sizes)))
    share = accounting.share_sigma(noise, proposal.sigma, 5, 3, 4)
    random = np.random.default_rng(len(sizes))
    own = [size * apart * number * np.ones(LENGTH) for number, size in enumerate(sizes)]
    draws = [
        combine_groups(
            rule,
            [
                np.rint(x + random.normal(0, share * math.sqrt(5 if noise == "committee" else size), LENGTH)).astype(
                    np.int64
                )
                for x, size in zip(own, sizes, strict=True)
            ],
            sizes,
        )
        for _ in range(2)
    ]
    found = float(np.std(draws[0] - draws[1])) / math.sqrt(2)  # what does not vary is not noise
    assert found <= told * (1 + TOLERANCE)
    if not means_averaged(rule, len(sizes)):
        assert found == pytest.approx(told, rel=TOLERANCE)


def test_a_rule_that_nobody_knows_has_no_noise_to_tell() -> None:
    with pytest.raises(RemoteError):
        noise_of(replace(PROPOSAL, robust="mode"), listed([4, 4, 4]), [0, 1, 2])
