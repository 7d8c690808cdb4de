"""Members as processes on a real Kafka: a round from proposal to opened sum, and what must stop a member."""

import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from aicache.producers.connection import KafkaSettings
from aicache.schemas.records import Approval, CommitteeMember, Endorsement, Envelope, Vote
from aicache.schemas.signing import verify_record
from aicache.streams.committee import commands
from support.kafka_log import KafkaLog
from support.rounds import LIMITS, World

RUN = """
import sys
from pathlib import Path
from aicache.privacy.errors import AicacheError
from aicache.producers.connection import KafkaSettings
from aicache.streams.committee.commands import run
servers, prefix, deployment, folder = sys.argv[1:]
try:
    run(KafkaSettings(servers, prefix=prefix, deployment=deployment), Path(folder))
except AicacheError as error:
    sys.exit(f"error: {error}")
"""
WAIT_S = 60
KILLS_MAX = 4


class Runner:
    """Starts members as processes, and ends them all."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def init(self, world: World, number: int) -> Path:
        folder = self.folder / f"member-{number}"
        public = world.operator.public_key().public_bytes_raw()
        commands.init(folder, number, deployment=self.kafka.deployment, operator_key=public, limits=LIMITS)
        return folder

    def start(self, folder: Path) -> subprocess.Popen[str]:
        arguments = [self.kafka.bootstrap_servers, self.kafka.prefix, self.kafka.deployment, str(folder)]
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def ready(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready committee-"), (line, process.stderr.read() if process.stderr else "")
        return line

    def fails(self, process: subprocess.Popen[str]) -> str:
        _, error = process.communicate(timeout=WAIT_S)
        assert process.returncode == 1, error
        return error

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            process.wait()


@pytest.fixture
def log(kafka: KafkaSettings, create_topic):
    KafkaLog.create_all(create_topic)
    log = KafkaLog(kafka)
    yield log
    log.close()


@pytest.fixture
def runner(kafka: KafkaSettings, tmp_path: Path):
    runner = Runner(kafka, tmp_path)
    yield runner
    runner.stop()


def world_on(log: KafkaLog, runner: Runner, members: int, threshold: int, clients: int = 5) -> World:
    return World(
        members=members,
        threshold=threshold,
        clients=clients,
        outside=True,
        deployment=runner.kafka.deployment,
        log=log,
        now_ms=time.time_ns() // 1_000_000,
        seed=runner.kafka.deployment,
    )


def approved(log: KafkaLog, world: World, proposal) -> bool:
    return len(world.approvals(proposal.round_id)) >= proposal.quorum


def all_endorsed(world: World, proposal, people: list, numbers: list[int]) -> bool:
    vectors = [
        envelope.sender
        for envelope in world.log.records("aicache.envelopes", Envelope)
        if envelope.member and envelope.round_id == proposal.round_id
    ]
    senders = {person.id for person in people} | set(vectors)
    enough = len(set(vectors)) == len(proposal.roster)
    return enough and all(senders <= set(world.endorsed(proposal.round_id, number)) for number in numbers)


def play(log: KafkaLog, world: World, round_id: str, **changes):
    """One whole round with the members that run; gives proposal, rho, manifest and the exact sum of the clients."""
    numbers = list(range(1, world.members + 1))
    log.until(lambda: len(world.roster()) == world.members, "every member is announced")
    world.now_ms = time.time_ns() // 1_000_000
    proposal, rho = world.propose(round_id, noise="clients", honest=3, **changes)
    log.until(lambda: approved(log, world, proposal), "k approvals")
    total = world.send_all(proposal, rho)
    log.until(lambda: all_endorsed(world, proposal, world.people, numbers), "all endorsed")
    world.close(proposal, rho)
    log.until(lambda: len(world.nonces(round_id)) == world.members, "nonces revealed")
    manifest = world.manifest(proposal, rho)
    world.publish_manifest(manifest)
    log.until(lambda: len(world.openings(round_id)) >= proposal.threshold, "openings")
    return proposal, rho, manifest, total


def test_five_member_processes_open_a_round_exactly_and_in_time(log: KafkaLog, runner: Runner) -> None:
    world = world_on(log, runner, 5, 3)
    folders = [runner.init(world, number) for number in range(1, 6)]
    for process in [runner.start(folder) for folder in folders]:
        runner.ready(process)
    started_s = time.monotonic()
    proposal, rho, manifest, total = play(log, world, "r1", length=200_000)
    assert time.monotonic() - started_s < 30
    assert np.array_equal(world.open_sum(proposal, rho, manifest), total)
    status = commands.status(folders[0])
    assert status["running"]
    assert status["clients_charged"] == 5
    assert status["rounds_over"] == 1
    assert status["refused"] == {}
    assert rss_mb(runner.processes[0].pid) < 200


def rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def test_a_member_runs_once_and_its_number_belongs_to_one_identity(log: KafkaLog, runner: Runner) -> None:
    world = world_on(log, runner, 1, 1)
    folder = runner.init(world, 1)
    runner.ready(runner.start(folder))
    assert "another process" in runner.fails(runner.start(folder))
    log.until(lambda: world.roster(), "announced")
    runner.folder = runner.folder / "other"
    assert "member 1 exists already" in runner.fails(runner.start(runner.init(world, 1)))


def test_a_running_member_rotates_when_asked(log: KafkaLog, runner: Runner) -> None:
    world = world_on(log, runner, 1, 1)
    folder = runner.init(world, 1)
    runner.ready(runner.start(folder))
    assert commands.rotate(folder) == {"requested": True}

    def keys() -> list[CommitteeMember]:
        records = log.records("aicache.committee", CommitteeMember)
        return records if len(records) == 2 else []

    first, second = log.until(keys, "the second epoch key")
    assert (first.epoch, second.epoch) == (1, 2)
    verify_record(second, first.identity_key)


def test_a_retired_member_tells_everybody_and_ends(log: KafkaLog, runner: Runner) -> None:
    world = world_on(log, runner, 1, 1)
    folder = runner.init(world, 1)
    process = runner.start(folder)
    runner.ready(process)
    process.terminate()
    assert process.wait(WAIT_S) == 0
    commands.retire(folder)
    assert "member 1 is retired" in runner.fails(runner.start(folder))
    log.until(
        lambda: [record for record in log.records("aicache.committee", CommitteeMember) if record.retired], "retired"
    )


def test_a_store_restored_from_a_copy_refuses_until_it_is_told_of_the_loss(log: KafkaLog, runner: Runner) -> None:
    world = world_on(log, runner, 3, 2)
    folders = [runner.init(world, number) for number in (1, 2, 3)]
    copy = runner.folder / "copy"
    shutil.copytree(folders[0], copy)
    processes = [runner.start(folder) for folder in folders]
    for process in processes:
        runner.ready(process)
    play(log, world, "r1")
    processes[0].terminate()
    processes[0].wait(WAIT_S)
    assert processes[0].returncode == 0
    shutil.rmtree(folders[0])
    shutil.copytree(copy, folders[0])
    before = len(log.records("aicache.votes", Vote))
    assert "old copy" in runner.fails(runner.start(folders[0]))
    commands.rotate(folders[0], after_loss=True)
    again = runner.start(folders[0])
    runner.ready(again)
    log.refresh()
    assert len(log.records("aicache.votes", Vote)) == before
    assert commands.status(folders[0])["needs_ledgers"]


def test_of_two_copies_of_one_member_one_stops_when_it_hears_of_the_other(log: KafkaLog, runner: Runner) -> None:
    world = world_on(log, runner, 2, 2)
    folder = runner.init(world, 1)
    twin = runner.folder / "twin"
    shutil.copytree(folder, twin)  # before its first start: both announce the same key, and neither knows of the other
    twins = [runner.start(folder), runner.start(twin)]
    for process in (*twins, runner.start(runner.init(world, 2))):
        runner.ready(process)
    log.until(lambda: len(world.roster()) == 2, "announced")
    world.now_ms = time.time_ns() // 1_000_000
    world.propose("r1", n_min=3)
    stopped = log.until(lambda: [process for process in twins if process.poll() is not None], "one has stopped")
    assert "the same member runs in two places" in runner.fails(stopped[0])


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(100))
def test_a_member_killed_at_any_instant_never_says_two_things(log: KafkaLog, runner: Runner, seed: int) -> None:
    """Three members, of which all are needed; one is killed again and again until the round is over."""
    world = world_on(log, runner, 3, 2, clients=3)
    folders = [runner.init(world, number) for number in (1, 2, 3)]
    for process in [runner.start(folder) for folder in folders[1:]]:
        runner.ready(process)
    generator = np.random.default_rng(seed)
    victim = runner.start(folders[0])
    runner.ready(victim)
    next_kill_s = [time.monotonic() + float(generator.exponential(0.15))]
    kills = [0]

    def harass() -> None:
        nonlocal victim
        for process in runner.processes:
            if process.poll() not in (None, -signal.SIGKILL):
                raise AssertionError(f"a member ended by itself: {process.stderr.read() if process.stderr else ''}")
        if time.monotonic() >= next_kill_s[0] and kills[0] < KILLS_MAX:
            victim.kill()
            victim.wait()
            kills[0] += 1
            victim = runner.start(folders[0])
            next_kill_s[0] = time.monotonic() + 0.3 + float(generator.exponential(0.5))

    until = log.until
    log.until = lambda holds, what: until(holds, what, harass)  # type: ignore[method-assign]
    proposal, rho, manifest, total = play(log, world, "r1")
    assert np.array_equal(world.open_sum(proposal, rho, manifest), total)
    said_once(log)


def said_once(log: KafkaLog) -> None:
    votes = {(vote.member, vote.manifest_digest) for vote in log.records("aicache.votes", Vote)}
    assert len(votes) == len({member for member, _ in votes}) == 3
    approvals = {(record.member, record.nonce_commitment) for record in log.records("aicache.votes", Approval)}
    assert len(approvals) == 3
    endorsements = {
        (record.member, record.sequence): record.signature
        for record in log.records("aicache.endorsements", Endorsement)
    }
    for record in log.records("aicache.endorsements", Endorsement):
        assert endorsements[record.member, record.sequence] == record.signature
    vectors = {(record.sender, record.digest) for record in log.records("aicache.envelopes", Envelope)}
    assert len(vectors) == 3 + 3
