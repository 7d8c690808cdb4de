"""What whole rounds promise, played in memory by real committee members: their noise, and budgets that bind.

Same rules as promises.py: seeded, fixed sizes, six standard errors.
"""

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import accounting, quantize
from aicache.producers.ledger import Ledger, Limit
from aicache.streams.committee.limits import PurposeBudget
from support.owner import Owner
from support.rounds import LIMITS, World

LENGTH = 20_000
SIGMA = 2 * quantize.sensitivity(1.0, 100.0, LENGTH)
ONE_ROUND = replace(LIMITS, budgets={"*": PurposeBudget(epsilon=1.5, delta=1e-6)})
CHEAP = {"sigma": 403.0, "length": 100}  # about epsilon 1.1 a round, so that a second one does not fit


def noise_of(world: World, round_id: str) -> NDArray[np.int64]:
    """Play a round and take the clients' exact sum away from what is opened."""
    proposal, rho = world.propose(round_id, length=LENGTH, sigma=SIGMA)
    exact = world.send_all(proposal, rho)
    world.close(proposal, rho)
    manifest = world.manifest(proposal, rho)
    world.publish_manifest(manifest)
    assert len(manifest.members) == 4, "a quorum of 5 and 3"
    return world.open_sum(proposal, rho, manifest) - exact


def an_opened_round_carries_the_members_noise_afresh_each_time() -> None:
    """Four members are listed, two of which are surely honest and alone carry the plan: √2 times it in all."""
    world = World(clients=3, seed="audit of noise")
    first, second = (noise_of(world, name) for name in ("r1", "r2"))
    for drawn in (first, second):
        spread = float(drawn.std()) / (SIGMA * math.sqrt(4 / 2))
        assert 0.97 <= spread <= 1.03, f"{spread:.3f} of what four members should add"
    likeness = abs(float(np.corrcoef(first, second)[0, 1]))
    assert likeness < 6 / math.sqrt(LENGTH), f"the noise of two rounds is alike: {likeness:.3f}"


def an_overspender_is_left_out_and_the_others_are_not() -> None:
    world = World(clients=7, limits=ONE_ROUND, seed="audit of budgets")
    spender, others = world.people[0], world.people[1:]
    for round_id, people in (("r1", [spender, *others[:3]]), ("r2", [spender, *others[3:]])):
        proposal, rho = world.propose(round_id, **CHEAP)
        world.send_all(proposal, rho, people)
        world.close(proposal, rho)
        manifest = world.manifest(proposal, rho)
        listed = {entry.client for entry in manifest.groups[0].clients}
        assert {person.id for person in people[1:]} <= listed
        assert (spender.id in listed) == (round_id == "r1"), "who has spent its budget is listed again"
        world.publish_manifest(manifest)
        assert world.openings(round_id)


def two_rounds_at_a_time_do_not_both_spend_what_one_may() -> None:
    world = World(clients=3, limits=ONE_ROUND, seed="audit of reservations")
    rounds = [world.propose(name, **CHEAP) for name in ("r1", "r2")]
    for proposal, rho in rounds:
        world.send_all(proposal, rho)
    people = {person.id for person in world.people}
    assert people <= set(world.endorsed("r1", 1))
    assert not people & set(world.endorsed("r2", 1)), "two open rounds hold back nothing from each other"


def members_charge_what_a_round_gives_away() -> None:
    world = World(clients=3, seed="audit of charges")
    for name in ("r1", "r2"):
        proposal, rho = world.propose(name, **CHEAP)
        world.send_all(proposal, rho)
        world.close(proposal, rho)
        world.publish_manifest(world.manifest(proposal, rho))
    for member in world.committee.values():
        window_ms = member.core.limits.window_ms(proposal.purpose, proposal.opened_ms)
        spent = member.core.ledger.spent(world.people[0].id, proposal.purpose, window_ms)
        ratio = quantize.sensitivity(proposal.clip, proposal.scale, proposal.length) / proposal.sigma
        given_away = 2 * accounting.gaussian_rdp(ratio)
        assert (spent >= given_away * (1 - 1e-9)).all(), "less is charged than two rounds give away"


def members_refuse_rounds_whose_guarantee_cannot_hold() -> None:
    world = World(clients=3, seed="audit of proposals")
    wrong = {
        "delta": {"delta": 2e-3},
        "nodelta": {"delta": 0.0},
        "quiet": {"sigma": 1.0},
        "silent": {"sigma": 0.0},
        "loud": {"sigma": 1e12},
        "costly": {"sigma": 20.0},
        "open": {"clip": 0.0},
        "lonely": {"noise": "clients", "honest": 4},
        "nobody": {"noise": "none"},
    }
    for name, changes in wrong.items():
        world.propose(name, **changes)
        assert not world.approvals(name), f"a round is approved with {changes}"
    world.propose("right")
    assert len(world.approvals("right")) == 5


def what_a_client_spends_is_on_disk_before_it_is_made() -> None:
    with tempfile.TemporaryDirectory() as name:
        owner = Owner(Path(name) / "client", {"*": Limit(20.0)})
        owner.propose("r1", **CHEAP)
        made = owner.contribute("r1")
        assert made.proposal.round_id == "r1"
        assert Ledger(owner.folder).has("r1"), "a contribution was made that the ledger on disk does not know"


PROMISES_OF_ROUNDS = [
    what_a_client_spends_is_on_disk_before_it_is_made,
    members_refuse_rounds_whose_guarantee_cannot_hold,
    an_opened_round_carries_the_members_noise_afresh_each_time,
    an_overspender_is_left_out_and_the_others_are_not,
    two_rounds_at_a_time_do_not_both_spend_what_one_may,
    members_charge_what_a_round_gives_away,
]
