"""Members, reducer and coordinator killed with kill -9 at random instants, again and again, while rounds go on.

Every round ends exact or aborted, none is opened twice, and no member votes twice. By default a few kills; with --faults a hundred.
"""

import time
from pathlib import Path

import numpy as np
import pytest

from aicache.producers.connection import KafkaSettings
from aicache.schemas.records import Aggregate, Manifest, Opening, RoundAborted, Vote
from aicache.streams.committee.core import ABORT
from aicache.streams.rounds.kafka import create_task
from support.deployment import make_task
from support.play import CLIENTS, Play
from support.processes import COORDINATOR, MEMBER, REDUCER

ROUNDS_MAX = 500


@pytest.fixture
def play(kafka: KafkaSettings, tmp_path: Path):
    play = Play(kafka, tmp_path)
    yield play
    play.stop()


class Killer:
    """Kills one service after another at moments that a seed gives, and starts it again."""

    def __init__(self, play: Play, seed: int, kills: int) -> None:
        self.play = play
        self.rng = np.random.default_rng(seed)
        self.left = kills
        self.next_s = 0.0

    def step(self) -> None:
        if not self.left or time.monotonic() < self.next_s:
            return
        play, which = self.play, int(self.rng.integers(7))
        if which < 5:
            play.processes.kill(play.members[which])
            play.members[which] = play.processes.start(MEMBER, str(play.folders[which]))
        elif which == 5:
            play.processes.kill(play.reducer)
            play.reducer = play.processes.start(REDUCER)
        else:
            play.processes.kill(play.coordinator)
            play.coordinator = play.processes.start(COORDINATOR, play.world.operator.private_bytes_raw().hex())
        self.left -= 1
        self.next_s = time.monotonic() + float(self.rng.uniform(0.05, 3.0))


@pytest.mark.parametrize(
    "kills", [5, pytest.param(100, marks=[pytest.mark.faults, pytest.mark.timeout(1_500)])], ids=["few", "hundred"]
)
def test_whatever_is_killed_every_round_is_exact_or_aborted_and_none_is_opened_twice(play: Play, kills: int) -> None:
    play.start()
    play.join()
    fields = {"noise": "clients", "honest": 25, "n_min": 30, "n_max": CLIENTS, "length": 300, "labels": []}
    limits = {"deadline_ms": 6_000, "grace_ms": 2_000, "rounds": ROUNDS_MAX, "noise_multiplier": 60.0}
    create_task(play.kafka, make_task(**fields, **limits))
    play.log.until(lambda: play.sent, "clients have sent", play.contribute)
    killer = Killer(play, kills, kills)

    def move() -> None:
        play.contribute()
        killer.step()

    play.log.until(lambda: not killer.left, "all is killed", move, timeout_s=1_200.0)
    done = len(play.aggregates())
    play.log.until(lambda: len(play.aggregates()) > done + 1, "rounds go on afterwards", play.contribute, 120.0)
    check(play)


def check(play: Play) -> None:
    log = play.log
    manifests: dict[str, set[bytes]] = {}
    for opening in log.records("aicache.openings", Opening):
        manifests.setdefault(opening.round_id, set()).add(opening.manifest_digest)
    assert manifests
    assert all(len(digests) == 1 for digests in manifests.values()), "no round is opened twice"
    votes: dict[tuple[str, int], set[bytes]] = {}
    for vote in log.records("aicache.votes", Vote):
        votes.setdefault((vote.round_id, vote.member), set()).add(vote.manifest_digest)
    assert all(len(digests) == 1 for digests in votes.values()), "no member votes twice"
    sums: dict[str, set[bytes]] = {}
    listed = {m.round_id: m for m in log.records("aicache.rounds", Manifest)}
    for aggregate in log.records("aicache.insights.aggregates", Aggregate):
        sums.setdefault(aggregate.round_id, set()).add(aggregate.sum)
        clients = [entry.client for group in listed[aggregate.round_id].groups for entry in group.clients]
        clear = np.sum([play.sent[aggregate.round_id][client] for client in clients], axis=0)
        assert np.array_equal(np.frombuffer(aggregate.sum, "<i8"), clear)
    assert all(len(found) == 1 for found in sums.values())
    aborted = {record.round_id for record in log.records("aicache.rounds", RoundAborted)}
    opened_after_abort = aborted & set(sums)
    for round_id in opened_after_abort:
        voted = [d for (name, _), digests in votes.items() if name == round_id for d in digests if d != ABORT]
        assert len(voted) >= 4, "only a quorum of votes overrides an abort"
    unfinished = set(listed) - set(sums) - aborted
    assert len(unfinished) <= 1, "the last round may still go on"
