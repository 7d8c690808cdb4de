"""The contract between a processor's logic and whatever runs it.

A processor is a fold: a pure function from (state, batch) to what follows. One task of a fold is partition p of every topic
that it reads. A shell brings batches, in the order of offsets a topic, and writes what follows together with those offsets in one
transaction. Invariant: cutting the same log into other batches gives the same state and the same outputs by key. Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from aicache.privacy.errors import RemoteError
from aicache.schemas.records import Record
from aicache.schemas.topics import Topic

S = TypeVar("S")


class Message(NamedTuple):
    """One decoded input: a tuple, since there is one for each record and a frozen dataclass takes three times as long to make.

    Attributes:
        topic: name without the deployment's prefix.
        partition, offset, timestamp_ms: where and when it stands in the log.
        key: the record key; empty where there is none.
        record: typed; None for a tombstone.
        fingerprint, body: the writer's schema and the Avro body as they stood in the log: digests are taken over them.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    record: Record | None
    fingerprint: bytes = b""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one task, offsets rising within each topic."""

    partition: int
    messages: Sequence[Message]


class Output(NamedTuple):
    """A record to be written; equal inputs give equal keys, so that a repeated output overwrites itself."""

    topic: str
    key: bytes
    record: Record | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True)
class Step:
    """What follows from a batch or a tick.

    Attributes:
        outputs: records to be written.
        changed: state keys with their new values; None: deleted. Only what changed.
        dead: messages that could not be processed, and why.
    """

    outputs: list[Output] = field(default_factory=list)
    changed: dict[bytes, bytes | None] = field(default_factory=dict)
    dead: list[tuple[Message, RemoteError]] = field(default_factory=list)


class Fold(Protocol[S]):
    """A processor's logic. The state is changed in place; after a failed call it is loaded again."""

    @property
    def name(self) -> str:
        """Of the processor: names its state topic, its group and its transactions."""

    @property
    def version(self) -> int:
        """Of the state's form."""

    @property
    def inputs(self) -> tuple[Topic, ...]:
        """What it reads."""

    def empty(self, partition: int) -> S:
        """The state before the first message."""

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> S:
        """The state from what `Step.changed` once held.

        Raises:
            LocalError: the entries are of a version that cannot be read.
        """

    def apply(self, state: S, batch: Batch) -> Step:
        """Fold a batch into the state: a function of its arguments alone."""


class TimedFold(Fold[S], Protocol[S]):
    """A fold of the control plane that also acts as time passes."""

    def tick(self, state: S, now_ms: int) -> Step:
        """What follows from the time, in Unix milliseconds."""
