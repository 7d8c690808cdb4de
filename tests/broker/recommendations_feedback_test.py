"""From what clients show and take, over a broker and both levels, to tables of everybody and the lift that the operator sees."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aicache.cli.app import run
from aicache.local.reading import latest, read_all
from aicache.producers.client import BlockingClient
from aicache.producers.connection import KafkaSettings
from aicache.producers.kafka import Acknowledged, Hub
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.records import ItemTable, Lift
from aicache.streams.recommendations import counts, feedback, off_policy
from aicache.streams.recommendations.feedback import OBSERVE, Policy
from aicache.streams.recommendations.logic import Recommendations
from aicache.streams.recommendations.merging import Merging
from aicache.streams.runtime.contract import Fold
from aicache.streams.runtime.direct import DirectShell

WAIT_S = 60.0
ROUNDS = 5
NAMES = ["pypi:numpy", "pypi:scipy", "pypi:pandas", "pypi:pytest", "pypi:flask", "pypi:click"]


@contextmanager
def running(kafka: KafkaSettings, fold: Fold[Any]) -> Iterator[DirectShell[Any]]:
    """A fold on the direct shell, in a thread."""
    shell, stop, ready = DirectShell(fold, kafka), threading.Event(), threading.Event()
    thread = threading.Thread(target=shell.run, args=(stop.is_set, ready.set))
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        yield shell
    finally:
        stop.set()
        thread.join(WAIT_S)


def until(holds: Callable[[], bool]) -> None:
    pause, end_s = threading.Event(), time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end_s, "not in time"
        pause.wait(0.05)


@pytest.fixture
def deployment(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """Every answer is published, and few are enough."""
    monkeypatch.setattr(feedback, "PUBLISH_EVERY", 1)
    monkeypatch.setattr(off_policy, "ANSWERS_MIN", 2)
    monkeypatch.setattr(counts, "FIRST", 5)
    create_topics(kafka.client_config(), kafka.prefix)
    return kafka


def ask(hub: Hub, client: BlockingClient) -> Acknowledged:
    """Use something, and wait for the answer that follows it."""
    client.record("used", ["pypi:rich"], context=NAMES[:1])  # what is at hand is named: else all that was used would be
    [place] = client.flush().acknowledged

    def answered() -> bool:
        client.recommend("pypi")
        found = client._newest("pypi")
        return found is not None and found.source.offset == place.offset and len(found.items) > 1

    assert hub.wait_for(answered, WAIT_S)
    return place


def test_feedback_becomes_lift_counts_become_tables_and_an_erasure_is_heard(
    deployment: KafkaSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        running(deployment, Recommendations(Policy(OBSERVE))) as shell,
        running(deployment, Merging()),
        Hub(deployment) as hub,
        BlockingClient(hub, tmp_path) as client,
    ):
        for start in range(5):
            client.record("used", NAMES[start:])
        for _ in range(ROUNDS):
            ask(hub, client)
            first = client.recommend("pypi")[0]
            client.shown("pypi")
            client.taken(first.item)
            client.flush()
        monkeypatch.setattr(feedback, "WINDOW_MS", 1)  # from here on their time is over
        ask(hub, client)
        words = ["--kafka", deployment.bootstrap_servers, "--prefix", deployment.prefix, "recommendations", "lift"]

        def lifts() -> list[Lift]:
            found = [seen.record for seen in latest(deployment, topics.TRENDS).values()]
            return [record for record in found if isinstance(record, Lift) and record.estimates]

        until(lambda: bool(lifts()))
        assert run([*words, "--json"]) == 0
        [shown] = json.loads(capsys.readouterr().out)
        assert (shown["namespace"], shown["confidence"]) == ("pypi", 0.95)
        assert {found["estimator"] for found in shown["estimates"]} == {"ips", "self-normalised", "doubly-robust"}
        assert run(words) == 0
        assert "doubly-robust" in capsys.readouterr().out
        tables = [seen.record for seen in latest(deployment, topics.TABLES).values()]
        assert "pypi:scipy" in {
            row.item for row in tables if isinstance(row, ItemTable) and "pypi:numpy" in row.neighbours
        }

        name = client._pseudonym()
        assert any(name in task.state.people for task in shell.tasks.values())
        assert len(client.erase().acknowledged) == 2
        until(lambda: not any(name in task.state.people for task in shell.tasks.values()))


def test_who_leaves_can_have_what_is_kept_erased_first(
    kafka: KafkaSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_topics(kafka.client_config(), kafka.prefix)
    folder = tmp_path / "client"
    with Hub(kafka) as hub, BlockingClient(hub, folder) as client:
        client.record("used", ["pypi:numpy"])
        client.flush()
        names = {client._queue.pseudonyms(client._clock())[n] for n in range(2)}
    words = ["--kafka", kafka.bootstrap_servers, "--prefix", kafka.prefix, "--set", f"client.folder={folder}"]
    assert run([*words, "leave", "--erase", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(folder), "left": True, "erased": 2}
    assert not (folder / "identity.json").exists()
    gone = [seen.key for seen in read_all(kafka, topics.USAGE) if seen.record is None and not seen.problem]
    assert set(gone) == names
