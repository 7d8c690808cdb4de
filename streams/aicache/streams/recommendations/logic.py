"""Recommendations as a fold over usage batches.

An event that names several items is a basket; a single item follows its context, or the pseudonym's recent items where it has none. Each
batch is learned and answered with what comes next in the namespaces that it used.

State: what each pseudonym did lately, and one model. The model is a function of its examples in order, so the changelog holds the
examples since the last snapshot, those of a record together, and, every `SNAPSHOT_EVERY` of them at most, the model in chunks: writing
stays proportional to what happened, and loading costs a snapshot and a bounded replay.

A tombstone under a pseudonym is its owner's wish to be forgotten: what is kept under that name goes. Pure.
"""

import heapq
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import (
    FeedbackSums,
    PartitionOffset,
    Reason,
    Recommendation,
    Recommended,
    UsageBatch,
    UsageEvent,
)
from aicache.streams.recommendations import counts
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.explain import reasons
from aicache.streams.recommendations.feedback import KEYS as FEEDBACK_KEYS
from aicache.streams.recommendations.feedback import Answered, Feedback, Policy
from aicache.streams.recommendations.person import Person, window_of
from aicache.streams.recommendations.snapshot import pack, unpack
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of
from aicache.streams.runtime.contract import Batch, Message, Output, Step

LEARNED_KINDS = frozenset({"used", "taken"})
PSEUDONYMS_MAX = 200_000
"""Pseudonyms remembered a partition; the one silent for longest is forgotten first."""
FEEDBACK_KINDS = frozenset({"shown", "taken", "dismissed"})
BASKET_MAX = 64
"""Items of one event that count: bounds what one event can teach."""
NAMESPACES_MAX = 4
"""Namespaces that one batch is answered in."""
NAME_MAX = 160
NAMES_CACHED = 65_536
ANSWERS = 10
SNAPSHOT_EVERY = 5_000
SNAPSHOT_LEAST, SNAPSHOT_MS = 1_000, 60_000
"""Where examples come slowly, fewer are worth a snapshot once the log has gone on for so long: what a restart learns again is the less."""
ROWS_MAX = 250
"""Rows in one publication of counts: each costs a few passes over all items."""
CHUNK_BYTES = 900_000

_EXAMPLE, _PSEUDONYM, _SNAPSHOT, _COUNT, _TIME, _PUBLISHED, _ERASED = b"e", b"p", b"s", b"c", b"t", b"m", b"z"
_VECTORS = b"v"

_TO_JSON = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(slots=True)
class State:
    """What one partition knows.

    Attributes:
        model: the ranker.
        people: what is kept of each pseudonym, packed, in the order of last activity.
        erased: pseudonyms whose owners have asked to be forgotten, with the window in which they teach no more.
        feedback: open answers and what the bandit has learned.
        examples: how many were learned.
        pending: numbers of the first examples of records in the changelog since the last snapshot.
        chunks: how many chunks the last snapshot has.
        kept: how many examples had been learned at the last snapshot.
        kept_ms: the log's time then.
        now_ms: the log's time: the newest time of a record so far.
        published: how many examples had been learned when counts were published last.
        published_ms: the log's time then.
        touched: how often each item came in examples since its counts were published, those that wait longest first.
        vectors: how many examples had been learned when vectors were published last.
        vectors_ms: the log's time then.
        turn: how many times they were published.
    """

    model: Combination
    people: dict[bytes, bytes] = field(default_factory=dict)
    erased: dict[bytes, int] = field(default_factory=dict)
    feedback: Feedback = field(default_factory=Feedback)
    examples: int = 0
    pending: list[int] = field(default_factory=list)
    chunks: int = 0
    kept: int = 0
    kept_ms: int = 0
    now_ms: int = 0
    published: int = 0
    published_ms: int = -counts.PERIOD_MS
    touched: dict[str, int] = field(default_factory=dict)
    vectors: int = 0
    vectors_ms: int = -counts.PERIOD_MS
    turn: int = 0


