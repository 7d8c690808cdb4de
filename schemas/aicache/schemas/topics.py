"""Every topic in one table: what it holds, how it is kept, who writes and reads it.

`aicache topics create|check`, the documentation and the size caps of the codec all come from here. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from aicache.privacy.errors import LocalError
from aicache.schemas import records
from aicache.schemas.records import Record

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FOREVER = -1
KIB = 1024
RECORD_BYTES_MAX = 1_000_000
"""Fits a broker's default `message.max.bytes` (1,048,588) with headers and batch overhead."""
BATCH_BYTES = 1_048_588
"""The least that a topic has to take at once: a broker's default, and more than a batch of librdkafka's (1,000,000)."""
SEGMENT_BYTES = 32 * KIB * KIB
"""Of a compacted topic: Kafka compacts what is in closed segments only, and whoever loads a state reads the open one as it is."""
STATE_PREFIX = "aicache.state."


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes:
        name: without a deployment's prefix.
        key: what the record key is.
        records: the record types that it may hold; none for processors' state.
        partitions: how many; 1 where order over the whole topic matters.
        cleanup: delete or compact.
        retention_ms: how long records are kept; `FOREVER` for compacted topics.
        record_bytes_max: the largest record.
        writers, readers: roles, for access control.
        contiguous: whether offsets have no gaps (clients write it, not compacted, not in transactions).
    """

    name: str
    key: str
    records: tuple[type[Record], ...]
    partitions: int
    cleanup: str
    retention_ms: int
    record_bytes_max: int
    writers: str
    readers: str
    contiguous: bool = False

    @property
    def config(self) -> Mapping[str, str]:
        """Kafka's settings of the topic."""
        settings = {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms),
            # Kafka holds whole batches to it, and librdkafka does not split one that is refused.
            "max.message.bytes": str(max(self.record_bytes_max + 4 * KIB, BATCH_BYTES)),
        }
        if self.cleanup == "compact":
            settings["min.cleanable.dirty.ratio"] = "0.1"
            settings["segment.bytes"] = str(SEGMENT_BYTES)
        return settings


def _control(
    name: str, key: str, kinds: tuple[type[Record], ...], writers: str, readers: str, size: int = 256 * KIB
) -> Topic:
    return Topic(name, key, kinds, 1, "delete", 7 * DAY_MS, size, writers, readers)


def _table(
    name: str, key: str, kinds: tuple[type[Record], ...], writers: str, readers: str, size: int, partitions: int = 1
) -> Topic:
    return Topic(name, key, kinds, partitions, "compact", FOREVER, size, writers, readers)


