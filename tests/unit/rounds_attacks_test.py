"""What others may write into the coordinator's and the reducer's topics, and what comes of it: never another sum.

The parties are real (support.deployment); the attacker writes into the log between their turns.
"""

from dataclasses import replace

import numpy as np
import pytest

from aicache.schemas.records import (
    Aggregate,
    Endorsement,
    Enrolment,
    Envelope,
    Manifest,
    Model,
    ModelSpec,
    Opening,
    Place,
    Proposal,
    RoundAborted,
)
from aicache.schemas.signing import signed
from aicache.streams.rounds.budgets import CHANCE_MAX, excluded, note_dropped
from aicache.streams.rounds.models import roll_back
from aicache.streams.rounds.state import State
from aicache.streams.rounds.suspects import suspects
from support.deployment import Deployment, deployment, make_task
from support.rounds import DEPLOYMENT, World


def started(clients: int = 8, **changes: object) -> Deployment:
    play = deployment(clients=clients)
    play.world.log.append("aicache.tasks", make_task(**({"noise": "clients"} | changes)))
    return play


def values(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype="<i8")


def until(play: Deployment, kind: type, topic: str = "aicache.rounds") -> None:
    for _ in range(120):
        if play.world.log.records(topic, kind):
            return
        play.run(100)
    raise AssertionError(kind)


def test_an_envelope_forged_in_front_of_the_real_one_changes_nothing() -> None:
    """The front-runner knows sender and digest from the chunk, and claims another place first."""
    play = started()
    victim = play.world.people[0]
    real = victim.envelope

    def front_run(proposal, rho, digest, shares, place, keys, **changes):
        envelope = real(proposal, rho, digest, shares, place, keys, **changes)
        play.world.log.append("aicache.envelopes", replace(envelope, place=Place(0, [0]), signature=bytes(64)))
        return envelope

    victim.envelope = front_run  # type: ignore[method-assign]
    play.run(8_000)
    (aggregate,) = play.aggregates()
    assert aggregate.n == 8
    assert np.array_equal(values(aggregate.sum), play.clear_sum("tags-1"))
    assert "bad-signature" in play.dead


def test_a_client_that_lies_about_its_place_is_left_out_and_the_others_count() -> None:
    play = started()
    liar = play.world.people[0]
    real = liar.publish
    liar.publish = lambda log, proposal, data: replace(real(log, proposal, data), offsets=[0])  # type: ignore[method-assign]
    play.run(9_000)
    (aggregate,) = play.aggregates()
    assert aggregate.n == 7
    del play.sent["tags-1"][liar.id]
    assert np.array_equal(values(aggregate.sum), play.clear_sum("tags-1"))


def test_strangers_count_for_nothing() -> None:
    play = started()
    strangers = [play.world.person() for _ in range(20)]
    play.world.people += strangers
    play.run(8_000)
    (aggregate,) = play.aggregates()
    assert aggregate.n == 8
    assert play.dead.count("not-enrolled") == 20


def test_an_enrolment_that_the_operator_did_not_sign_admits_nobody() -> None:
    play = started()
    stranger, other = play.world.person(), World(members=1, threshold=1, clients=0, seed="other")
    play.world.log.append("aicache.enrolments", stranger.enrolment(other.operator))
    play.run(300)
    assert stranger.id not in play.state.clients
    assert play.dead == ["bad-signature"]
    assert play.state.enrolments_end == 9


def test_a_task_that_cannot_work_is_refused_and_the_others_go_on() -> None:
    play = started()
    play.world.log.append("aicache.tasks", make_task(task="bad", noise="clients", honest=0))
    play.run(8_000)
    assert play.dead == ["bad-task"]
    assert len(play.aggregates()) == 1


def test_false_openings_of_two_members_do_not_matter() -> None:
    play = started()
    real = play.world.log.append_bytes

    def spoil(topic: str, value: bytes, timestamp_ms: int = 0):
        record = (
            play.world.log.codec.decode(value, *[type(r) for r in ()] or (Opening,)).record
            if "openings" in topic
            else None
        )
        if record is not None and record.member in (1, 2):
            key = play.world.committee[record.member].core._identity_key
            shares = np.roll(np.frombuffer(record.shares, "<u2"), 1).tobytes()
            value = play.world.log.codec.encode(signed(replace(record, shares=shares), key))
        return real(topic, value, timestamp_ms)

    play.world.log.append_bytes = spoil  # type: ignore[method-assign]
    for member in play.world.committee.values():
        member.core.check_own = lambda record: None  # type: ignore[method-assign]
    play.run(8_000)
    (aggregate,) = play.aggregates()
    assert np.array_equal(values(aggregate.sum), play.clear_sum("tags-1"))


