"""Members, reducer and coordinator killed with kill -9 at random instants, again and again, while rounds go on.

Every round ends exact or aborted, none is opened twice, and no member votes twice. By default a few kills; with --faults a hundred.
"""

import time
from pathlib import Path

import numpy as np
import pytest

from aicache.producers.connection import KafkaSettings
from aicache.streams.rounds.kafka import create_task
from support.deployment import make_task
from support.play import CLIENTS, Play, check_rounds
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
    """kill -9 of coordinator, members and reducer at random instants: every round is exact or aborted, none is opened twice."""
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
    check_rounds(play)
    newest = max(play.aggregates().values(), key=lambda aggregate: aggregate.number)
    assert newest.n >= fields["n_min"], "once nothing is killed any more, rounds are opened"
