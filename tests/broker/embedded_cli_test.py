"""The command line against a real Kafka."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.cli import frame
from aicache.cli.app import run
from aicache.local import operator
from aicache.local.deployment import WORKERS, command_of, service_names
from aicache.local.reading import follow, latest, read_all
from aicache.local.writing import write
from aicache.privacy.statements import client_id
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.records import DeadLetter, Incident, JoinRequest, Model
from aicache.schemas.signing import signed, verify_record

WAIT_S = 30.0
Command = Callable[..., int]


@pytest.fixture
def aicache(kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line under the test's prefix."""
    monkeypatch.chdir(tmp_path)
    before = [
        "--kafka",
        kafka.bootstrap_servers,
        "--prefix",
        kafka.prefix,
        "--set",
        f"kafka.deployment={kafka.deployment}",
    ]
    return lambda *words: run([*before, *words])


def printed(capsys: pytest.CaptureFixture[str]) -> object:
    return json.loads(capsys.readouterr().out)


def test_doctor_names_missing_topics_and_the_command_that_makes_them_right(
    aicache: Command, kafka: KafkaSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aicache("doctor", "--json") == frame.FAILED
    found = [item for item in printed(capsys) if item["name"] == "topics"]
    assert f"{kafka.prefix}aicache.tasks" in found[0]["found"]
    assert found[0]["advice"] == f"run: aicache --prefix {kafka.prefix} topics create"
    assert aicache("topics", "create", "--json") == frame.OK
    assert len(printed(capsys)["changed"]) == len(topics.all_topics())
    assert aicache("doctor") == frame.OK
    assert aicache("topics", "check") == frame.OK
    capsys.readouterr()
    assert aicache("topics", "create", "--json") == frame.OK
    assert printed(capsys) == {"changed": []}
    assert aicache("topics", "list", "--json") == frame.OK
    assert {row["exists"] for row in printed(capsys)} == {"yes"}


def until_shown(admin: AdminClient, topic: str, key: str, value: str) -> None:
    """The controller answers first; the broker shows the new setting a moment later."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        if admin.describe_configs([resource])[resource].result(WAIT_S)[key].value == value:
            return
    raise AssertionError(f"{topic} never shows {key} = {value}")


def test_a_wrong_retention_is_told_and_set_right_and_wrong_partitions_are_told(
    aicache: Command, kafka: KafkaSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = AdminClient(kafka.client_config())
    admin.create_topics([NewTopic(kafka.name("aicache.votes"), 3, 1)])[kafka.name("aicache.votes")].result(WAIT_S)
    assert aicache("topics", "create") == frame.OK
    entry = ConfigEntry("retention.ms", "60000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, kafka.name("aicache.usage"), incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(WAIT_S)
    until_shown(admin, kafka.name("aicache.usage"), "retention.ms", "60000")
    capsys.readouterr()
    assert aicache("topics", "check", "--json") == frame.FAILED
    found = {
        (row["topic"].removeprefix(kafka.prefix), row["what"]): (row["got"], row["needed"]) for row in printed(capsys)
    }
    assert found == {
        ("aicache.votes", "partitions"): ("3", "1"),
        ("aicache.usage", "retention.ms"): ("60000", str(topics.USAGE.retention_ms)),
    }
    assert aicache("doctor") == frame.FAILED
    assert "partitions is 3, needed 1" in capsys.readouterr().out
    assert aicache("topics", "create") == frame.OK
    capsys.readouterr()
    assert aicache("topics", "check", "--json") == frame.FAILED
    assert [row["what"] for row in printed(capsys)] == ["partitions"]


def join(kafka: KafkaSettings, at_ms: int) -> JoinRequest:
    return JoinRequest(kafka.deployment, bytes(32), at_ms, bytes(64))


def test_tail_shows_records_and_passes_what_cannot_be_decoded(
    aicache: Command, kafka: KafkaSettings, create_topic: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    from confluent_kafka import Producer

    name = create_topic(topics.JOINS.name)
    write(kafka, topics.JOINS, [(b"one", join(kafka, 1))])
    producer = Producer(kafka.client_config())
    producer.produce(name, b"\xc3\x01nonsense", b"\xff")
    assert producer.flush(WAIT_S) == 0
    write(kafka, topics.JOINS, [(b"two", join(kafka, 2))])
    assert aicache("tail", "joins", "--no-follow", "--json") == frame.OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in lines] == ["JoinRequest", "unreadable", "JoinRequest"]
    assert [line["key"] for line in lines] == ["one", "ff", "two"]
    assert lines[2]["record"]["requested_ms"] == 2
    assert aicache("tail", "aicache.joins", "--no-follow", "--last", "1") == frame.OK
    assert "requested_ms=2" in capsys.readouterr().out


def test_reading_ends_behind_a_transactions_marker_and_follows_what_comes(
    kafka: KafkaSettings, create_topic: Callable[..., str]
) -> None:
    from confluent_kafka import Producer

    from aicache.schemas.codec import Codec

    name = create_topic(topics.JOINS.name, partitions=2)
    assert read_all(kafka, topics.JOINS) == []
    producer = Producer(kafka.client_config(transactional_id=kafka.name("t")))
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce(name, Codec().encode(join(kafka, 1)), b"a", partition=0)
    producer.commit_transaction(WAIT_S)
    producer.begin_transaction()
    producer.produce(name, Codec().encode(join(kafka, 9)), b"a", partition=1)
    producer.abort_transaction(WAIT_S)
    assert [seen.record.requested_ms for seen in read_all(kafka, topics.JOINS)] == [1]
    write(kafka, topics.JOINS, [(b"a", None)])
    assert latest(kafka, topics.JOINS) == {}
    live = follow(kafka, topics.JOINS, last=0)
    threading.Timer(0.3, write, (kafka, topics.JOINS, [(b"b", join(kafka, 3))])).start()
    assert next(live).record.requested_ms == 3
    live.close()


def test_a_topic_that_is_not_there_says_what_to_run(aicache: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert aicache("tail", "joins", "--no-follow") == frame.USAGE
    assert "aicache topics create" in capsys.readouterr().err
    assert aicache("tail", "nonsense") == frame.USAGE


def test_a_kafka_that_is_away_is_exit_code_3_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(frame, "REACH_TIMEOUT_S", 1.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert run(["--kafka", address, "topics", "check"]) == frame.UNREACHABLE
        assert address in capsys.readouterr().err
        assert run(["--kafka", address, "doctor", "--timeout", "1"]) == frame.UNREACHABLE


@pytest.fixture
def up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`aicache up` with every service, ready."""
    command = [sys.executable, "-m", "aicache.cli.main", "up", "--json"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("AICACHE_")}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["name"] == "all":
                break
        yield process
        if process.poll() is None:
            process.kill()


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = psutil.Process(process.pid).children(recursive=True)
    names = " ".join(" ".join(child.cmdline()) for child in found)
    assert "kafka.Kafka" in names
    for service in service_names(5):
        assert " ".join(command_of(service)) in names
    return found


def test_up_is_found_by_other_commands_and_ends_clean_on_ctrl_c(
    up: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("AICACHE_")]:
        monkeypatch.delenv(name)
    assert run(["doctor"]) == frame.OK
    assert run(["committee", "status", "--member", "1", "--json"]) == frame.OK
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["running"] is True
    children = family(up)
    os.kill(up.pid, signal.SIGINT)
    assert up.wait(WAIT_S) == frame.INTERRUPTED
    assert up.stderr.read() == "interrupted\n"
    assert psutil.wait_procs(children, timeout=WAIT_S)[1] == []
    assert run(["doctor"]) == frame.OK
    assert "none running here" in capsys.readouterr().out


def test_nothing_is_left_behind_when_up_is_killed(up: subprocess.Popen[str]) -> None:
    children = family(up)
    os.kill(up.pid, signal.SIGKILL)
    assert psutil.wait_procs(children, timeout=WAIT_S)[1] == []


def test_the_operator_sees_who_waits_admits_and_revokes(
    aicache: Command, kafka: KafkaSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aicache("topics", "create") == frame.OK
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    client = client_id(public)
    write(kafka, topics.JOINS, [(client, signed(JoinRequest(kafka.deployment, public, 1, bytes(64)), key))])
    capsys.readouterr()
    assert aicache("enrol", "--json") == frame.OK
    assert [row["client"] for row in printed(capsys)] == [client.hex()]
    assert aicache("enrol", client.hex()[:8]) == frame.USAGE
    assert "operator.key" in capsys.readouterr().err
    operators = operator.create(tmp_path / ".aicache" / "operator.key").public_key().public_bytes_raw()
    assert aicache("enrol", client.hex()[:8], "--json") == frame.OK
    assert printed(capsys) == {"admitted": [client.hex()]}
    [admitted] = latest(kafka, topics.ENROLMENTS).values()
    verify_record(admitted.record, operators)
    assert aicache("enrol") == frame.OK
    assert capsys.readouterr().out == "Nobody waits; 1 are enrolled.\n"
    assert aicache("enrol", "--revoke", client.hex()[:8], "--reason", "spam") == frame.OK
    [revoked] = latest(kafka, topics.ENROLMENTS).values()
    verify_record(revoked.record, operators)
    assert (revoked.record.revoked, revoked.record.reason) == (True, "spam")
    assert aicache("enrol", "--all", "--revoke") == frame.USAGE


def test_incidents_and_dead_letters_are_listed_and_shown(
    aicache: Command, kafka: KafkaSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aicache("topics", "create") == frame.OK
    opened = Incident(
        kafka.deployment, "4be1aa", "opened", "failure-rate", "op:build", "pypi:x@2.4", ["pypi:x@2.4"], 100, 100,
        0.08, 0.02, "share", 0.7, 0.9, "fails four times as often", 500, None,
    )  # fmt: skip
    resolved = replace(opened, incident="77aa00", status="resolved")
    write(kafka, topics.ANOMALIES, [(b"4be1aa", opened), (b"77aa00", opened), (b"77aa00", resolved)])
    letter = DeadLetter(kafka.deployment, "anomalies", "aicache.usage", 1, 2, 3_000, "malformed", "left over", 4)
    write(kafka, topics.DEAD_LETTERS, [(b"x", letter), (b"y", replace(letter, reason="too-large"))])
    capsys.readouterr()
    assert aicache("incidents", "list", "--json") == frame.OK
    assert [item["incident"] for item in printed(capsys)] == ["4be1aa"]
    assert aicache("incidents", "list", "--all") == frame.OK
    assert "resolved" in capsys.readouterr().out
    assert aicache("incidents", "show", "4be") == frame.OK
    assert "fails four times as often" in capsys.readouterr().out
    assert aicache("incidents", "show", "ffff") == frame.USAGE
    assert aicache("dead-letters", "list", "--reason", "malformed", "--json") == frame.OK
    rows = [row for line in capsys.readouterr().out.splitlines() for row in json.loads(line)]
    assert [(row["place"], row["reason"]) for row in rows] == [("1@2", "malformed")]
    assert aicache("dead-letters", "list", "--summary", "--json") == frame.OK
    assert sorted(row["reason"] for row in printed(capsys)) == ["malformed", "too-large"]
    assert aicache("dead-letters", "show", str(rows[0]["number"])) == frame.OK
    assert "left over" in capsys.readouterr().out
    assert aicache("dead-letters", "show", "99") == frame.USAGE
    assert aicache("round", "list") == frame.OK
    assert capsys.readouterr().out == "No round yet.\n"


def test_tasks_are_listed_paused_and_their_models_rolled_back(
    aicache: Command, kafka: KafkaSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aicache("topics", "create") == frame.OK
    labels = ", ".join(f'"l{number}"' for number in range(20))
    Path("tags.toml").write_text(f'task = "tags"\nkind = "histogram"\nlabels = [{labels}]\nepsilon = 1.0\nn_min = 50\n')
    assert aicache("task", "simulate", "tags.toml") == frame.OK
    assert aicache("task", "create", "tags.toml") == frame.OK
    Path("bad.toml").write_text('task = "tags"\nkind = "histogram"\nlables = []\n')
    assert aicache("task", "create", "bad.toml") == frame.USAGE
    assert "bad.toml: unknown keys: lables" in capsys.readouterr().err
    models = [
        Model(kafka.deployment, "tags", n, n - 1, "", bytes([n]) * 32, 1, bytes([n] * 8), n, 5, None, [])
        for n in (0, 1)
    ]
    write(kafka, topics.MODELS, [(b"tags", model) for model in models])
    capsys.readouterr()
    assert aicache("task", "list", "--json") == frame.OK
    assert [item["task"] for item in printed(capsys)] == ["tags"]
    assert aicache("task", "show", "tags") == frame.OK
    assert "… (20 in all)" in capsys.readouterr().out
    assert aicache("task", "show", "tag") == frame.USAGE
    assert aicache("task", "set", "tags", "paused") == frame.OK
    assert [(seen.record.state, seen.record.version) for seen in latest(kafka, topics.TASKS).values()] == [
        ("paused", 2)
    ]
    assert aicache("task", "set", "tags", "gone") == frame.USAGE
    capsys.readouterr()
    assert aicache("task", "rollback", "tags", "0", "--json") == frame.OK
    assert printed(capsys) == {"task": "tags", "version": 2, "same_as": 0}
    [newest] = latest(kafka, topics.MODELS).values()
    assert (newest.record.version, newest.record.weights) == (2, models[0].weights)
    assert aicache("task", "rollback", "tags", "7") == frame.USAGE


def test_a_round_that_is_not_there_and_a_file_that_is_no_round_are_told(
    aicache: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aicache("topics", "create") == frame.OK
    assert aicache("verify", "tags-000001") == frame.USAGE
    assert "aicache round list" in capsys.readouterr().err
    assert aicache("round", "export", "tags-000001", "x.jsonl") == frame.USAGE
    Path("x.jsonl").write_text("{}\n")
    assert aicache("verify", "--file", "x.jsonl") == frame.FAILED
    assert aicache("verify", "--file", "nowhere.jsonl") == frame.USAGE
    assert aicache("verify") == frame.USAGE


def test_every_worker_of_a_deployment_is_a_command() -> None:
    from aicache.cli.worker import WORKERS as COMMANDS

    assert set(WORKERS) == set(COMMANDS)


ROUNDS = Path(__file__).parent.parent / "vectors"


@pytest.mark.parametrize("file", sorted(ROUNDS.glob("round-*.jsonl")), ids=lambda path: path.name)
def test_verify_tells_valid_rounds_from_invalid_ones(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = "good" in file.name
    assert run(["verify", "--file", str(file), "--json"]) == (frame.OK if good else frame.FAILED)