class Recommendations:
    """The fold.

    Args:
        policy: whether, and how far, the bandit may change the order of answers.
    """

    name = "recommendations"
    version = 3
    inputs = (topics.USAGE,)

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        del partition
        return State(Combination())

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        if version != self.version:
            raise LocalError("the recommendations' state is of another version", got=version, needed=self.version)
        state = self.empty(partition)
        chunks: dict[int, bytes] = {}
        examples: dict[int, bytes] = {}
        people: list[tuple[int, bytes, bytes]] = []
        feedback: dict[bytes, bytes] = {}
        alone = {_COUNT: b"", _TIME: b"", _PUBLISHED: b"", _VECTORS: b""}
        for key, value in entries:
            kind, name = key[:1], key[1:]
            if kind == _SNAPSHOT:
                chunks[int.from_bytes(name, "big")] = value
            elif kind == _EXAMPLE:
                examples[int.from_bytes(name, "big")] = value
            elif kind == _PSEUDONYM:
                people.append((Person.used(value), name, value))
            elif kind == _ERASED:
                state.erased[name] = int.from_bytes(value, "big")
            elif kind in alone:
                alone[kind] = value
            elif kind in FEEDBACK_KEYS:
                feedback[key] = value
        state.now_ms, told = int.from_bytes(alone[_TIME], "big"), 0
        if alone[_PUBLISHED]:
            state.published, state.published_ms, told, state.touched, state.kept_ms = json.loads(alone[_PUBLISHED])
        if alone[_VECTORS]:
            state.vectors, state.vectors_ms, state.turn = json.loads(alone[_VECTORS])
        people.sort()
        state.people = {name: value for _, name, value in people}
        state.feedback = Feedback.loaded(feedback)
        state.chunks = len(chunks)
        if chunks:
            _restore(state.model, b"".join(chunks[number] for number in sorted(chunks)))
        state.examples = state.kept = min(examples, default=int.from_bytes(alone[_COUNT], "big"))
        _learn_again(state, examples, told)
        return state

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        step, began_ms = Step(), state.now_ms
        for message in batch.messages:
            before_ms, state.now_ms = state.now_ms, max(state.now_ms, message.timestamp_ms)
            if window_of(state.now_ms) != window_of(before_ms):
                _forget_erased(state, step)
            state.feedback.close_until(state.now_ms)
            if message.record is None:
                _erase(state, message.key, step)
            elif isinstance(message.record, UsageBatch):
                usage = message.record
                try:
                    attributes = _attributes(usage)
                except RemoteError as error:
                    step.dead.append((message, error))
                    continue
                step.outputs += _sums(state, usage.deployment, batch.partition)
                self._hear(state, usage)
                person = _person(state, usage.pseudonym)
                _learn_usage(state, usage, attributes, person, step)
                _keep(state, usage.pseudonym, person, message, step)
                _tell(state, usage.deployment, batch.partition, step)
                step.outputs += self._answers(state, usage, attributes, person, message)
        if state.now_ms != began_ms:
            step.changed[_TIME] = state.now_ms.to_bytes(8, "big")
        step.changed.update(state.feedback.changes())
        return step

    @staticmethod
    def _hear(state: State, usage: UsageBatch) -> None:
        for event in usage.events:
            if event.answer and event.kind in FEEDBACK_KINDS:
                state.feedback.hear(usage.pseudonym, event)

    def _answers(
        self, state: State, usage: UsageBatch, attributes: list[str], person: Person, message: Message
    ) -> list[Output]:
        used = [event for event in usage.events if event.kind in LEARNED_KINDS]
        if not used:
            return []
        last = used[-1]
        # What a client says is at hand now counts; what it did before stands in where it says nothing.
        recent = last.context + last.items if last.context or len(last.items) > 1 else person.recent
        namespaces = list(dict.fromkeys(namespace_of(item) for event in reversed(used) for item in event.items))
        outputs: list[Output] = []
        for namespace in namespaces[:NAMESPACES_MAX]:
            ranked = state.model.rank(attributes + recent, ANSWERS, namespaces=[namespace])
            place = f"{message.partition}/{message.offset}"
            asked = Answered(usage.pseudonym.hex(), place, namespace, state.now_ms, attributes)
            why = reasons(state.model, [item for item, _ in ranked], recent)
            record = Recommendation(
                deployment=usage.deployment,
                pseudonym=usage.pseudonym,
                namespace=namespace,
                time_s=_newest(used),
                source=PartitionOffset(message.partition, message.offset),
                items=[
                    Recommended(*ranked[rank], [Reason(*reason) for reason in why[rank]], propensity)
                    for rank, propensity in self._ordered(state, asked, ranked)
                ],
            )
            outputs.append(Output(topics.RECOMMENDATIONS.name, usage.pseudonym + namespace.encode(), record))
        return outputs

    def _ordered(self, state: State, asked: Answered, ranked: list[tuple[str, float]]) -> Iterable[tuple[int, float]]:
        """Ranks with their probabilities, in the order in which they are answered."""
        answered = state.feedback.answer(asked, self.policy, ranked)
        if answered is None:
            return ((rank, 1.0) for rank in range(len(ranked)))
        return zip(answered.order, answered.propensities, strict=True)


