"""A whole deployment in memory: coordinator, members, reducer and clients over one log, with a clock that the test moves."""

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from aicache.privacy.errors import RemoteError
from aicache.privacy.noise import discrete_gaussian
from aicache.privacy.statements import record_digest
from aicache.schemas.records import Aggregate, Model, Place, Proposal, Task, UpdateChunk
from aicache.streams.reducer.logic import Reducer
from aicache.streams.rounds.enrolment import OPEN, Admission
from aicache.streams.rounds.logic import Coordinator
from aicache.streams.rounds.state import State
from aicache.streams.runtime.contract import Batch, Message, Output, Step
from support.rounds import DEPLOYMENT, START_MS, Person, World

TICK_MS = 100
REDUCER_TOPICS = (
    "aicache.tasks",
    "aicache.enrolments",
    "aicache.rounds",
    "aicache.envelopes",
    "aicache.votes",
    "aicache.openings",
    "aicache.insights.aggregates",
)


def make_task(**changes: object) -> Task:
    fields: dict[str, object] = {
        "deployment": DEPLOYMENT,
        "task": "tags",
        "version": 1,
        "state": "active",
        "kind": "histogram",
        "description": "how often each tag is used",
        "purpose": "trends",
        "length": 40,
        "labels": [f"tag:{n}" for n in range(40)],
        "clip": 1.0,
        "clipping": "flat",
        "layers": [],
        "scale": 100.0,
        "noise": "committee",
        "noise_multiplier": 2.0,
        "honest": 2,
        "delta": 1e-6,
        "n_min": 3,
        "n_max": 1_000,
        "deadline_ms": 5_000,
        "grace_ms": 1_000,
        "interval_ms": 0,
        "rounds": 1,
        "groups": 1,
        "robust": "none",
        "members": 5,
        "threshold": 3,
        "parameters": "n10k",
        "sketch_depth": 0,
        "sketch_width": 0,
        "model": None,
        "evaluates": "",
    }
    return Task(**(fields | changes))  # type: ignore[arg-type]


@dataclass
class Deployment:
    """All parties; `run` moves the clock tick by tick.

    Attributes:
        world: members, clients and the log.
        sent: for each round the sum of what its clients encrypted, noise by clients included.
        absent: clients that do nothing.
    """

    world: World
    sent: dict[str, dict[bytes, np.ndarray]] = field(default_factory=dict)
    absent: set[bytes] = field(default_factory=set)
    vector_of: object = None
    dead: list[str] = field(default_factory=list)
    changelog: dict[bytes, bytes] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    reduced: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.coordinator = Coordinator(DEPLOYMENT, Admission(OPEN, 1_000, self.world.operator))
        self.state: State = self.coordinator.empty(0)
        self.reducer = Reducer(DEPLOYMENT, self.fetch)

    def fetch(self, place: Place) -> bytes | None:
        return self.world.log.ciphertext(place)

    # ------------------------------------------------------------ parties

    def run(self, ms: int) -> None:
        for _ in range(ms // TICK_MS):
            self.world.now_ms += TICK_MS
            self.turn()

    def turn(self) -> None:
        self.read_coordinator()
        self.write(self.coordinator.tick(self.state, self.world.now_ms))
        self.world.tick(self.world.now_ms)
        self.contribute()
        self.world.pump()
        self.read_reducer()

    def read_coordinator(self) -> None:
        messages: list[Message] = []
        for topic in self.coordinator.inputs:
            rows = self.world.log.topics.get(topic.name, [])
            messages += [
                Message(topic.name, 0, row.offset, row.timestamp_ms, b"", row.record, row.fingerprint, row.body)
                for row in rows[self.read.get(topic.name, 0) :]
            ]
            self.read[topic.name] = len(rows)
        self.write(self.coordinator.apply(self.state, Batch(0, messages)))

    def write(self, step: Step) -> None:
        for key, value in step.changed.items():
            if value is None:
                self.changelog.pop(key, None)
            else:
                self.changelog[key] = value
        self.dead += [error.reason for _, error in step.dead]
        self.publish(step.outputs)

    def publish(self, outputs: list[Output]) -> None:
        for output in outputs:
            assert output.record is not None
            self.world.log.append(output.topic, output.record, self.world.now_ms)

    def restart_coordinator(self) -> None:
        """As a kill: the state comes back from the changelog."""
        self.state = self.coordinator.load(0, list(self.changelog.items()), self.coordinator.version)

    def restart_reducer(self) -> None:
        self.reducer = Reducer(DEPLOYMENT, self.fetch)
        self.reduced = {}

    def contribute(self) -> None:
        for item in self.world.log.topics.get("aicache.rounds", []):
            proposal = item.record
            if not isinstance(proposal, Proposal) or proposal.round_id in self.sent:
                continue
            if len(self.world.approvals(proposal.round_id)) < proposal.quorum:
                continue
            rho = record_digest("proposal", item.fingerprint, item.body)
            self.sent[proposal.round_id] = {}
            for person in self.world.people:
                if person.id not in self.absent:
                    vector = self.vector(person, proposal)
                    person.send(self.world.log, proposal, rho, vector, self.world.keys())
                    self.sent[proposal.round_id][person.id] = vector

    def vector(self, person: Person, proposal: Proposal) -> np.ndarray:
        if self.vector_of is not None:
            return self.vector_of(person, proposal)  # type: ignore[operator]
        most = int(proposal.clip * proposal.scale)
        vector = np.zeros(proposal.length, dtype=np.int64)
        vector[person.entropy(1)[0] % proposal.length] = most
        if proposal.noise == "clients":
            vector += discrete_gaussian(proposal.sigma / proposal.honest**0.5, proposal.length, person.entropy)
        return vector

    def read_reducer(self) -> None:
        for item in self.world.log.topics.get("aicache.updates", [])[self.reduced.get("aicache.updates", 0) :]:
            assert isinstance(item.record, UpdateChunk)
            self.reducer.receive_chunk(0, item.offset, item.record)
            self.reduced["aicache.updates"] = item.offset + 1
        for topic in REDUCER_TOPICS:
            rows = self.world.log.topics.get(topic, [])
            for item in rows[self.reduced.get(topic, 0) :]:
                with suppress(RemoteError):  # the shell notes it and goes on
                    self.reducer.receive(
                        item.record, fingerprint=item.fingerprint, body=item.body, now_ms=self.world.now_ms
                    )
            self.reduced[topic] = len(rows)
        self.publish(self.reducer.step(self.world.now_ms))

    # ------------------------------------------------------------ results

    def aggregates(self) -> list[Aggregate]:
        return self.world.log.records("aicache.insights.aggregates", Aggregate)

    def models(self) -> list[Model]:
        return self.world.log.records("aicache.models", Model)

    def clear_sum(self, round_id: str) -> np.ndarray:
        return np.sum(list(self.sent[round_id].values()), axis=0)


def deployment(**changes: object) -> Deployment:
    return Deployment(World(**changes))  # type: ignore[arg-type]


__all__ = ["START_MS", "Deployment", "deployment", "make_task"]
