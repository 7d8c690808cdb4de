"""What people ask of rounds on Kafka: one round's records for a verifier, the tasks, a model's earlier versions.

Reads whole topics once, joins no group, commits nothing. Boundary: confluent-kafka, the clock.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from aicache.privacy.errors import LocalError, RemoteError
from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.schemas import topics
from aicache.schemas.codec import Codec, SingleObject
from aicache.schemas.records import (
    Aggregate,
    CommitteeMember,
    Enrolment,
    Envelope,
    Manifest,
    Model,
    Proposal,
    Record,
    RoundAborted,
    Task,
)
from aicache.schemas.topics import Topic
from aicache.streams.rounds.exported import Entry, RoundLog
from aicache.streams.rounds.models import roll_back
from aicache.streams.rounds.task import validate

BROKER_TIMEOUT_S = 30.0
CONSUME_MAX = 500
CONSUME_WAIT_S = 0.5
QUEUED_KB_MAX = 32_768
OF_A_ROUND = (topics.ROUNDS, topics.VOTES, topics.ENVELOPES, topics.ENDORSEMENTS, topics.OPENINGS, topics.AGGREGATES)
TABLES = (topics.TASKS, topics.COMMITTEE, topics.ENROLMENTS)


def _raw(settings: KafkaSettings, places: Sequence[TopicPartition]) -> Iterator[tuple[str, Message]]:
    """Every message from these places to where their partitions end now, with its topic's plain name."""
    consumer = Consumer(settings.reader_config("aicache-rounds", queued_max_messages_kbytes=QUEUED_KB_MAX))
    try:
        waiting = {}
        for place in places:
            low, high = watermarks(consumer, place.topic, place.partition)
            place.offset = max(low, place.offset)
            if high > place.offset:
                waiting[place.topic, place.partition] = high
        consumer.assign([place for place in places if (place.topic, place.partition) in waiting])
        while waiting:
            for message in consumer.consume(CONSUME_MAX, CONSUME_WAIT_S):
                yield from _one(settings, message, waiting)
    finally:
        consumer.close()


def _one(
    settings: KafkaSettings, message: Message, waiting: dict[tuple[str, int], int]
) -> Iterator[tuple[str, Message]]:
    name, partition, offset, error = message.topic(), message.partition(), message.offset(), message.error()
    assert name is not None and partition is not None and offset is not None, "what is consumed has a place"
    key = (name, partition)
    if error is not None:
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        waiting.pop(key, None)
        return
    if key in waiting:
        if message.value() is not None:
            yield name.removeprefix(settings.prefix), message
        if offset + 1 >= waiting[key]:
            waiting.pop(key, None)


def _whole(settings: KafkaSettings, wanted: Sequence[Topic]) -> list[TopicPartition]:
    return [
        TopicPartition(settings.name(topic.name), partition, 0)
        for topic in wanted
        for partition in range(topic.partitions)
    ]


# ---------------------------------------------------------------- one round


def round_log(settings: KafkaSettings, round_id: str) -> RoundLog:
    """What the log holds of a round: for `verify_round`, or to be written to a file.

    Raises:
        LocalError: the log has no proposal of this name.
    """
    codec, standard = Codec(), Codec(SingleObject())
    controls: list[Entry] = []
    manifests: list[Manifest] = []
    enrolments: list[tuple[Entry, Enrolment]] = []
    proposed: Proposal | None = None
    for topic, message in _raw(settings, _whole(settings, (*TABLES, *OF_A_ROUND))):
        entry = _entry(topic, message, codec)
        try:
            record = standard.decode(entry.value, *topics.topic(topic).records).record
        except RemoteError:
            continue
        if isinstance(record, Enrolment):
            enrolments.append((entry, record))
        elif isinstance(record, Task | CommitteeMember) or getattr(record, "round_id", "") == round_id:
            controls.append(entry)
            if isinstance(record, Proposal):
                proposed = record
            elif isinstance(record, Manifest):
                manifests.append(record)
    if proposed is None:
        raise LocalError(f"the log has no round {round_id}", got=round_id, needed="one of `aicache round list`")
    if proposed.adaptive is not None:
        controls += _earlier(settings, proposed)
    listed = {entry.client for manifest in manifests for group in manifest.groups for entry in group.clients}
    controls += [entry for entry, enrolment in enrolments if enrolment.client in listed]
    return RoundLog(
        settings.deployment, round_id, _relevant(controls, standard, proposed, listed), _chunks(settings, manifests)
    )


