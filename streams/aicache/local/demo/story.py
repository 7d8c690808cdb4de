"""The demo from beginning to end: bring everything up, let the crowd live, break things, look at what came out.

Boundary: processes, Kafka, the clock, the system's entropy (the seed is printed, so that a run can be played again).
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from aicache.local.demo import measure, questions, script
from aicache.local.demo.people import People
from aicache.local.deployment import WORKERS, Deployment, Plan, service_names
from aicache.local.log_scan import Hit, scan
from aicache.local.reading import Seen, read_all
from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings
from aicache.producers.insights import BEGINNING, Insights
from aicache.producers.kafka import Hub
from aicache.schemas import topics
from aicache.schemas.records import (
    Aggregate,
    DeadLetter,
    Incident,
    Manifest,
    Model,
    Proposal,
    Recommendation,
    Record,
    SeriesCount,
    UsageBatch,
)
from aicache.streams.committee import commands

R = TypeVar("R", bound=Record)
DEPLOYMENT = "demo"
MEMBERS = 5
NOT_SHOWN = frozenset({"merging", "private-tables"})
"""Workers of tables for clients, of which the demo shows nothing."""
LETTERS, LETTERS_COUNT = "ghjkmnpqrstvwxyz", 24
STEP_S = 0.1
KILL_AFTER_AGGREGATES = 2
DEADLINE_S = 240.0
SETTLE_S = 60.0
POISON = b"\xc3\x01not a record of ours: "

Tell = Callable[[str], None]


@dataclass(slots=True)
class RoundSeen:
    """A round as it stands in the log, and the sum that the crowd computed in the clear."""

    proposal: Proposal
    manifest: Manifest
    aggregate: Aggregate
    clear: NDArray[np.int64]
    clear_clients: int


@dataclass(slots=True)
class Story:
    """All that the verdict and the picture are made of."""

    seed: int
    began_s: float
    first_insight_s: float = 0.0
    ended_s: float = 0.0
    rounds: list[RoundSeen] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    popularity: float = 0.0
    epsilon: float = 0.0
    curve: measure.Curve | None = None
    incidents: list[Incident] = field(default_factory=list)
    answers: list[Recommendation] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    crowd: list[dict[str, Any]] = field(default_factory=list)
    usage_logged: int = 0
    usage_undecodable: int = 0
    envelopes_logged: int = 0
    hits: list[Hit] = field(default_factory=list)
    canaries: int = 0
    killed: str = ""
    restarted: bool = False
    failures: list[tuple[int, str, float]] = field(default_factory=list)
    """Of the failing operation: minute (Unix seconds), release or `other releases`, share of uses that failed."""
    held: NDArray[np.float64] | None = None
    visible: NDArray[np.int64] | None = None


def play(folder: Path, seed: int, tell: Tell) -> Story:
    """Run the demo.

    Args:
        folder: for everything; removed by the caller.
        seed: decides who holds what, who vanishes, what tools see. Keys and noise are the system's entropy all the same.
        tell: told in words what happens.

    Raises:
        AicacheError: something did not come up, or nothing moved any more.
    """
    story = Story(seed, time.monotonic())
    canaries = [f"Secret{_letters()}" for _ in range(script.CANARIES)]
    planted = f"planted-in-the-clear-{_letters()}"
    services = [name for name in service_names(MEMBERS) if name not in NOT_SHOWN]
    plan = Plan(folder, members=MEMBERS, services=services, admission="open", deployment=DEPLOYMENT)
    workers = sum(name in WORKERS for name in services)
    tell(f"starting a Kafka broker, a coordinator, five committee members, a reducer and {workers} workers")
    with Deployment(plan) as deployment:
        kafka = deployment.kafka
        pins = {n: commands.status(plan.committee_folder / f"member-{n}")["identity"] for n in range(1, 6)}
        told = {
            "bootstrap_servers": kafka.bootstrap_servers,
            "prefix": kafka.prefix,
            "deployment": kafka.deployment,
            "folder": str(folder / "clients"),
            "pins": pins,
            "threshold": plan.threshold,
            "seed": seed,
            "canaries": canaries,
            "usage_questions": questions.USAGE_QUESTIONS,
            "start_s": int(time.time()) - 60 * script.MINUTES - 600,
        }
        with People(told, folder / "crowd.log") as people:
            _Run(story, deployment, people, tell, planted).go()
            story.ended_s = time.monotonic() - story.began_s
            _look_back(story, kafka, people)
        broker = deployment.broker
        assert broker is not None, "the demo has a broker of its own"
        tell("looking through the broker's log segments for secrets")
        story.hits = scan(broker.log_segments, [secret.encode() for secret in (*canaries, planted)])
        story.canaries = len(canaries)
    return story


class _Run:
    """The part of the story that happens while everything runs."""

    def __init__(self, story: Story, deployment: Deployment, people: People, tell: Tell, planted: str) -> None:
        self.story, self.deployment, self.people, self.tell, self.planted = story, deployment, people, tell, planted
        self.kafka = deployment.kafka
        self._deadline_s = time.monotonic() + DEADLINE_S

    def go(self) -> None:
        """Live through it."""
        self.tell(f"{script.CLIENTS:,} clients make their keys and join (seed {self.story.seed})")
        self._wait(self.people.start("gather"))
        self._wait(self.people.start("join"))
        self._plant()
        with Hub(self.kafka) as hub:
            for task in script.tasks(DEPLOYMENT):
                hub.publish(topics.TASKS, task.task.encode(), task).result(30)
        self.tell("tasks declared: counts of tags with the clients' noise, a model with the committee's")
        self._wait(self.people.start("contribute"))
        living = [self.people.start("live")]
        self._watch_rounds()
        self.tell("the crowd has typed its questions and told what its tools saw; waiting for the last insights")
        for future in living:
            self._wait(future)
        self._settle()

    def _wait(self, future: "Future[Any]") -> Any:
        """Keep the services running while the crowd does something."""
        while not future.done():
            self._step()
        return future.result()

    def _step(self) -> None:
        self.deployment.supervisor.step(time.monotonic())
        time.sleep(STEP_S)
        if time.monotonic() > self._deadline_s:
            raise LocalError("the demo did not get to its end", got=f"{DEADLINE_S:.0f} s", needed="rounds that finish")

    def _plant(self) -> None:
        """A poison record, with a secret in the clear: it tests the dead letters and the scan."""
        producer = Producer(self.kafka.client_config())
        producer.produce(self.kafka.name(topics.USAGE.name), POISON + self.planted.encode(), b"poison", partition=0)
        producer.flush(30)

    def _watch_rounds(self) -> None:
        wanted = script.MODEL_ROUNDS + script.COUNT_ROUNDS
        told: set[str] = set()
        with closing(Insights(self.kafka, topics.AGGREGATES, Aggregate, start=BEGINNING)) as reader:
            while len(told) < wanted:
                self._step()
                for record in _new(reader):
                    if record.round_id in told:
                        continue
                    told.add(record.round_id)
                    if not self.story.first_insight_s:
                        self.story.first_insight_s = time.monotonic() - self.story.began_s
                    self.tell(
                        f"{record.round_id}: the sum of {record.n} clients opened, epsilon {record.guarantee.epsilon:.2f} a client"
                    )
                if len(told) >= KILL_AFTER_AGGREGATES and not self.story.killed:
                    self._kill()

    def _kill(self) -> None:
        name = f"member-{script.KILLED_MEMBER}"
        pid = self.deployment.supervisor.pid(name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self.story.killed = name
            self.tell(f"{name} killed with kill -9")

    def _settle(self) -> None:
        """Wait until the workers have read all usage, and the killed member is back."""
        until_s = time.monotonic() + SETTLE_S
        typed = 2 * self._typed()
        answered, found = 0, set[tuple[str, str, str]]()
        with (
            closing(Insights(self.kafka, topics.RECOMMENDATIONS, Recommendation, start=BEGINNING)) as answers,
            closing(Insights(self.kafka, topics.ANOMALIES, Incident, start=BEGINNING)) as incidents,
        ):
            while time.monotonic() < until_s and (answered < typed or not found >= script.PLANTED):
                self._step()
                answered += sum(1 for _ in _new(answers))
                found |= {(incident.kind, incident.subject, incident.release) for incident in _new(incidents)}
        self.story.restarted = self.deployment.supervisor.pid(self.story.killed) is not None

    def _typed(self) -> int:
        used = [q for q in questions.learned() if q.number < questions.USAGE_QUESTIONS and len(q.tags) > 1]
        return len(used)


def _new(reader: Insights[R]) -> Iterator[R]:
    """What a reader has that was not seen yet, without waiting for more."""
    while (insight := reader.poll(0.0)) is not None:
        yield insight.record


def _letters() -> str:
    """Something to look for: letters that are no hex digits, since millions of those stand in the log and eight in a row come by chance."""
    return "".join(LETTERS[byte % len(LETTERS)] for byte in os.urandom(LETTERS_COUNT))


def _look_back(story: Story, kafka: KafkaSettings, people: People) -> None:
    """Read the log and compare it with what the crowd remembers."""
    rounds = read_all(kafka, topics.ROUNDS)
    proposals = {seen.record.round_id: seen.record for seen in rounds if isinstance(seen.record, Proposal)}
    manifests = {seen.digest("manifest"): seen.record for seen in rounds if isinstance(seen.record, Manifest)}
    for seen in read_all(kafka, topics.AGGREGATES):
        aggregate = seen.record
        if isinstance(aggregate, Aggregate) and aggregate.n:
            manifest = manifests[aggregate.manifest_digest]
            clear, count = _clear_sum(people, manifest, aggregate.length)
            story.rounds.append(RoundSeen(proposals[aggregate.round_id], manifest, aggregate, clear, count))
    spec = next(task.model for task in script.tasks(DEPLOYMENT) if task.model is not None)
    models = [seen.record for seen in read_all(kafka, topics.MODELS) if isinstance(seen.record, Model)]
    held = questions.held_out()
    story.recall = [measure.model_recall(spec, model, held) for model in models if model.version > 0]
    story.popularity = measure.popularity_recall(spec.outputs, questions.learned(), held)
    story.epsilon = max((model.guarantee.epsilon for model in models if model.guarantee is not None), default=0.0)
    usage = sorted(read_all(kafka, topics.USAGE), key=lambda seen: (seen.partition, seen.offset))
    story.answers = [s.record for s in read_all(kafka, topics.RECOMMENDATIONS) if isinstance(s.record, Recommendation)]
    batches = [((seen.partition, seen.offset), seen.record) for seen in usage if isinstance(seen.record, UsageBatch)]
    story.curve = measure.recommendation_curve(batches, story.answers)
    story.usage_logged = len(usage)
    story.usage_undecodable = sum(seen.record is None for seen in usage)
    story.incidents = [s.record for s in read_all(kafka, topics.ANOMALIES) if isinstance(s.record, Incident)]
    story.dead = [s.record for s in read_all(kafka, topics.DEAD_LETTERS) if isinstance(s.record, DeadLetter)]
    story.failures = _failures([s.record for s in read_all(kafka, topics.SERIES) if isinstance(s.record, SeriesCount)])
    story.envelopes_logged = len(read_all(kafka, topics.ENVELOPES))
    story.crowd = people.tell("numbers")
    story.held, story.visible = _one_client(kafka, story, people)


def _failures(counts: list[SeriesCount]) -> list[tuple[int, str, float]]:
    """The failing operation's rates, from the newest count of each window, release and partition."""
    newest = {(c.window_start_s, c.release, c.partition): c for c in counts if c.series == script.FAILING_OPERATION}
    sums: dict[tuple[int, str], list[int]] = {}
    for (minute, release, _), count in newest.items():
        name = release if release == script.FAILING_RELEASE else "other releases"
        events = sums.setdefault((minute, name), [0, 0])
        events[0] += count.events
        events[1] += count.failures
    return [(minute, name, failed / uses) for (minute, name), (uses, failed) in sorted(sums.items())]


