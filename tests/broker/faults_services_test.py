"""Faults of the services of rounds: coordinator, members and reducer as processes on a real broker, and a client that is killed.

The oracle is that of the kill tests: every round ends exact or aborted, none is opened twice, no member votes twice.
"""

import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aicache.local.kafka import EmbeddedKafka
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.records import Vote
from aicache.streams.rounds.kafka import create_task
from support.deployment import make_task
from support.play import CLIENTS, Play, check_rounds
from support.processes import COORDINATOR, MEMBER, REDUCER
from support.reading import records_of

ROUNDS_MAX = 500
TESTS = Path(__file__).parents[1]
LIVES = 6
DISK_BYTES = 8_192
"""What a file of the member may hold: enough to say why it ends, less than its store."""


@pytest.fixture
def play(kafka: KafkaSettings, tmp_path: Path) -> Iterator[Play]:
    play = Play(kafka, tmp_path)
    yield play
    play.stop()


def begin(play: Play) -> None:
    """Rounds go on and on."""
    play.start()
    play.join()
    fields = {"noise": "clients", "honest": 25, "n_min": 30, "n_max": CLIENTS, "length": 60, "labels": []}
    limits = {"deadline_ms": 5_000, "grace_ms": 1_500, "rounds": ROUNDS_MAX, "noise_multiplier": 60.0}
    create_task(play.kafka, make_task(**fields, **limits))
    play.until_aggregates(1)


@pytest.mark.faults
def test_two_reducers_at_once_publish_the_same_bytes(play: Play) -> None:
    """two reducers at once: every aggregate of a round is the same bytes, whoever wrote it."""
    second = play.processes.start(REDUCER)
    begin(play)
    play.processes.ready(second)
    play.until_aggregates(4)
    bodies: dict[str, set[bytes]] = {}
    for item in play.log.topics["aicache.insights.aggregates"]:
        bodies.setdefault(item.record.round_id, set()).add(item.body)
    assert all(len(found) == 1 for found in bodies.values())
    assert second.poll() is None
    check_rounds(play)


@pytest.mark.faults
def test_a_member_whose_disk_is_full_stops_before_it_says_anything(play: Play) -> None:
    """full disk for a member's state: it ends and says so, the others go on with their quorum, and it goes on once there is space."""
    begin(play)
    member = play.members[0]
    resource.prlimit(member.pid, resource.RLIMIT_FSIZE, (DISK_BYTES, resource.RLIM_INFINITY))
    play.until_aggregates(len(play.aggregates()) + 2)
    assert member.wait(30) != 0
    assert "cannot be written" in play.processes.said()
    play.members[0] = play.processes.start(MEMBER, str(play.folders[0]))
    votes = lambda: sum(vote.member == 1 for vote in play.log.records("aicache.votes", Vote))  # noqa: E731
    before = votes()
    play.log.until(lambda: votes() > before, "the member votes again", play.contribute)
    check_rounds(play)


@pytest.mark.faults
def test_every_service_is_restarted_while_rounds_go_on(play: Play) -> None:
    """rolling restart of coordinator, members and reducer under load: each stops in order, every round is exact or aborted."""
    begin(play)
    key = play.world.operator.private_bytes_raw().hex()
    for number, member in enumerate(play.members):
        stop(play, member)
        play.members[number] = play.processes.start(MEMBER, str(play.folders[number]))
        play.contribute()
        play.processes.ready(play.members[number])
    play.processes.kill(play.reducer)  # it keeps nothing that it could put in order
    play.reducer = play.processes.start(REDUCER)
    stop(play, play.coordinator)
    play.coordinator = play.processes.start(COORDINATOR, key)
    play.until_aggregates(len(play.aggregates()) + 2)
    check_rounds(play)


@pytest.mark.faults
def test_rounds_go_on_when_the_broker_comes_back(tmp_path: Path) -> None:
    """broker kill -9 under rounds, restarted on the same data: services go on or are started again, every round is exact or aborted."""
    with EmbeddedKafka() as broker:
        play = Play(broker.settings(prefix="rounds.", deployment="rounds"), tmp_path)
        try:
            begin(play)
            broker.kill()
            broker.restart()
            play.until_aggregates(len(play.aggregates()) + 2, lambda: revive(play))
            check_rounds(play)
        finally:
            play.stop()


def revive(play: Play) -> None:
    """Start again what has ended, as a supervisor does."""
    if play.coordinator.poll() is not None:
        play.coordinator = play.processes.start(COORDINATOR, play.world.operator.private_bytes_raw().hex())
    if play.reducer.poll() is not None:
        play.reducer = play.processes.start(REDUCER)
    for number, member in enumerate(play.members):
        if member.poll() is not None:
            play.members[number] = play.processes.start(MEMBER, str(play.folders[number]))


def stop(play: Play, process: "subprocess.Popen[str]") -> None:
    process.terminate()
    play.log.until(lambda: process.poll() is not None, "the service ends", play.contribute)
    assert process.returncode == 0, play.processes.said()


@pytest.mark.faults
def test_a_client_killed_at_any_instant_has_sent_once_what_it_called_sent(kafka: KafkaSettings, tmp_path: Path) -> None:
    """kill -9 of a client, several in a row: every event that it called acknowledged is in the log, none is there twice."""
    create_topics(kafka.client_config(), kafka.prefix)
    dice = np.random.default_rng(1)
    said: list[str] = []
    for life in range(LIVES):
        place = [kafka.bootstrap_servers, kafka.prefix, kafka.deployment, str(tmp_path), str(life)]
        command = [sys.executable, "-m", "support.run_client", *place]
        process = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said += [process.stdout.readline().strip() for _ in range(int(dice.integers(1, 30)))]
        process.kill()
        said += process.stdout.read().split()
        process.stdout.close()
        process.wait()
    found = Counter(item for batch in records_of(kafka, topics.USAGE) for event in batch.events for item in event.items)
    assert set(said) <= set(found), "an acknowledged event is lost"
    assert max(found.values()) == 1, "an event was sent twice"