def attributes_of(usage: UsageBatch) -> list[str]:
    """What describes the situation, as items: `language:python` and so on."""
    tool = usage.tool.partition("@")[0]
    values = (usage.language, usage.framework, usage.os_family, usage.task, tool, usage.daytime)
    return [f"{name}:{value}" for name, value in zip(ATTRIBUTES, values, strict=True) if value]


def _attributes(usage: UsageBatch) -> list[str]:
    """What describes the situation.

    Raises:
        RemoteError: it, or an item, is no name.
    """
    for event in usage.events:
        for item in (*event.items, *event.context):
            if fault := _fault(item):
                raise RemoteError(fault, reason="bad-item", got=item[:NAME_MAX], needed="namespace:name")
    attributes = attributes_of(usage)
    if not all(map(_is_name, attributes)):
        raise RemoteError("an attribute is short and on one line", reason="bad-item", needed=f"≤ {NAME_MAX} characters")
    return attributes


@lru_cache(NAMES_CACHED)
def _fault(item: str) -> str:
    """What is wrong with the name of an item; empty where nothing is."""
    try:
        namespace = namespace_of(item)
    except LocalError:
        return "an item has no namespace"
    if namespace in ATTRIBUTES:
        return "an item is in a namespace of attributes"
    return "" if _is_name(item) else "a name is short and on one line"


def _is_name(name: str) -> bool:
    return len(name) <= NAME_MAX and name.isprintable()


def _learn(model: Combination, context: list[str], target: list[str]) -> None:
    """An example as the changelog keeps it: a basket where no target is named."""
    if target:
        model.learn_one(context, target[0])
    else:
        model.learn_basket(context)


def _erase(state: State, pseudonym: bytes, step: Step) -> None:
    """Forget what is kept under a name. What it taught is in counts with everybody's, without its name, and fades."""
    state.feedback.erase(pseudonym)
    if state.people.pop(pseudonym, None) is not None:
        step.changed[_PSEUDONYM + pseudonym] = None
        state.erased[pseudonym] = window_of(state.now_ms)
        step.changed[_ERASED + pseudonym] = state.erased[pseudonym].to_bytes(8, "big")


def _forget_erased(state: State, step: Step) -> None:
    """Once its window is over, nothing says that a pseudonym was erased."""
    for name in [name for name, window in state.erased.items() if window < window_of(state.now_ms)]:
        del state.erased[name]
        step.changed[_ERASED + name] = None


def _learn_usage(state: State, usage: UsageBatch, situation: list[str], person: Person, step: Step) -> None:
    names = state.model.vocabulary
    attributes: list[str] = []
    learned: list[list[list[str]]] = []
    for event in usage.events:
        if event.kind not in LEARNED_KINDS:
            continue
        items = event.items[:BASKET_MAX]
        person.begin(event.time_s, state.now_ms)
        before = event.context or person.recent
        taught = person.admitted(person.named(items, names))
        if taught:
            if not learned:
                attributes = person.named(situation, names)
            alone = len(items) == 1
            before = person.context(person.named(before[-BASKET_MAX:], names)) if alone else []
            example = [before, taught] if alone else [taught, []]
            learned.append(example)
            _learn(state.model, attributes + example[0], example[1])
        person.remember(items)
    if learned:
        step.changed[_EXAMPLE + state.examples.to_bytes(8, "big")] = _TO_JSON([attributes, learned]).encode()
        _count(state, attributes, learned)
        step.changed[_COUNT] = state.examples.to_bytes(8, "big")


def _learn_again(state: State, kept: Mapping[int, bytes], told: int) -> None:
    """Learn the examples that the changelog keeps; what the first `told` of them touched is known."""
    for number in sorted(kept):
        attributes, learned = json.loads(kept[number])
        for context, target in learned:
            _learn(state.model, attributes + context, target)
        _count(state, attributes, learned, touched=number >= told)


def _count(state: State, attributes: list[str], learned: list[list[list[str]]], *, touched: bool = True) -> None:
    """The examples of a record were learned."""
    if touched:
        for example in learned:
            _touch(state, example)
        _touch(state, [attributes, []], len(learned))
    state.pending.append(state.examples)
    state.examples += len(learned)


