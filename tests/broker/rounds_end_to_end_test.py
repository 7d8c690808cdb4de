"""Whole rounds through a real Kafka: coordinator, five members and reducer as processes, fifty clients; also with kills."""

from pathlib import Path

import pytest

from aicache.producers.connection import KafkaSettings
from aicache.schemas.records import AdaptiveClipping
from aicache.streams.rounds import exported
from aicache.streams.rounds.kafka import create_task, round_log
from aicache.streams.rounds.verify import verify_round
from support.deployment import make_task
from support.play import CLIENTS, Play
from support.processes import COORDINATOR, REDUCER

LENGTH = 3_000


@pytest.fixture
def play(kafka: KafkaSettings, tmp_path: Path):
    play = Play(kafka, tmp_path)
    yield play
    play.stop()


def task(**changes: object):
    fields = {
        "noise": "clients",
        "honest": 25,
        "n_min": 30,
        "n_max": CLIENTS,
        "length": LENGTH,
        "labels": [],
        "deadline_ms": 30_000,
        "rounds": 2,
    }
    return make_task(**(fields | changes))


def test_fifty_clients_give_exact_sums_round_after_round_and_anybody_can_recompute_them(
    play: Play, tmp_path: Path
) -> None:
    play.start()
    play.join()
    how = AdaptiveClipping(quantile=0.5, rate=0.2, weight=0.5, clip_min=0.25, clip_max=4.0)
    create_task(play.kafka, task(clipping="adaptive", adaptive=how))
    aggregates = play.until_aggregates(2)
    for aggregate in aggregates:
        play.check(aggregate)
    identities = {entry.member: entry.identity_key for entry in play.world.roster()}
    for before, aggregate in zip([None, *aggregates], aggregates, strict=False):
        log = round_log(play.kafka, aggregate.round_id)
        checks = verify_round(log, operator_key=play.public, identities=identities)
        assert len(checks) == 14
        assert all(check.ok for check in checks), checks
        (clip,) = [check.detail for check in checks if check.name == "clip"]
        # On a busy machine rounds between them may have been given up.
        assert clip.endswith("before any round was opened" if before is None else f"from {before.round_id}"), clip
        path = tmp_path / "round.jsonl"
        exported.write(path, log)
        assert all(check.ok for check in verify_round(exported.read(path)))


def test_killed_services_stop_nothing(play: Play) -> None:
    """Reducer, coordinator and a member are killed while clients send; the first two come back, the member does not."""
    play.start()
    play.join()
    create_task(play.kafka, task(rounds=1, deadline_ms=15_000, grace_ms=2_000))
    play.log.until(lambda: play.sent, "clients have sent", play.contribute)
    for process in (play.members[3], play.reducer, play.coordinator):
        play.processes.kill(process)
    play.reducer = play.processes.start(REDUCER)
    play.coordinator = play.processes.start(COORDINATOR, play.world.operator.private_bytes_raw().hex())
    play.processes.ready(play.reducer, play.coordinator)
    (aggregate,) = play.until_aggregates(1)
    play.check(aggregate)
