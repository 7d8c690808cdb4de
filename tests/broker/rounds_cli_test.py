"""What people ask of opened rounds on the command line, against a real Kafka."""

import json
from pathlib import Path

import numpy as np
import pytest

from aicache.cli import frame
from aicache.cli.app import run
from aicache.local.writing import write
from aicache.producers.connection import KafkaSettings
from aicache.producers.vectors import count_sketch
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.records import Aggregate, Guarantee
from aicache.streams.rounds.kafka import create_task
from aicache.streams.rounds.task import from_mapping

GUARANTEE = Guarantee(
    "discrete-gaussian-sum", "committee", "client", "add-or-remove", "round", 0.5, 1e-5, 1.0, 4.0, 2, []
)
DEPTH, WIDTH, SCALE = 7, 512, 1_000.0


def test_heavy_names_and_a_contribution_to_a_task_of_the_log(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    create_topics(kafka.client_config(), kafka.prefix)
    sketch = {"task": "errors", "kind": "count-sketch", "sketch_depth": DEPTH, "sketch_width": WIDTH, "epsilon": 1.0}
    task = create_task(kafka, from_mapping(sketch, kafka.deployment))
    names = ["sig:aa01"] * 900 + ["sig:bb02"] * 300 + [f"sig:{number:04x}" for number in range(200)]
    table = np.rint(count_sketch(names, DEPTH, WIDTH) * SCALE).astype("<i8")
    aggregate = Aggregate(
        kafka.deployment, "errors", task.version, "errors-1", 1, "count-sketch", bytes(32), 8, 500, DEPTH * WIDTH, SCALE,
        [], table.tobytes(), [], GUARANTEE,
    )  # fmt: skip
    write(kafka, topics.AGGREGATES, [(b"errors-1", aggregate)])

    def aicache(*words: str) -> int:
        capsys.readouterr()
        where = ["--kafka", kafka.bootstrap_servers, "--prefix", kafka.prefix]
        return run([*where, "--set", f"kafka.deployment={kafka.deployment}", *words])

    Path("known.txt").write_text("sig:aa01\nsig:bb02\n\nsig:0007\nsig:unheard\nsig:aa01\n")
    words = ("round", "heavy", "errors-1", "--candidates", "known.txt", "--threshold", "100")
    assert aicache(*words, "--json") == frame.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["round"], found["n"], found["asked"]) == ("errors-1", 500, 4)
    assert [row["name"] for row in found["heavy"]] == ["sig:aa01", "sig:bb02"]
    assert abs(found["heavy"][0]["estimate"] - 900) <= found["error"]
    assert aicache(*words) == frame.OK
    assert "2 of 4 names occurred at least 100 times" in capsys.readouterr().out
    assert aicache("round", "heavy", "errors-9", "--candidates", "known.txt") == frame.USAGE
    assert aicache("round", "heavy", "errors-1", "--candidates", "nowhere.txt") == frame.USAGE
    assert aicache(*words, "--failure", "2") == frame.USAGE

    assert aicache("round", "suspects") == frame.OK
    assert "Nobody" in capsys.readouterr().out
    assert aicache("round", "suspects", "--json") == frame.OK
    assert json.loads(capsys.readouterr().out) == []

    Path("mine.json").write_text('["sig:aa01"]')
    assert aicache("privacy", "preview", "--contribution", "errors", "--data", "mine.json", "--json") == frame.OK
    assert json.loads(capsys.readouterr().out)["contribution"]["stays"]["not_zero"] == DEPTH
    assert aicache("privacy", "preview", "--contribution", "nothing", "--data", "mine.json") == frame.USAGE