TASKS = _table("aicache.tasks", "task", (records.Task,), "operator", "everyone", 512 * KIB)
COMMITTEE = _table("aicache.committee", "member", (records.CommitteeMember,), "members", "everyone", 8 * KIB)
JOINS = Topic(
    "aicache.joins", "client", (records.JoinRequest,), 1, "delete", 7 * DAY_MS, 4 * KIB, "clients", "coordinator", True
)
ENROLMENTS = _table(
    "aicache.enrolments", "client", (records.Enrolment,), "coordinator, operator", "members, verifiers", 4 * KIB
)
ROUNDS = _control(
    "aicache.rounds",
    "round",
    (records.Proposal, records.RoundClosed, records.Manifest, records.RoundAborted),
    "coordinator",
    "everyone",
    RECORD_BYTES_MAX * 9,
)
VOTES = _control(
    "aicache.votes", "round", (records.Approval, records.Vote), "members", "clients, coordinator, reducer", 4 * KIB
)
UPDATES = Topic(
    "aicache.updates",
    "round + sender",
    (records.UpdateChunk,),
    4,
    "delete",
    DAY_MS,
    RECORD_BYTES_MAX,
    "clients, members",
    "reducer, verifiers",
    True,
)
ENVELOPES = Topic(
    "aicache.envelopes",
    "round",
    (records.Envelope,),
    1,
    "delete",
    7 * DAY_MS,
    256 * KIB,
    "clients, members",
    "members, coordinator, verifiers",
    True,
)
ENDORSEMENTS = _control(
    "aicache.endorsements",
    "round",
    (records.Endorsement, records.Receipt),
    "members, reducer",
    "coordinator, verifiers",
    RECORD_BYTES_MAX,
)
OPENINGS = _control("aicache.openings", "round", (records.Opening,), "members", "reducer, verifiers", 16 * KIB)
BUDGETS = _table(
    "aicache.budgets", "client + purpose", (records.Budget,), "coordinator", "clients, members, auditors", 8 * KIB
)
MODELS = _table(
    "aicache.models", "task", (records.Model,), "coordinator", "clients, insight consumers", RECORD_BYTES_MAX
)
USAGE = Topic(
    "aicache.usage", "pseudonym", (records.UsageBatch,), 4, "delete", 7 * DAY_MS, 256 * KIB, "clients", "workers", True
)
AGGREGATES = Topic(
    "aicache.insights.aggregates",
    "round",
    (records.Aggregate,),
    1,
    "delete",
    90 * DAY_MS,
    RECORD_BYTES_MAX * 9,
    "reducer",
    "insight consumers",
)
RECOMMENDATIONS = Topic(
    "aicache.insights.recommendations",
    "pseudonym + namespace",
    (records.Recommendation,),
    4,
    "delete",
    DAY_MS,
    64 * KIB,
    "workers",
    "clients",
)
TABLES = _table(
    "aicache.insights.tables",
    "item, or partition + piece",
    (records.ItemTable, records.ItemVectors, records.TableWeights),
    "workers",
    "clients",
    64 * KIB,
    4,
)
COUNTS = Topic(
    "aicache.counts",
    "item or namespace + partition",
    (records.ItemCount, records.ItemVectors, records.TableWeights, records.FeedbackSums),
    1,
    "delete",
    2 * DAY_MS,
    64 * KIB,
    "workers",
    "control plane",
)
SERIES = Topic(
    "aicache.series",
    "series + release + window + partition",
    (records.SeriesCount, records.ExposureCount),
    1,
    "delete",
    2 * DAY_MS,
    64 * KIB,
    "workers",
    "control plane",
)
ANOMALIES = Topic(
    "aicache.insights.anomalies",
    "incident",
    (records.Incident,),
    4,
    "delete",
    90 * DAY_MS,
    64 * KIB,
    "workers",
    "insight consumers",
)
ACKNOWLEDGEMENTS = _table(
    "aicache.acknowledgements", "incident", (records.Acknowledgement,), "operator", "control plane", 8 * KIB
)
TRENDS = Topic(
    "aicache.insights.trends",
    "series + period, or namespace",
    (records.Trend, records.Lift),
    4,
    "delete",
    90 * DAY_MS,
    16 * KIB,
    "workers",
    "insight consumers",
)
DEAD_LETTERS = Topic(
    "aicache.dead-letters", "origin", (records.DeadLetter,), 1, "delete", 30 * DAY_MS, 16 * KIB, "workers", "operator"
)

TOPICS: tuple[Topic, ...] = (
    TASKS,
    COMMITTEE,
    JOINS,
    ENROLMENTS,
    ROUNDS,
    VOTES,
    UPDATES,
    ENVELOPES,
    ENDORSEMENTS,
    OPENINGS,
    BUDGETS,
    MODELS,
    USAGE,
    AGGREGATES,
    RECOMMENDATIONS,
    TABLES,
    COUNTS,
    SERIES,
    ANOMALIES,
    ACKNOWLEDGEMENTS,
    TRENDS,
    DEAD_LETTERS,
)

PROCESSORS: Mapping[str, int] = {
    "coordinator": 1,
    "recommendations": USAGE.partitions,
    "merging": COUNTS.partitions,
    "private-tables": AGGREGATES.partitions,
    "anomalies": USAGE.partitions,
    "incidents": 1,
    "trends": 1,
}
"""Processors that keep their state in Kafka, and in how many partitions: those of their inputs."""


def state_topic(processor: str, partitions: int) -> Topic:
    """The compacted changelog of a processor: a partition for each of its input's."""
    return Topic(
        STATE_PREFIX + processor,
        "state key",
        (),
        partitions,
        "compact",
        FOREVER,
        RECORD_BYTES_MAX,
        processor,
        processor,
    )


def all_topics() -> tuple[Topic, ...]:
    """The table and the processors' state."""
    return (*TOPICS, *(state_topic(name, partitions) for name, partitions in PROCESSORS.items()))


def topic(name: str) -> Topic:
    """The topic with a name.

    Raises:
        LocalError: there is none.
    """
    for candidate in all_topics():
        if candidate.name == name:
            return candidate
    raise LocalError(f"there is no topic {name}", got=name, needed=[known.name for known in all_topics()])


def topic_name(prefix: str, wanted: Topic) -> str:
    """A topic's name in a deployment."""
    return prefix + wanted.name


@cache
def largest_record_bytes(record: str) -> int:
    """The size cap of a record type: that of the topic that holds it.

    Raises:
        LocalError: no topic holds it.
    """
    sizes = [known.record_bytes_max for known in TOPICS if record in _names(known.records)]
    if not sizes:
        raise LocalError(f"no topic holds {record}", got=record, needed="a record of a topic")
    return max(sizes)


def _names(kinds: Iterable[type[Record]]) -> set[str]:
    return {kind.__name__ for kind in kinds}
