"""Whole rounds in memory: coordinator, members, reducer and clients with real keys, ciphertexts and shares."""

import numpy as np
import pytest

from aicache.schemas.records import Manifest, ModelSpec, Proposal, RoundAborted
from aicache.streams.rounds.state import load
from support.deployment import Deployment, deployment, make_task


def values(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype="<i8")


def started(**changes: object) -> Deployment:
    play = deployment(clients=8)
    play.world.log.append("aicache.tasks", make_task(**changes))
    return play


def test_where_clients_add_the_noise_the_aggregate_is_the_clear_sum_bit_for_bit() -> None:
    play = started(noise="clients")
    play.run(8_000)
    (aggregate,) = play.aggregates()
    assert aggregate.n == 8
    assert np.array_equal(values(aggregate.sum), play.clear_sum("tags-1"))
    assert aggregate.labels == make_task().labels


def test_where_the_committee_adds_it_the_sum_differs_by_the_planned_noise() -> None:
    play = started(length=4_000, labels=[])
    play.run(8_000)
    (aggregate,) = play.aggregates()
    (proposal,) = play.world.log.records("aicache.rounds", Proposal)
    noise = values(aggregate.sum) - play.clear_sum("tags-1")
    planned = proposal.sigma * (5 / 2) ** 0.5
    assert np.std(noise) == pytest.approx(planned, rel=0.06)


def test_clients_that_vanish_and_one_silent_member_stop_nothing() -> None:
    play = started(noise="clients")
    play.absent = {person.id for person in play.world.people[:3]}
    play.world.silent = {4}
    play.run(9_000)
    (aggregate,) = play.aggregates()
    assert aggregate.n == 5
    assert np.array_equal(values(aggregate.sum), play.clear_sum("tags-1"))


def test_fewer_members_than_the_quorum_abort_the_round_and_the_next_one_opens() -> None:
    play = started()
    play.world.silent = {1, 2}
    play.run(16_000)
    assert [record.reason for record in play.world.log.records("aicache.rounds", RoundAborted)] == ["no-quorum"]
    play.world.silent = set()
    play.run(12_000)
    assert [aggregate.round_id for aggregate in play.aggregates()] == ["tags-2"]


def test_too_few_clients_reveal_nothing() -> None:
    play = started()
    play.absent = {person.id for person in play.world.people[2:]}
    play.run(9_000)
    aborted = play.world.log.records("aicache.rounds", RoundAborted)
    assert aborted[0].reason == "under-n-min"
    assert not play.world.openings("tags-1")


def test_several_groups_open_separately_and_hold_each_client_once() -> None:
    play = started(noise="clients", groups=2, n_min=2, honest=1)
    play.run(9_000)
    (aggregate,) = play.aggregates()
    (manifest,) = play.world.log.records("aicache.rounds", Manifest)
    assert sum(group.n for group in aggregate.groups) == 8
    for listed, opened in zip(manifest.groups, aggregate.groups, strict=True):
        clear = sum(play.sent["tags-1"][entry.client] for entry in listed.clients)
        assert np.array_equal(values(opened.sum), clear)
    assert np.array_equal(values(aggregate.sum), play.clear_sum("tags-1"))


def test_a_coordinator_killed_after_any_write_goes_on_where_it_stood() -> None:
    play = started(noise="clients", rounds=2)
    for _ in range(160):
        play.world.now_ms += 100
        play.turn()
        play.restart_coordinator()
    assert [aggregate.round_id for aggregate in play.aggregates()] == ["tags-1", "tags-2"]
    for aggregate in play.aggregates():
        assert np.array_equal(values(aggregate.sum), play.clear_sum(aggregate.round_id))
    assert load(play.changelog.items()) == play.state


def test_a_reducer_killed_at_any_time_and_a_second_one_publish_the_same_bytes() -> None:
    play = started(noise="clients")
    for turn in range(90):
        play.world.now_ms += 100
        play.turn()
        if turn % 7 == 0:
            play.restart_reducer()
    published = play.world.log.topics.pop("aicache.insights.aggregates")
    play.restart_reducer()
    play.read_reducer()
    again = play.world.log.topics["aicache.insights.aggregates"]
    assert {item.body for item in again} == {item.body for item in published}


def test_a_model_takes_a_step_with_each_aggregate_and_carries_what_it_cost() -> None:
    spec = ModelSpec(["tag:a"], ["tag:a", "tag:b"], step=1.0, momentum=0.5, window=1)
    play = started(kind="model", length=4, labels=[], model=spec, rounds=3, noise="clients")
    play.run(20_000)
    models = play.models()
    assert [model.version for model in models] == [0, 1, 2, 3]
    sums = [values(aggregate.sum) / (100.0 * aggregate.n) for aggregate in play.aggregates()]
    expected, momentum = np.zeros(4), np.zeros(4)
    for gradient in sums:
        momentum = 0.5 * momentum + gradient
        expected = expected + momentum
    assert np.allclose(np.frombuffer(models[-1].weights), expected)
    assert models[-1].guarantee is not None
    assert models[1].guarantee is not None
    assert models[-1].guarantee.epsilon > models[1].guarantee.epsilon


def test_budgets_in_the_log_grow_with_each_round_that_was_voted_for() -> None:
    play = started(noise="clients", rounds=2)
    play.run(16_000)
    budgets = [row.record for row in play.world.log.topics["aicache.budgets"]]
    assert sorted({budget.rounds for budget in budgets}) == [1, 2]
    assert len({budget.client for budget in budgets}) == 8


def test_a_garbage_ciphertext_drops_the_group_and_says_so() -> None:
    play = started(noise="clients")
    spoiler = play.world.people[0]
    honest_masked = spoiler.masked

    def inconsistent(proposal, rho, vector):
        ciphertext, shares, _ = honest_masked(proposal, rho, vector)
        garbage = bytes(len(ciphertext) - 6) + b"garbage"[:6]
        from aicache.privacy.statements import ciphertext_digest

        return garbage, shares, ciphertext_digest(rho, spoiler.id, garbage)

    spoiler.masked = inconsistent
    play.run(9_000)
    (aggregate,) = play.aggregates()
    assert [(group.status, group.reason) for group in aggregate.groups] == [("dropped", "no-subset-opens")]
    assert aggregate.n == 0
