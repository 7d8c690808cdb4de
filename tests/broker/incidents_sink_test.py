"""Incidents on a real broker: acknowledged by command, heard by the control plane, and sent to a real HTTP server at least once."""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from aicache.cli import frame
from aicache.cli.app import run
from aicache.local.reading import read_all
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Acknowledgement, DeadLetter, Incident
from aicache.streams.anomalies.announcing import cloud_event, publish
from aicache.streams.anomalies.evidence import State
from aicache.streams.anomalies.incidents import Incidents
from aicache.streams.runtime.contract import Batch, Message, Step
from aicache.streams.webhook import sending
from aicache.streams.webhook.kafka import Webhook
from aicache.streams.webhook.sending import Sender
from support.listener import Listener

SECRET = bytes(32)
WAIT_S = 30.0
NAME = "4be1" + "0" * 12


@pytest.fixture
def deployment(kafka: KafkaSettings) -> KafkaSettings:
    wanted = [topics.ANOMALIES, topics.ACKNOWLEDGEMENTS, topics.DEAD_LETTERS]
    create_topics(kafka.client_config(), kafka.prefix, topics=wanted)
    return kafka


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as found:
        yield found


def incident(kafka: KafkaSettings, name: str = NAME, updated_s: int = 1_700_000_060) -> Incident:
    where = ("op:build", "pypi:tool@1.1", ["pypi:tool@1.1"])
    seen = (0.2, 0.02, "share of uses", 0.5, 0.99, "It fails.")
    times = (1_700_000_000, updated_s)
    return Incident(kafka.deployment, name, "opened", "failure-rate", *where, *times, *seen, 100, None)


def publish_to(kafka: KafkaSettings, incidents: Sequence[Incident], partition: int = 0) -> None:
    producer = Producer(kafka.client_config())
    for one in incidents:
        headers = list(cloud_event(one))
        value = Codec().encode(one)
        producer.produce(kafka.name(topics.ANOMALIES.name), value, one.incident.encode(), partition, headers=headers)
    assert producer.flush(WAIT_S) == 0


class Running:
    """The service in a thread, until the end of the block."""

    def __init__(self, kafka: KafkaSettings, listener: Listener, **more: object) -> None:
        self._stop, self._ready = threading.Event(), threading.Event()
        self.pauses: list[float] = []
        self.ends_in_pause = False
        sender = Sender(listener.url, SECRET, pause=self._pause)
        self.service = Webhook(kafka, sender, **more)  # type: ignore[arg-type]
        self._thread = threading.Thread(target=self.service.run, args=(self._stop.is_set, self._ready.set), daemon=True)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self.ends_in_pause:
            self._stop.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


def committed(kafka: KafkaSettings, group: str = "webhook") -> int:
    consumer = Consumer(kafka.client_config(group_id=kafka.name(f"aicache-{group}")))
    (place,) = consumer.committed([TopicPartition(kafka.name(topics.ANOMALIES.name), 0)], timeout=WAIT_S)
    consumer.close()
    return place.offset


def test_an_incident_arrives_and_its_offset_is_committed_only_then(
    deployment: KafkaSettings, listener: Listener
) -> None:
    """The process ends while the address answers 503; the next one sends the same event again, and commits."""
    publish_to(deployment, [incident(deployment)])
    listener.answers = [503]
    first = Running(deployment, listener, from_beginning=True)
    first.ends_in_pause = True
    with first:
        assert listener.wait_for(1, WAIT_S)
    assert committed(deployment) == 0
    with Running(deployment, listener) as second:
        publish_to(deployment, [incident(deployment, "b" * 16)])
        assert listener.wait_for(3, WAIT_S)
    assert committed(deployment) == 2
    assert (second.service.counts.arrived, second.service.counts.dead) == (2, 0)
    ids = [request.headers["webhook-id"] for request in listener.requests]
    assert len(set(ids)) == 2
    assert json.loads(listener.requests[0].body)["data"]["incident"] == NAME


def test_what_is_refused_is_a_dead_letter_and_the_next_one_arrives(
    deployment: KafkaSettings, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "ATTEMPTS_MAX", 3)
    listener.answers = [410, 503, 503, 503, 204]
    publish_to(deployment, [incident(deployment, f"{n:016x}") for n in range(3)])
    with Running(deployment, listener, from_beginning=True) as running:
        assert listener.wait_for(5, WAIT_S)
    assert running.pauses == [0.5, 1.0]
    counts = running.service.counts
    assert (counts.arrived, counts.dead, counts.attempts) == (1, 2, 5)
    letters = [seen.record for seen in read_all(deployment, topics.DEAD_LETTERS)]
    assert [(letter.processor, letter.reason) for letter in letters if isinstance(letter, DeadLetter)] == [
        ("webhook", "refused-410"),
        ("webhook", "refused-503"),
    ]
    assert committed(deployment) == 3


def test_a_new_group_begins_at_the_end_and_mild_incidents_are_left_out(
    deployment: KafkaSettings, listener: Listener
) -> None:
    publish_to(deployment, [incident(deployment, "a" * 16)])
    with Running(deployment, listener, group="second", severity_min=0.6) as running:
        assert committed(deployment, "second") == 1
        mild, bad = incident(deployment, "b" * 16), replace(incident(deployment, "c" * 16), severity=0.7)
        publish_to(deployment, [mild, replace(mild, status="resolved"), bad])
        assert listener.wait_for(2, WAIT_S)
    told = [json.loads(request.body)["data"] for request in listener.requests]
    assert [(one["incident"][0], one["status"]) for one in told] == [("b", "resolved"), ("c", "opened")]
    assert running.service.counts.left_out == 1


def test_a_person_acknowledges_by_command_and_the_control_plane_is_quiet(
    deployment: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = ["--kafka", deployment.bootstrap_servers, "--prefix", deployment.prefix]
    before += ["--set", f"kafka.deployment={deployment.deployment}", "incidents"]
    state, step = State(deployment=deployment.deployment), Step()
    publish(state, incident(deployment), step)
    publish_to(deployment, [incident(deployment)])
    assert run([*before, "ack", "4be1"]) == frame.USAGE, "it has to say whose it is"
    assert run([*before, "ack", "77", "--who", "ada"]) == frame.USAGE
    assert run([*before, "ack", "4be1", "--who", "a" * 200]) == frame.USAGE
    capsys.readouterr()
    assert run([*before, "ack", "4be1", "--who", "ada", "--note", "known", "--json"]) == frame.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["incident"], told["acknowledged"], told["record"]["note"]) == (NAME, True, "known")
    (seen,) = read_all(deployment, topics.ACKNOWLEDGEMENTS)
    assert isinstance(seen.record, Acknowledgement)
    heard = Message(topics.ACKNOWLEDGEMENTS.name, 0, seen.offset, seen.timestamp_ms, seen.key, seen.record)
    (output,) = Incidents().apply(state, Batch(0, [heard])).outputs
    assert isinstance(output.record, Incident)
    publish_to(deployment, [output.record])
    assert run([*before, "list", "--loud", "--json"]) == frame.OK
    assert json.loads(capsys.readouterr().out) == []
    assert run([*before, "list", "--json"]) == frame.OK
    assert [row["acknowledged_by"] for row in json.loads(capsys.readouterr().out)] == ["ada"]
    assert run([*before, "ack", "4be1", "--undo", "--json"]) == frame.OK
    assert read_all(deployment, topics.ACKNOWLEDGEMENTS)[-1].record is None