def _earlier(settings: KafkaSettings, proposal: Proposal) -> list[Entry]:
    """The proposal and the aggregate that a clip that adapts has to follow from: of the newest round before it that was opened.

    What was given up before the proposal does not count, even if its sum was opened late.
    """
    codec, standard = Codec(), Codec(SingleObject())
    before: dict[str, Entry] = {}
    numbers: dict[str, int] = {}
    for topic, message in _raw(settings, _whole(settings, [topics.ROUNDS])):
        entry = _entry(topic, message, codec)
        with suppress(RemoteError):
            record: Record = standard.decode(entry.value, Proposal, RoundAborted).record
            if isinstance(record, RoundAborted):
                before.pop(record.round_id, None)
            elif isinstance(record, Proposal) and record.round_id == proposal.round_id:
                break
            elif isinstance(record, Proposal) and record.task == proposal.task and record.adaptive is not None:
                before.setdefault(record.round_id, entry)
                numbers[record.round_id] = record.number
    best: tuple[int, Entry, Entry] | None = None
    for topic, message in _raw(settings, _whole(settings, [topics.AGGREGATES])):
        entry = _entry(topic, message, codec)
        with suppress(RemoteError):
            opened = standard.decode(entry.value, Aggregate).record
            if opened.n > 0 and opened.round_id in before:
                number = numbers[opened.round_id]
                if best is None or number > best[0]:
                    best = number, before[opened.round_id], entry
    return [] if best is None else [best[1], best[2]]


def _relevant(controls: list[Entry], codec: Codec, proposal: Proposal, listed: set[bytes]) -> list[Entry]:
    """Without other tasks, and without envelopes that no manifest lists (a flood of them would fill the file)."""
    kept = []
    for entry in controls:
        record = codec.decode(entry.value, *topics.topic(entry.topic).records).record
        foreign_task = isinstance(record, Task) and record.task != proposal.task
        unlisted = isinstance(record, Envelope) and not record.member and record.sender not in listed
        if not foreign_task and not unlisted:
            kept.append(entry)
    return kept


def _entry(topic: str, message: Message, codec: Codec) -> Entry:
    """A record as it is handed on: in single-object encoding, which needs no registry to be read."""
    partition, offset, value = message.partition(), message.offset(), message.value()
    assert partition is not None and offset is not None and value is not None, "tombstones were left out"
    with suppress(RemoteError):  # what cannot be read in either form stays as it stands
        value = codec.standard(value)
    return Entry(topic, partition, offset, value)


def _chunks(settings: KafkaSettings, manifests: list[Manifest]) -> Callable[[], Iterator[Entry]]:
    places = [
        place
        for manifest in manifests
        for place in (
            *(entry.place for group in manifest.groups for entry in group.clients),
            *(vector.place for member in manifest.members for vector in member.vectors),
        )
    ]
    wanted = {(place.partition, offset) for place in places for offset in place.offsets}

    def read() -> Iterator[Entry]:
        for partition in sorted({partition for partition, _ in wanted}):
            yield from _chunks_of(settings, partition, sorted(o for p, o in wanted if p == partition))

    return read


def _chunks_of(settings: KafkaSettings, partition: int, offsets: list[int]) -> Iterator[Entry]:
    if not 0 <= partition < topics.UPDATES.partitions:
        return
    start = TopicPartition(settings.name(topics.UPDATES.name), partition, offsets[0])
    missing, codec = set(offsets), Codec()
    for topic, message in _raw(settings, [start]):
        entry = _entry(topic, message, codec)
        if entry.offset in missing:
            missing.discard(entry.offset)
            yield entry
        if not missing or entry.offset >= offsets[-1]:
            return