def test_an_aggregate_that_does_not_fit_its_round_is_refused() -> None:
    spec = ModelSpec(["tag:a"], ["tag:a", "tag:b"], step=1.0, momentum=0.5, window=0)
    play = started(kind="model", length=4, labels=[], model=spec)
    until(play, Opening, "aicache.openings")
    (manifest,) = play.world.log.records("aicache.rounds", Manifest)
    (good,) = play.aggregates()
    play.world.log.topics["aicache.insights.aggregates"].clear()
    play.world.log.append("aicache.insights.aggregates", replace(good, sum=good.sum[:8]))
    play.world.log.append(
        "aicache.insights.aggregates", replace(good, guarantee=replace(good.guarantee, rdp=[0.0] * 48))
    )
    play.world.log.append("aicache.insights.aggregates", replace(good, sigma=good.sigma / 2))
    play.read["aicache.insights.aggregates"] = 0
    play.run(100)
    assert play.dead == ["bad-aggregate"] * 3
    assert [model.version for model in play.models()] == [0]
    assert good.manifest_digest and manifest


def test_a_round_full_before_the_members_vectors_have_come_waits_for_them() -> None:
    play = started(n_max=8, deadline_ms=60_000)
    play.world.silent = {1, 2, 3, 4, 5}
    play.run(300)
    assert not play.world.log.records("aicache.endorsements", Endorsement)
    play.world.silent = set()
    play.run(3_000)
    (aggregate,) = play.aggregates()
    assert aggregate.n == 8
    assert aggregate.closed_ms - play.world.log.records("aicache.rounds", Proposal)[0].opened_ms < 10_000


def test_a_member_that_never_approved_is_not_waited_for() -> None:
    play = started(grace_ms=60_000)
    play.world.silent = {5}
    play.run(8_000)
    assert len(play.aggregates()) == 1


def test_the_first_to_arrive_count_not_the_first_by_name() -> None:
    play = started(n_max=4, n_min=3, honest=2)
    play.run(8_000)
    (manifest,) = play.world.log.records("aicache.rounds", Manifest)
    listed = {entry.client for group in manifest.groups for entry in group.clients}
    assert listed == {person.id for person in play.world.people[:4]}


def test_a_round_accepts_the_window_of_model_versions_behind_the_newest() -> None:
    spec = ModelSpec(["tag:a"], ["tag:a", "tag:b"], step=1.0, momentum=0.0, window=1)
    play = started(kind="model", length=4, labels=[], model=spec, rounds=3)
    play.run(20_000)
    accepted = [[v.version for v in p.model_versions] for p in play.world.log.records("aicache.rounds", Proposal)]
    assert accepted == [[0], [1, 0], [2, 1]]


def test_a_roll_back_becomes_the_newest_version_even_if_a_round_was_faster() -> None:
    spec = ModelSpec(["tag:a"], ["tag:a", "tag:b"], step=1.0, momentum=0.5, window=0)
    play = started(kind="model", length=4, labels=[], model=spec, rounds=2)
    play.run(16_000)
    first, second, third = play.models()
    play.world.log.append("aicache.models", roll_back(second, first, play.world.now_ms))  # as of before the third
    play.run(300)
    newest = play.state.models["tags"]
    assert (newest.version, newest.parent, newest.weights) == (third.version + 1, first.version, first.weights)
    assert "tags" not in play.state.momentum
    assert [model.version for model in play.models()][-1] == newest.version
    play.restart_coordinator()
    assert play.state.models["tags"] == newest
    play.world.log.append("aicache.models", replace(newest, version=9, weights=b"\1" * 32))
    play.run(100)
    assert "bad-model" in play.dead


def test_a_large_manifest_is_kept_in_pieces(monkeypatch) -> None:
    monkeypatch.setattr("aicache.streams.rounds.state.PIECE_BYTES", 200)
    play = started()
    until(play, Manifest)
    before = next(iter(play.state.rounds.values()))
    pieces = [key for key in play.changelog if key.startswith(b"manifest|")]
    assert len(pieces) > 3
    play.restart_coordinator()
    after = play.state.rounds["tags-1"]
    assert (after.manifest, after.manifest_digest) == (before.manifest, before.manifest_digest)


