"""Clipping in whole rounds: a clip that adapts converges to the quantile and anybody can recompute it; layers keep their bounds."""

import io
import math
from dataclasses import replace

import fastavro
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicache.privacy.errors import RemoteError
from aicache.privacy.quantize import sensitivity
from aicache.privacy.statements import record_digest
from aicache.producers.session import make_message
from aicache.producers.vectors import gradient
from aicache.schemas.catalog import versions
from aicache.schemas.clipping import check_follows, clip_after, quantile_rule, within
from aicache.schemas.codec import Codec, SingleObject
from aicache.schemas.convert import to_plain
from aicache.schemas.declared import check_declared
from aicache.schemas.records import AdaptiveClipping, ModelSpec, Proposal, RoundAborted
from aicache.streams.committee.limits import Limits, PurposeBudget
from aicache.streams.committee.rules import check_arithmetic
from aicache.streams.rounds.exported import Entry, in_memory
from aicache.streams.rounds.state import keep_phase, load
from aicache.streams.rounds.verify import Check, verify_round
from support.deployment import Deployment, deployment, make_task
from support.rounds import DEPLOYMENT, Person

CODEC = Codec(SingleObject())
NORMS = np.array([0.5, 0.8, 1.0, 1.3, 2.0, 3.0, 5.0, 8.0])
GENEROUS = Limits(n_min=2, epsilon_round=1e6, budgets={"*": PurposeBudget(epsilon=1e9)})
HOW = AdaptiveClipping(quantile=0.5, rate=0.6, weight=0.5, clip_min=0.05, clip_max=50.0)


def started(norms: np.ndarray = NORMS, **changes: object) -> Deployment:
    """Clients whose vectors have these norms; little noise, so that few clients show a quantile."""
    play = deployment(clients=len(norms), limits=GENEROUS)
    fields = {"clipping": "adaptive", "adaptive": HOW, "noise": "clients", "noise_multiplier": 0.1, "scale": 1_000.0}
    play.world.log.append("aicache.tasks", make_task(**(fields | {"labels": [], "length": 20, "rounds": 12} | changes)))
    norm_of = {person.id: norm for person, norm in zip(play.world.people, norms, strict=True)}

    def vector(person: Person, proposal: Proposal) -> np.ndarray:
        raw = np.frombuffer(person.entropy(20), np.uint8) - 127.5
        return make_message(proposal, raw * (norm_of[person.id] / np.linalg.norm(raw)), person.entropy)

    play.vector_of = vector
    return play


def proposals(play: Deployment) -> list[Proposal]:
    return play.world.log.records("aicache.rounds", Proposal)


def vector_clips(play: Deployment) -> list[float]:
    return [quantile_rule(p.adaptive).vector_clip(p.clip) for p in proposals(play) if p.adaptive is not None]


def checks(play: Deployment, round_id: str) -> dict[str, Check]:
    entries = [
        Entry(item.topic, 0, item.offset, CODEC.encode(item.record))
        for items in play.world.log.topics.values()
        for item in items
        if item.record is not None
    ]
    return {check.name: check for check in verify_round(in_memory(DEPLOYMENT, round_id, entries))}


@pytest.fixture(scope="module")
def adapted() -> Deployment:
    play = started(clip=0.3)
    play.run(12 * 6_500)
    return play


def test_the_clip_converges_to_the_quantile_of_the_norms(adapted: Deployment) -> None:
    """Between the fourth and the fifth of eight norms half are within; it starts below the smallest."""
    clips = vector_clips(adapted)
    assert len(clips) == 12
    assert clips[0] < NORMS[0]
    assert all(1.2 < clip < 2.2 for clip in clips[8:]), clips


def test_every_round_of_it_verifies_and_names_the_round_that_it_follows(adapted: Deployment) -> None:
    for number in (1, 2, 9):
        found = checks(adapted, f"tags-{number}")
        assert all(check.ok for check in found.values()), found
        assert ("tags-" in found["clip"].detail) == (number > 1)
    assert [proposal.clip_from for proposal in proposals(adapted)][:3] == ["", "tags-1", "tags-2"]