def _person(state: State, pseudonym: bytes) -> Person:
    known = state.people.pop(pseudonym, None)
    if known is not None:
        return Person.unpack(known)
    return Person.erased(state.now_ms) if pseudonym in state.erased else Person()


def _keep(state: State, pseudonym: bytes, person: Person, message: Message, step: Step) -> None:
    """Pack what is kept of a pseudonym; whoever has been silent for longest makes room."""
    state.people[pseudonym] = step.changed[_PSEUDONYM + pseudonym] = person.pack(message.offset)
    if len(state.people) > PSEUDONYMS_MAX:
        oldest = next(iter(state.people))
        del state.people[oldest]
        step.changed[_PSEUDONYM + oldest] = None


def _tell(state: State, deployment: str, partition: int, step: Step) -> None:
    """Publish counts and vectors, and keep the model, when it is time."""
    if state.now_ms - state.vectors_ms >= counts.PERIOD_MS and state.examples - state.vectors >= counts.VECTORS_EVERY:
        _publish_vectors(state, deployment, partition, step)
    late = state.now_ms - state.published_ms >= counts.PERIOD_MS
    if late and counts.is_due(state.examples, state.published):
        _publish(state, deployment, partition, step)
    fresh, passed_ms = state.examples - state.kept, state.now_ms - state.kept_ms
    if fresh >= SNAPSHOT_EVERY or (fresh >= SNAPSHOT_LEAST and passed_ms >= SNAPSHOT_MS):
        _snapshot(state, step)


def _touch(state: State, example: list[list[str]], times: int = 1) -> None:
    for name in (*example[0], *example[1]):
        state.touched[name] = state.touched.get(name, 0) + times


def _publish(state: State, deployment: str, partition: int, step: Step) -> None:
    """Tell what is counted of the items that were touched most, and of those that have waited longest; the rest waits on."""
    chosen = set(heapq.nsmallest(ROWS_MAX // 2, state.touched, key=lambda name: (-state.touched[name], name)))
    for name in state.touched:
        if len(chosen) >= ROWS_MAX:
            break
        chosen.add(name)
    step.outputs += counts.rows(state.model, chosen, deployment, partition, state.examples)
    for name in chosen:
        del state.touched[name]
    state.published, state.published_ms = state.examples, state.now_ms
    _write_touched(state, step)


def _publish_vectors(state: State, deployment: str, partition: int, step: Step) -> None:
    step.outputs += counts.vectors(state.model, deployment, partition, state.examples, state.turn)
    state.vectors, state.vectors_ms, state.turn = state.examples, state.now_ms, state.turn + 1
    step.changed[_VECTORS] = _TO_JSON([state.vectors, state.vectors_ms, state.turn]).encode()


def _write_touched(state: State, step: Step) -> None:
    """What waits to be published stands so, and is counted on from the examples after it."""
    told = [state.published, state.published_ms, state.examples, state.touched, state.kept_ms]
    step.changed[_PUBLISHED] = _TO_JSON(told).encode()


def _sums(state: State, deployment: str, partition: int) -> list[Output]:
    """How answers fared, for the processor that adds partitions up."""
    outputs = []
    for namespace in state.feedback.take_due():
        standing = state.feedback.standings[namespace]
        sums = standing.sums.astype("<f8").tobytes()
        record = FeedbackSums(deployment, namespace, partition, standing.time_ms // 1_000, sums)
        outputs.append(Output(topics.COUNTS.name, f"{namespace}/{partition}".encode(), record))
    return outputs


def _newest(events: list[UsageEvent]) -> int:
    return max(event.time_s for event in events)


def _snapshot(state: State, step: Step) -> None:
    data = pack({**state.model.vocabulary.arrays(), **state.model.arrays()})
    chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
    for number, chunk in enumerate(chunks):
        step.changed[_SNAPSHOT + number.to_bytes(4, "big")] = chunk
    for number in range(len(chunks), state.chunks):
        step.changed[_SNAPSHOT + number.to_bytes(4, "big")] = None
    for number in state.pending:
        step.changed[_EXAMPLE + number.to_bytes(8, "big")] = None
    state.chunks, state.kept, state.kept_ms = len(chunks), state.examples, state.now_ms
    state.pending.clear()
    _write_touched(state, step)  # examples before a snapshot are not kept


def _restore(model: Combination, data: bytes) -> None:
    arrays = unpack(data)
    model.vocabulary.restore(arrays)
    model.restore(arrays)