def test_join_requests_are_answered_once_each_and_never_beyond_the_cap() -> None:
    from aicache.schemas.records import JoinRequest
    from aicache.streams.rounds.enrolment import OPEN, Admission
    from aicache.streams.rounds.logic import Coordinator

    play = deployment(clients=0)
    play.coordinator = Coordinator(DEPLOYMENT, Admission(OPEN, 3, play.world.operator))
    for person in [play.world.person() for _ in range(5)]:
        request = signed(JoinRequest(DEPLOYMENT, person.public, 1, b""), person.key)
        play.world.log.append("aicache.joins", request)
        play.world.log.append("aicache.joins", request)
    play.run(300)
    assert len(play.world.log.records("aicache.enrolments", Enrolment)) == 3
    assert play.dead == ["deployment-full"] * 4


def spoiled_round(clients: list[bytes], dropped: int, groups: int, seed: int) -> tuple[Manifest, Aggregate]:
    """A round of which one group was dropped; clients are dealt out at random, the first always into it."""
    from aicache.schemas.records import GroupSum, Guarantee, ManifestEntry, ManifestGroup

    generator = np.random.default_rng(seed)
    drawn = {client: int(generator.integers(groups)) for client in clients} | {clients[0]: dropped}
    listed = [
        ManifestGroup(g, [ManifestEntry(c, b"", -1, Place(0, [0])) for c in clients if drawn[c] == g])
        for g in range(groups)
    ]
    sums = [GroupSum(g.group, len(g.clients), "dropped" if g.group == dropped else "opened", "", b"") for g in listed]
    manifest = Manifest(DEPLOYMENT, "t", "t-1", bytes(32), [], listed, [])
    guarantee = Guarantee("", "", "", "", "", 1.0, 1e-6, 1.0, 1.0, 1, [])
    return manifest, Aggregate(DEPLOYMENT, "t", 1, "t-1", 1, "sum", b"", 0, 1, 1, 1.0, [], b"", sums, guarantee)


def test_a_spoiler_of_ten_groups_is_left_out_after_six_rounds_and_no_honest_client_is() -> None:
    state, clients = State(), [bytes([n % 256, n // 256]) * 16 for n in range(500)]
    for number in range(6):
        assert not excluded(state)
        note_dropped(state, *spoiled_round(clients, number % 10, 10, number), 10, {})
    assert excluded(state) == {clients[0]}
    assert state.streaks[clients[0]] <= CHANCE_MAX * (1 + 1e-9)


def test_anybody_can_recompute_whom_the_rule_leaves_out() -> None:
    clients = [bytes([n % 256, n // 256]) * 16 for n in range(500)]
    manifests, groups, results = {}, {}, []
    for number in range(6):
        manifest, aggregate = spoiled_round(clients, number % 10, 10, number)
        digest, name = bytes([number]) * 32, f"t-{number}"
        manifests[digest], groups[name] = manifest, 10
        results.append(replace(aggregate, round_id=name, manifest_digest=digest))
    found = suspects(manifests, groups, [*results, results[-1], replace(results[0], round_id="never proposed")])
    assert [(row.client, row.rounds, row.excluded) for row in found if row.excluded] == [(clients[0].hex(), 6, True)]
    assert found[0].chance == pytest.approx(1e-6)
    assert all(row.rounds < 4 for row in found[1:])


def test_with_one_group_nobody_can_be_told_from_the_spoiler() -> None:
    state, clients = State(), [bytes([n]) * 32 for n in range(20)]
    for number in range(40):
        note_dropped(state, *spoiled_round(clients, 0, 1, number), 1, {})
    assert not excluded(state)


def test_records_of_another_round_or_deployment_change_nothing() -> None:
    play = started()
    until(play, Envelope, "aicache.envelopes")
    (envelope, *_) = [e for e in play.world.log.records("aicache.envelopes", Envelope) if not e.member]
    key = play.world.people[0].key
    for changed in ({"rho": bytes(32)}, {"deployment": "other"}, {"round_id": "tags-9"}):
        play.world.log.append("aicache.envelopes", signed(replace(envelope, **changed), key))
    play.run(8_000)
    (aggregate,) = play.aggregates()
    assert np.array_equal(values(aggregate.sum), play.clear_sum("tags-1"))
    assert sorted(set(play.dead)) == ["wrong-deployment", "wrong-round"]
    assert not play.world.log.records("aicache.rounds", RoundAborted)
    assert isinstance(play.models(), list) and Model
