"""Ten thousand secrets in stack traces, logs, paths, messages and linters' output: none is in a raw segment or an insight."""

import asyncio
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from aicache.local.kafka import EmbeddedKafka
from aicache.local.log_scan import scan
from aicache.local.reading import read_all
from aicache.privacy.errors import LocalError
from aicache.producers import BlockingClient, Hub
from aicache.producers.connection import KafkaSettings
from aicache.producers.signals import Asgi, CrashHandler, Durations
from aicache.producers.signals.advisories import match, pins
from aicache.producers.signals.emerging import Emerging
from aicache.producers.signals.rules import read, tell_findings
from aicache.producers.signals.templates import Templates, template_item
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Incident, SeriesCount, Trend
from aicache.streams.anomalies import novel, trends
from aicache.streams.anomalies.incidents import Incidents
from aicache.streams.anomalies.logic import Anomalies
from aicache.streams.anomalies.trends import Trends
from aicache.streams.runtime.contract import Batch, Message, Output
from aicache.streams.runtime.direct import DirectShell

CANARIES = 10_000
FLUSH_EVERY = 2_000
SALT, PUBLIC = b"of the deployment", frozenset({"numpy"})
LINE = "connection to <address> lost"
OSV = [
    {
        "id": "GHSA-2g68-c3qc-8985",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "numpy"}, "versions": ["1.0"]}],
    }
]


def own_code(canary: str) -> Callable[[], object]:
    """A function, class, module and file of that name, which fail in public code or in their own."""
    body = f"""
class {canary}(Exception):
    pass

def f_{canary}(argument):
    import numpy
    if len(argument) % 2:
        numpy.reshape([1, 2, 3], (2, 2))
    raise {canary}(argument, {{"token": argument}})
"""
    scope: dict[str, Any] = {"__name__": canary}
    exec(compile(body, f"/home/{canary}/{canary}.py", "exec"), scope)
    return lambda: scope[f"f_{canary}"](canary)


class Machine:
    """A developer's machine where every kind of signal is switched on."""

    def __init__(self, client: BlockingClient) -> None:
        self.client = client
        self.handler = CrashHandler(client.record, salt=SALT, public=PUBLIC)
        self.templates = Templates(salt=SALT, known={template_item(LINE, SALT)})
        self.durations = Durations(client.record)
        self.emerging = Emerging(client.record)

    def crash(self, canary: str) -> None:
        try:
            own_code(canary)()
        except Exception as error:
            error.add_note(canary)
            self.handler.teller._told = 0
            place = (f"/{canary}/{canary}.py", 1, f"{canary} %s", (canary,))
            told = (type(error), error, error.__traceback__)
            self.handler.handle(logging.LogRecord(canary, logging.ERROR, *place, told))

    def log(self, canary: str) -> None:
        for line in (f"user {canary} opened /home/{canary}/x.py", f"{canary}", "connection to 10.0.0.1 lost"):
            item = self.templates.learn(line)
            if item is not None:
                self.client.record("failure", [item], release="pypi:numpy@2.4.1")

    def lint(self, canary: str) -> None:
        found = {"code": "F401", "filename": f"/home/{canary}/x.py", "message": canary}
        findings = read(json.dumps([found, {**found, "code": canary}]), "ruff")
        assert findings.unknown == 1
        tell_findings(self.client.record, findings, "pypi:ruff@0.17")

    def serve(self, canary: str) -> None:
        async def app(_scope: Any, _receive: Any, _send: Any) -> None:
            raise ValueError(canary)

        async def nothing(*_: Any) -> None:
            pass

        watched = Asgi(app, self.client.record, operation="op:serve", salt=SALT, public=PUBLIC)
        with pytest.raises(ValueError, match=canary):
            asyncio.run(watched({"type": "http", "path": f"/{canary}"}, nothing, nothing))  # type: ignore[arg-type]
        self.durations.add("op:build", 0.5, "pypi:numpy@2.4.1")

    def lock(self, canary: str) -> None:
        lock = f"{canary}==1.0 # {canary}\n-r /home/{canary}/more.txt\nnumpy==1.0 --hash=sha256:{canary}\n"
        for found in match(pins(lock), OSV):
            self.client.record("finding", [found.item], release=found.release)

    def keep_back(self, canary: str) -> None:
        self.emerging("failure", [f"sig:{canary.encode().hex()}"])

    def misuse(self, canary: str) -> None:
        """What a careless application might try; most is refused."""
        attempts = ((canary, "pypi:numpy@1"), ("op:build", f"pypi:numpy@{canary}"), (f"rule:{canary}", ""))
        for item, release in attempts:
            with pytest.raises(LocalError) as refused:
                self.client.record("failure", [item], release=release)
            assert canary not in f"{refused.value} {refused.value.got} {refused.value.needed}"


def insights(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> list[Output]:
    """What both processors of the control plane make of the counts, with thresholds that let everything through."""
    for place, name in ((novel, "PEOPLE_MIN"), (trends, "PEOPLE_MIN"), (novel, "LEARN_S")):
        monkeypatch.setattr(place, name, 0)
    counts = [seen.record for seen in read_all(settings, topics.SERIES) if isinstance(seen.record, SeriesCount)]
    messages = [Message(topics.SERIES.name, 0, n, 0, b"", record) for n, record in enumerate(counts)]
    made: list[Output] = []
    for fold in (Incidents(), Trends()):
        state = fold.empty(0)  # type: ignore[attr-defined]
        made += fold.apply(state, Batch(0, messages)).outputs  # type: ignore[attr-defined]
        made += fold.tick(state, 1_000 * (max(c.window_start_s for c in counts) + 86_400)).outputs  # type: ignore[attr-defined]
    return made


def count(settings: KafkaSettings, records: int) -> None:
    shell, seen = DirectShell(Anomalies(), settings), [0]

    def told(_partition: int, inputs: int, _seconds: float) -> None:
        seen[0] += inputs

    shell._on_batch = told
    shell.run(lambda: seen[0] >= records)


def test_no_canary_of_ten_thousand_in_signals_reaches_a_segment_or_an_insight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ["Zq" + os.urandom(9).hex() for _ in range(CANARIES)]
    control = f"control-{os.urandom(12).hex()}"
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        settings = kafka.settings()
        create_topics(settings.client_config())
        with Hub(settings) as hub, BlockingClient(hub, tmp_path / "client") as client:
            machine = Machine(client)
            ways = (machine.crash, machine.log, machine.lint, machine.serve)
            ways += (machine.lock, machine.keep_back, machine.misuse)
            acknowledged = 0
            for number, secret in enumerate(secrets):
                ways[number % len(ways)](secret)
                if number % FLUSH_EVERY == FLUSH_EVERY - 1:
                    acknowledged += len(client.flush().acknowledged)
            machine.durations.flush()
            acknowledged += len(client.flush().acknowledged)
            assert machine.handler.teller.lost == 0
        count(settings, len(read_all(settings, topics.USAGE)))
        made = insights(settings, monkeypatch)
        assert {type(output.record) for output in made} == {Incident, Trend}
        producer = Producer(settings.client_config())
        for output in made:
            assert output.record is not None
            value = Codec().encode(output.record)
            producer.produce(output.topic, value, output.key, headers=list(output.headers))
        producer.produce(topics.USAGE.name, b"in the clear: " + control.encode())
        assert producer.flush(30) == 0
        hits = scan(kafka.log_segments, [secret.encode() for secret in (*secrets, control)])
        assert {hit.secret for hit in hits} == {CANARIES}
        assert control not in kafka.log_file.read_text(errors="replace")