def opened_round(settings: KafkaSettings, round_id: str) -> tuple[Aggregate, Task]:
    """A round's aggregate and its task in the version of that round.

    Raises:
        LocalError: the log does not hold one of them.
    """
    found = [r for r in _records(settings, topics.AGGREGATES) if isinstance(r, Aggregate) and r.round_id == round_id]
    if not found:
        raise LocalError(f"the log has no result of {round_id}", got=round_id, needed="done in `aicache round list`")
    wanted = (found[0].task, found[0].task_version)
    for record in _records(settings, topics.TASKS):
        if isinstance(record, Task) and (record.task, record.version) == wanted:
            return found[0], record
    raise LocalError("the log no longer holds the round's task", got=wanted[0], needed=f"version {wanted[1]}")


# ---------------------------------------------------------------- tasks and models


def _records(settings: KafkaSettings, topic: Topic) -> Iterator[Record]:
    codec = Codec()
    for _, message in _raw(settings, _whole(settings, [topic])):
        value = message.value()
        try:
            if value is not None:
                yield codec.decode(value, *topic.records).record
        except RemoteError:
            continue


def _write(settings: KafkaSettings, topic: Topic, key: bytes, record: Record) -> None:
    failed: list[KafkaError] = []
    producer = Producer(settings.client_config(acks="all", enable_idempotence=True, message_max_bytes=2_000_000))
    producer.produce(
        settings.name(topic.name),
        Codec().encode(record),
        key,
        on_delivery=lambda error, _: failed.append(error) if error is not None else None,
    )
    if producer.flush(BROKER_TIMEOUT_S) or failed:
        raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))


def tasks(settings: KafkaSettings) -> dict[str, Task]:
    """The newest version of every task, by name."""
    found = (record for record in _records(settings, topics.TASKS) if isinstance(record, Task))
    return {task.task: task for task in sorted(found, key=lambda task: task.version)}


def create_task(settings: KafkaSettings, task: Task) -> Task:
    """Declare a task, or a new version of it; gives what was written.

    Raises:
        LocalError: it cannot work, or changes what its model is.
    """
    known = tasks(settings).get(task.task)
    written = replace(task, deployment=settings.deployment, version=1 if known is None else known.version + 1)
    validate(written)
    if known is not None and (known.kind, known.length) != (written.kind, written.length):
        raise LocalError(
            f"the task {task.task} is a {known.kind} of length {known.length}; another one needs another name",
            got=(written.kind, written.length),
            needed=(known.kind, known.length),
        )
    _write(settings, topics.TASKS, written.task.encode(), written)
    return written


def set_state(settings: KafkaSettings, name: str, state: str) -> Task:
    """Let a task run (`active`), rest (`paused`) or be over (`ended`).

    Raises:
        LocalError: there is no such task or state.
    """
    known = tasks(settings).get(name)
    if known is None:
        raise LocalError(f"there is no task {name}", got=name, needed="one of `aicache task list`")
    return create_task(settings, replace(known, state=state))


def models(settings: KafkaSettings, name: str) -> dict[int, Model]:
    """The versions of a task's model that the log still has."""
    found = (record for record in _records(settings, topics.MODELS) if isinstance(record, Model))
    return {model.version: model for model in found if model.task == name}


def rollback(settings: KafkaSettings, name: str, version: int) -> Model:
    """Make an earlier version of a model the newest one, under a new number; gives what was written.

    Raises:
        LocalError: the log does not have that version.
    """
    known = models(settings, name)
    if version not in known:
        raise LocalError(f"the log has no version {version} of {name}", got=version, needed=sorted(known))
    newest = known[max(known)]
    model = roll_back(newest, known[version], time.time_ns() // 1_000_000)
    _write(settings, topics.MODELS, name.encode(), model)
    return model
