"""Numbers under which no guarantee holds: refused with what was got and needed, by whoever meets them; nothing is sent or charged."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aicache.cli.app import run
from aicache.cli.frame import USAGE
from aicache.privacy.errors import AicacheError, LocalError
from aicache.producers.ledger import FILE, Limit
from aicache.producers.session import Limits
from aicache.schemas.records import Proposal
from aicache.streams.committee.limits import PurposeBudget
from aicache.streams.rounds.checking import check_task
from aicache.streams.rounds.task import from_mapping
from support.deployment import make_task
from support.owner import ENTROPY, Owner
from support.rounds import START_MS, World

NAN, INF = math.nan, math.inf
BASE = {"task": "tags", "kind": "histogram", "labels": ["a", "b"], "n_max": 5_000}

DECLARED = [
    ({"epsilon": 0.0}, "epsilon"),
    ({"epsilon": -1.0}, "epsilon"),
    ({"epsilon": NAN}, "epsilon"),
    ({"epsilon": INF}, "epsilon"),
    ({"epsilon": 1e9}, "epsilon"),
    ({"epsilon": 1.0, "delta": 1 / 5_000}, "delta"),
    ({"epsilon": 1.0, "delta": 0.0}, "delta"),
    ({"epsilon": 1.0, "delta": NAN}, "delta"),
    ({"noise_multiplier": 0.0}, "noise_multiplier"),
    ({"noise_multiplier": NAN}, "noise_multiplier"),
    ({"noise_multiplier": INF}, "noise_multiplier"),
    ({"epsilon": 1.0, "clip": 0.0}, "clip"),
    ({"epsilon": 1.0, "clip": NAN}, "clip"),
    ({"epsilon": 1.0, "clip": INF}, "clip"),
    ({"epsilon": 1.0, "scale": 0.0}, "scale"),
]


@pytest.mark.parametrize(("changes", "word"), DECLARED, ids=str)
def test_a_task_cannot_be_declared_with_them(changes: dict, word: str) -> None:
    with pytest.raises(LocalError, match=word) as caught:
        from_mapping({**BASE, **changes}, "demo")
    assert caught.value.got is not None
    assert caught.value.needed is not None


@pytest.mark.parametrize(
    "changes", [{"noise_multiplier": 0.0}, {"delta": 0.5}, {"clip": 0.0}, {"clip": NAN}, {"scale": -1.0}], ids=str
)
def test_a_task_that_somebody_wrote_into_the_log_with_them_opens_no_round(changes: dict) -> None:
    with pytest.raises(AicacheError) as caught:
        check_task(make_task(**changes))
    assert caught.value.got is not None or "bad-task" in str(caught.value.reason)  # type: ignore[attr-defined]


PROPOSED = [
    {"sigma": 0.0},
    {"sigma": -4.0},
    {"sigma": 1e-3},
    {"sigma": 5.0},  # a share is large enough, epsilon is not
    {"clip": 0.0},
    {"clip": -1.0},
    {"clip": 1e12},
    {"scale": 0.0},
    {"delta": 0.0},
    {"delta": 1.0},
    {"delta": 1e-3},
]


@pytest.fixture(scope="module")
def world() -> World:
    return World(clients=1)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    return Owner(tmp_path_factory.mktemp("owner"), {"*": Limit(100.0)})


@pytest.mark.parametrize("changes", PROPOSED, ids=str)
def test_no_member_approves_a_round_with_them(world: World, changes: dict) -> None:
    name, before = str(changes), sum(world.refusals(1).values())
    world.log.append("aicache.rounds", replace(world.proposal(name), **changes))
    world.pump()
    assert not world.approvals(name)
    assert sum(world.refusals(1).values()) == before + 1


@pytest.mark.parametrize("changes", [*PROPOSED, {"sigma": NAN}, {"clip": NAN}, {"delta": NAN}, {"scale": INF}], ids=str)
def test_a_client_sends_nothing_to_a_round_with_them_whoever_approved_it(owner: Owner, changes: dict) -> None:
    owner.propose(str(changes))
    current = owner.board.rounds[str(changes)]
    current.proposal = replace(current.proposal, **changes)
    with pytest.raises(AicacheError) as caught:
        owner.session.contribute(current, np.ones(100), START_MS, ENTROPY)
    assert len(str(caught.value)) > 20, "the error says what is wrong"
    assert not (owner.folder / FILE).exists()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_vector_that_is_no_vector_is_not_sent(owner: Owner, value: float) -> None:
    for clipping in ({}, {"clipping": "per-layer", "layers": [40, 60], "clips": [0.6, 0.8]}):
        name = f"{value}, {len(clipping)}"
        owner.propose(name, **clipping)
        vector = np.ones(100)
        vector[7] = value
        with pytest.raises(LocalError, match="no numbers"):
            owner.session.contribute(owner.board.rounds[name], vector, START_MS, ENTROPY)
    assert not (owner.folder / FILE).exists()


@pytest.mark.parametrize("epsilon", [0.0, -1.0, NAN, INF])
def test_no_limit_of_an_owner_or_a_member_is_one_of_them(epsilon: float) -> None:
    for make in (
        lambda: Limit(epsilon),
        lambda: Limits(epsilon_round=epsilon),
        lambda: PurposeBudget(epsilon=epsilon),
    ):
        with pytest.raises(LocalError):
            make()


@pytest.mark.parametrize(
    "words",
    [
        ["--epsilon", "0"],
        ["--epsilon", "-1"],
        ["--epsilon", "nan"],
        ["--epsilon", "1e9"],
        ["--delta", "0.01", "--clients", "1000"],
        ["--delta", "0"],
        ["--clip", "0"],
        ["--clip", "nan"],
        ["--scale", "0"],
        ["--noise", "clients", "--honest", "1001", "--clients", "1000"],
    ],
    ids=" ".join,
)
def test_a_plan_with_them_is_refused(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["privacy", "plan", *words]) == USAGE


def test_numbers_that_are_none_cannot_even_be_written_to_the_log(world: World) -> None:
    for name in ("sigma", "clip", "scale", "delta"):
        proposal: Proposal = replace(world.proposal("r1"), **{name: NAN})
        with pytest.raises(LocalError):
            world.log.codec.encode(proposal)