def test_sensitivity_noise_and_cost_cover_vector_and_bit_together(adapted: Deployment) -> None:
    found = {aggregate.round_id: aggregate for aggregate in adapted.aggregates()}
    first = found["tags-1"].guarantee.epsilon
    for proposal in proposals(adapted):
        guarantee = found[proposal.round_id].guarantee
        assert guarantee.sensitivity == sensitivity(proposal.clip, proposal.scale, 21)
        assert guarantee.sigma == pytest.approx(0.1 * guarantee.sensitivity)
        assert guarantee.epsilon == pytest.approx(first, rel=1e-3)
        for message in adapted.sent[proposal.round_id].values():
            assert message.size == 21
            assert np.linalg.norm(message) <= guarantee.sensitivity + 6 * proposal.sigma


def test_a_coordinator_that_was_killed_goes_on_with_the_clip(adapted: Deployment) -> None:
    assert load(adapted.changelog.items()).tasks == adapted.state.tasks
    assert adapted.state.tasks["tags"].clip_from == "tags-12"


def test_a_coordinator_killed_after_any_write_proposes_the_clip_that_follows() -> None:
    play = started(NORMS[:4], rounds=3, deadline_ms=1_500, grace_ms=500)
    for _ in range(100):
        play.run(100)
        play.restart_coordinator()
    assert [proposal.clip_from for proposal in proposals(play)] == ["", "tags-1", "tags-2"]
    for number in (1, 2, 3):
        found = checks(play, f"tags-{number}")
        assert all(check.ok for check in found.values()), found


def test_a_round_that_an_earlier_version_of_the_program_opened_goes_on_under_its_digest() -> None:
    """Its proposal stands in the log and in the changelog in the schema's first version, and every signature is over that."""
    play = started(rounds=1, clipping="flat", adaptive=None)
    first = versions("Proposal")[0]

    def as_before(record: Proposal) -> bytes:
        plain = {field["name"]: to_plain(Proposal)(record)[field["name"]] for field in first.source["fields"]}
        body = io.BytesIO()
        fastavro.schemaless_writer(body, first.parsed, plain)
        return SingleObject().header(first) + body.getvalue()

    play.run(100)
    key = next(name for name in play.changelog if name.startswith(b"proposal"))
    play.changelog[key] = as_before(proposals(play)[0])
    play.restart_coordinator()
    (current,) = play.state.rounds.values()
    decoded = CODEC.decode(play.changelog[key], Proposal)
    assert current.rho == record_digest("proposal", first.fingerprint, decoded.body)
    assert current.proposal == proposals(play)[0]
    changes: dict[bytes, bytes | None] = {}
    keep_phase(current, changes)
    assert key not in changes, "it is not written anew in a later version"


def test_an_attack_by_a_clip_that_does_not_follow_is_found_by_whoever_verifies() -> None:
    """Within its bounds members cannot know it: they do not read sums. The log tells."""
    play = started(rounds=2, interval_ms=3_000)
    play.run(6_500)
    assert [aggregate.round_id for aggregate in play.aggregates()] == ["tags-1"]
    play.state.tasks["tags"].clip *= 1.5
    play.run(10_000)
    found = checks(play, "tags-2")
    assert found["aggregate"].ok
    assert not found["clip"].ok
    assert found["clip"].detail.startswith("clip-does-not-follow")


def test_an_attack_that_starts_over_from_the_first_clip_is_found() -> None:
    play = started(rounds=2, interval_ms=3_000)
    play.run(6_500)
    play.state.tasks["tags"].clip, play.state.tasks["tags"].clip_from = 0.0, ""
    play.run(10_000)
    assert checks(play, "tags-2")["clip"].detail.startswith("clip-does-not-follow")


def test_an_attack_that_names_a_round_that_never_was_is_found_while_the_log_holds_another() -> None:
    play = started(rounds=2, interval_ms=3_000)
    play.run(6_500)
    play.state.tasks["tags"].clip *= 1.1
    play.state.tasks["tags"].clip_from = "tags-0"
    play.run(10_000)
    assert checks(play, "tags-2")["clip"].detail.startswith("clip-does-not-follow")


def test_a_log_that_no_longer_holds_the_round_before_says_that_it_cannot_tell(adapted: Deployment) -> None:
    kept = {
        "aicache.insights.aggregates": [
            i for i in adapted.world.log.topics["aicache.insights.aggregates"] if i.offset > 4
        ]
    }
    entries = [
        Entry(item.topic, 0, item.offset, CODEC.encode(item.record))
        for items in (adapted.world.log.topics | kept).values()
        for item in items
        if item.record is not None
    ]
    found = {check.name: check for check in verify_round(in_memory(DEPLOYMENT, "tags-6", entries))}
    assert found["clip"].ok
    assert found["clip"].detail.startswith("skipped: the log no longer holds round tags-5")


