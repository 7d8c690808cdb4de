"""`aicache join` on a real Kafka."""

import json
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.cli.app import run
from aicache.cli.frame import FAILED, OK
from aicache.local import admission
from aicache.local.kafka import EmbeddedKafka
from aicache.local.reading import read_all
from aicache.local.writing import write
from aicache.producers import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.records import JoinRequest


def test_a_client_joins_from_the_command_line(
    kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AICACHE_CLIENT__FOLDER", str(tmp_path / "client"))
    settings = KafkaSettings(kafka.bootstrap_servers, prefix="joins.")
    create_topics(settings.client_config(), settings.prefix)
    before = ["--kafka", kafka.bootstrap_servers, "--prefix", settings.prefix, "join", "--json"]

    def requests() -> list[JoinRequest]:
        return [seen.record for seen in read_all(settings, topics.JOINS) if isinstance(seen.record, JoinRequest)]

    assert run([*before, "--dry-run"]) == OK
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["withheld"]) == 1
    assert requests() == [], "a dry run sends nothing"

    assert run([*before, "--wait", "--timeout", "0.5"]) == FAILED, "nobody has said yes"
    name = json.loads(capsys.readouterr().out)["client"]
    assert name == shown["client"], "the client is made once"
    assert [item.client.hex() for item in admission.waiting(requests(), {}, settings.deployment)] == [name]

    def admit() -> None:
        now_ms = time.time_ns() // 1_000_000
        waiting = admission.waiting(requests(), {}, settings.deployment)
        key = Ed25519PrivateKey.generate()
        said = [admission.admit(one, deployment=settings.deployment, key=key, now_ms=now_ms) for one in waiting]
        write(settings, topics.ENROLMENTS, [(record.client, record) for record in said])

    operator = threading.Thread(target=admit)
    operator.start()
    try:
        assert run([*before, "--wait", "--timeout", "30"]) == OK
    finally:
        operator.join()
    assert json.loads(capsys.readouterr().out)["enrolled"]
    count = len(requests())
    assert run(before) == OK
    assert json.loads(capsys.readouterr().out) == {
        "client": name,
        "asked": False,
        "enrolled": True,
        "folder": str(tmp_path / "client"),
    }
    assert len(requests()) == count, "who is enrolled does not ask again"