def _clear_sum(people: People, manifest: Manifest, length: int) -> tuple[NDArray[np.int64], int]:
    clients = [entry.client.hex() for group in manifest.groups for entry in group.clients]
    files = [_sum_file(people, manifest, number) for number in range(script.PROCESSES)]
    counts = people.tell("sum", *([manifest.round_id, clients, str(file)] for file in files))
    total = np.zeros(length, dtype=np.int64)
    for file in files:
        if file.exists():
            total += np.load(file, allow_pickle=False)
            file.unlink()
    return total, sum(counts)


def _sum_file(people: People, manifest: Manifest, number: int) -> Path:
    """Where a process of the crowd writes a sum: in the run's own folder, which nobody else can write to."""
    return people.folder / f"sum-{manifest.round_id}-{number}.npy"


def _one_client(kafka: KafkaSettings, story: Story, people: People) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What one client held in the last model round, and what of it stands in the log."""
    last = next(seen for seen in reversed(story.rounds) if seen.proposal.task == script.MODEL)
    entry = last.manifest.groups[0].clients[0]
    file = _sum_file(people, last.manifest, script.PROCESSES)
    people.tell("sum", *([last.proposal.round_id, [entry.client.hex()], str(file)],) * script.PROCESSES)
    held = np.load(file, allow_pickle=False).astype(np.float64)
    file.unlink()
    stored: dict[tuple[int, int], Seen] = {(s.partition, s.offset): s for s in read_all(kafka, topics.UPDATES)}
    data = b"".join(
        getattr(stored[entry.place.partition, offset].record, "data", b"") for offset in entry.place.offsets
    )
    words = np.frombuffer(data, dtype=np.uint8).reshape(-1, 6).astype(np.int64)
    visible = (words << (8 * np.arange(6))).sum(axis=1)
    return held, visible[: held.size]