def test_a_clip_does_not_follow_from_a_result_without_bits(adapted: Deployment) -> None:
    first, second = proposals(adapted)[:2]
    with pytest.raises(RemoteError) as caught:
        check_follows(second, first, replace(adapted.aggregates()[0], sum=b""), first.clip)
    assert caught.value.reason == "clip-does-not-follow"


def test_a_clip_outside_the_declared_bounds_is_approved_by_nobody() -> None:
    play = started(rounds=1)
    play.read_coordinator()
    play.state.tasks["tags"].task = replace(
        play.state.tasks["tags"].task, adaptive=replace(HOW, clip_max=1e6), clip=999.0
    )
    real = play.coordinator.tick
    changed: list[float] = []

    def widened(state, now_ms):
        step = real(state, now_ms)
        for output in step.outputs:
            if isinstance(output.record, Proposal):
                changed.append(output.record.clip)
                object.__setattr__(output.record, "adaptive", HOW)
        return step

    play.coordinator.tick = widened
    play.run(17_000)
    assert changed
    assert not play.world.approvals("tags-1")
    assert play.world.refusals(1)["clip-out-of-bounds"] >= 1
    assert [record.reason for record in play.world.log.records("aicache.rounds", RoundAborted)] == ["no-quorum"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clip": 51.0}, "clip-out-of-bounds"),
        ({"clip": 0.04}, "clip-out-of-bounds"),
        ({"adaptive": None}, "bad-clipping"),
        ({"clipping": "flat"}, "bad-clipping"),
        ({"clipping": "per-layer", "adaptive": None, "layers": [9, 9], "clips": [1.0, 1.0]}, "bad-clipping"),
        (
            {"clipping": "per-layer", "adaptive": None, "layers": [10, 11], "clips": [1.0, 1.0], "clip": 1.0},
            "bad-clipping",
        ),
        ({"clipping": "per-layer", "adaptive": None, "layers": [21], "clips": [float("nan")]}, "bad-clipping"),
        ({"clipping": "none"}, "bad-clipping"),
        ({"clipping": "per-layer", "adaptive": None, "layers": [22, -1], "clips": [0.1, 0.1]}, "bad-clipping"),
        ({"adaptive": replace(HOW, rate=0.0)}, "bad-clipping"),
        ({"adaptive": replace(HOW, quantile=1.0)}, "bad-clipping"),
        ({"adaptive": replace(HOW, clip_min=60.0)}, "bad-clipping"),
    ],
)
def test_members_refuse_clipping_that_contradicts_itself(adapted: Deployment, changes: dict, reason: str) -> None:
    with pytest.raises(RemoteError) as caught:
        check_arithmetic(replace(proposals(adapted)[0], **changes))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"adaptive": replace(HOW, rate=0.7)},
        {"adaptive": replace(HOW, clip_max=49.0)},
        {"clipping": "flat", "adaptive": None},
        {"scale": 2_000.0},
        {"length": 22},
        {"sigma": 1_000.0},
        {"n_min": 2},
        {"noise": "committee"},
        {"honest": 1},
        {"delta": 1e-5},
        {"groups": 2},
        {"robust": "median"},
        {"purpose": "other"},
        {"kind": "mean"},
        {"deadline_ms": 1},
        {"roster": []},
    ],
)
def test_a_client_refuses_a_round_that_is_not_as_its_task_declares(adapted: Deployment, changes: dict) -> None:
    task, proposal = adapted.state.tasks["tags"].task, proposals(adapted)[0]
    check_declared(proposal, task)
    with pytest.raises(RemoteError) as caught:
        check_declared(replace(proposal, **changes), task)
    assert caught.value.reason == "not-the-task"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bits=st.integers(-(2**63), 2**63 - 1), clip=st.floats(HOW.clip_min, HOW.clip_max), n=st.integers(1, 60_000))
def test_whatever_clients_lie_about_their_bits_a_round_moves_the_clip_by_one_step_at_most(
    adapted: Deployment, bits: int, clip: float, n: int
) -> None:
    before = replace(proposals(adapted)[0], clip=clip)
    opened = replace(adapted.aggregates()[0], n=n, sum=bytes(160) + bits.to_bytes(8, "little", signed=True))
    followed = clip_after(before, opened)
    assert followed is not None
    step = math.exp(HOW.rate / 2)  # half of the clients should be within
    assert clip / step * (1 - 1e-9) <= followed <= clip * step * (1 + 1e-9)
    assert HOW.clip_min <= within(followed, HOW) <= HOW.clip_max


def test_a_round_that_opened_nothing_leaves_the_clip_as_it_is(adapted: Deployment) -> None:
    aggregate = adapted.aggregates()[0]
    assert clip_after(proposals(adapted)[0], replace(aggregate, n=0, sum=b"")) is None
    assert clip_after(replace(proposals(adapted)[0], clipping="flat", adaptive=None), aggregate) is None


def test_a_model_learns_from_the_vector_and_not_from_the_bit() -> None:
    spec = ModelSpec(["tag:a"], ["tag:a", "tag:b"], step=1.0, momentum=0.0, window=0)
    play = started(NORMS, kind="model", length=4, model=spec, rounds=1)

    def vector(person: Person, proposal: Proposal) -> np.ndarray:
        return make_message(proposal, np.array([0.5, 0.0, 0.0, -0.5]), person.entropy)

    play.vector_of = vector
    play.run(7_000)
    weights = np.frombuffer(play.models()[-1].weights)
    (aggregate,) = play.aggregates()
    total = np.frombuffer(aggregate.sum, "<i8")
    assert total.size == 5
    assert np.allclose(weights, total[:4] / (aggregate.scale * aggregate.n))


def test_a_model_whose_bias_is_clipped_apart_takes_its_step() -> None:
    """A client with much data: its bias is as long as its layer may be, and its weights are not crowded out by it."""
    spec = ModelSpec(["tag:a", "tag:b"], ["tag:a", "tag:b", "tag:c"], step=1.0, momentum=0.0, window=0)
    layers = {"clipping": "per-layer", "adaptive": None, "layers": [6, 3], "clips": [0.8, 0.6], "clip": 1.0}
    play = started(kind="model", length=9, model=spec, rounds=1, **layers)
    examples = [["tag:a", "tag:b"]] * 30

    def vector(person: Person, proposal: Proposal) -> np.ndarray:
        (model,) = play.models()
        return make_message(
            proposal,
            gradient(spec, np.frombuffer(model.weights), examples) * np.repeat([1, 50], [6, 3]),
            person.entropy,
        )

    play.vector_of = vector
    play.run(7_000)
    (aggregate,) = play.aggregates()
    mean = np.frombuffer(aggregate.sum, "<i8") / (aggregate.scale * aggregate.n)
    assert np.linalg.norm(mean[:6]) == pytest.approx(0.8, rel=0.2)
    assert np.linalg.norm(mean[6:]) == pytest.approx(0.6, rel=0.2)
    assert np.allclose(np.frombuffer(play.models()[-1].weights), mean)
    assert all(check.ok for check in checks(play, "tags-1").values())


def test_layers_are_clipped_each_to_its_own_bound_within_one_sensitivity() -> None:
    """The worst case: every layer of every client is far too long."""
    play = started(
        np.full(4, 1e6), clipping="per-layer", adaptive=None, layers=[5, 15], clips=[0.6, 0.8], clip=1.0, rounds=1
    )
    play.run(7_000)
    (proposal,) = proposals(play)
    (aggregate,) = play.aggregates()
    assert (proposal.layers, proposal.clips, proposal.clip) == ([5, 15], [0.6, 0.8], 1.0)
    assert aggregate.guarantee.sensitivity == sensitivity(1.0, 1_000.0, 20)
    assert checks(play, "tags-1")["clip"].detail == "per-layer, norm at most 1, 2 layers"
    quiet = replace(proposal, noise="committee")
    for person in play.world.people:
        raw = np.full(20, 1e6)
        raw[:5] *= -1e3
        message = make_message(quiet, raw, person.entropy)
        assert np.linalg.norm(message) <= aggregate.guarantee.sensitivity
        assert np.linalg.norm(message[:5]) == pytest.approx(600, abs=5)
        assert np.linalg.norm(message[5:]) == pytest.approx(800, abs=5)
