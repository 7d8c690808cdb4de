"""Recommendations as a fold over usage batches.

An event that names several items is a basket; a single item follows its context, or the pseudonym's recent items where it has none. Each
batch is learned and answered with what comes next in the namespaces that it used.

State: what each pseudonym did lately, and one model. The model is a function of its examples in order, so the changelog holds the
examples since the last snapshot and, every `SNAPSHOT_EVERY` examples, the model in chunks: writing stays proportional to what
happened, and loading costs a snapshot and a bounded replay. Pure.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import PartitionOffset, Reason, Recommendation, Recommended, UsageBatch, UsageEvent
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.explain import reasons
from aicache.streams.recommendations.snapshot import pack, unpack
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of
from aicache.streams.runtime.contract import Batch, Message, Output, Step

LEARNED_KINDS = frozenset({"used", "taken"})
RECENT_MAX = 64
"""Items remembered a pseudonym."""
PSEUDONYMS_MAX = 200_000
"""Pseudonyms remembered a partition; the one silent for longest is forgotten first."""
SESSION_S = 1_800
"""An item that comes later than this after the one before begins something new."""
BASKET_MAX = 64
"""Items of one event that count: bounds what one event can teach."""
NAMESPACES_MAX = 4
"""Namespaces that one batch is answered in."""
ANSWERS = 10
SNAPSHOT_EVERY = 5_000
CHUNK_BYTES = 900_000

_EXAMPLE, _PSEUDONYM, _SNAPSHOT, _COUNT = b"e", b"p", b"s", b"c"


@dataclass(slots=True)
class State:
    """What one partition knows.

    Attributes:
        model: the ranker.
        recent: newest items of each pseudonym, oldest first, with the time of the newest event; in the order of last activity.
        examples: how many were learned.
        pending: numbers of examples in the changelog since the last snapshot.
        chunks: how many chunks the last snapshot has.
    """

    model: Combination
    recent: dict[bytes, tuple[int, list[str]]] = field(default_factory=dict)
    examples: int = 0
    pending: list[int] = field(default_factory=list)
    chunks: int = 0


class Recommendations:
    """The fold."""

    name = "recommendations"
    version = 1
    inputs = (topics.USAGE,)

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
        examples: dict[int, list[list[str]]] = {}
        recent: list[tuple[int, bytes, tuple[int, list[str]]]] = []
        for key, value in entries:
            kind, name = key[:1], key[1:]
            if kind == _SNAPSHOT:
                chunks[int.from_bytes(name, "big")] = value
            elif kind == _EXAMPLE:
                examples[int.from_bytes(name, "big")] = json.loads(value)
            elif kind == _PSEUDONYM:
                used, newest_s, items = json.loads(value)
                recent.append((used, name, (newest_s, items)))
            elif kind == _COUNT:
                state.examples = int.from_bytes(value, "big")
        state.recent = {name: known for _, name, known in sorted(recent)}
        state.chunks = len(chunks)
        if chunks:
            _restore(state.model, b"".join(chunks[number] for number in sorted(chunks)))
        for number in sorted(examples):
            _learn(state.model, *examples[number])
            state.pending.append(number)
        return state

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        step = Step()
        for message in batch.messages:
            if not isinstance(message.record, UsageBatch):
                continue
            try:
                usage = _checked(message.record)
            except RemoteError as error:
                step.dead.append((message, error))
                continue
            self._learn_batch(state, usage, step)
            step.outputs += _answers(state, usage, message)
        return step

    def _learn_batch(self, state: State, usage: UsageBatch, step: Step) -> None:
        attributes = attributes_of(usage)
        newest_s, recent = state.recent.pop(usage.pseudonym, (0, []))
        for event in usage.events:
            if event.kind not in LEARNED_KINDS:
                continue
            items = event.items[:BASKET_MAX]
            if event.time_s - newest_s > SESSION_S:
                recent = []
            before = event.context or recent
            newest_s = max(newest_s, event.time_s)
            example = [attributes + items, []] if len(items) > 1 else [attributes + before, items]
            _learn(state.model, *example)
            step.changed[_EXAMPLE + state.examples.to_bytes(8, "big")] = json.dumps(example).encode()
            state.pending.append(state.examples)
            state.examples += 1
            recent = [item for item in recent if item not in items] + items
        recent = recent[-RECENT_MAX:]
        state.recent[usage.pseudonym] = (newest_s, recent)
        step.changed[_PSEUDONYM + usage.pseudonym] = json.dumps([state.examples, newest_s, recent]).encode()
        step.changed[_COUNT] = state.examples.to_bytes(8, "big")
        if len(state.recent) > PSEUDONYMS_MAX:
            oldest = next(iter(state.recent))
            del state.recent[oldest]
            step.changed[_PSEUDONYM + oldest] = None
        if len(state.pending) >= SNAPSHOT_EVERY:
            _snapshot(state, step)


def attributes_of(usage: UsageBatch) -> list[str]:
    """What describes the situation, as items: `language:python` and so on."""
    values = (usage.language, usage.framework, usage.os_family, usage.task, usage.tool.partition("@")[0])
    return [f"{name}:{value}" for name, value in zip(ATTRIBUTES, values, strict=True) if value]


def _checked(usage: UsageBatch) -> UsageBatch:
    for event in usage.events:
        for item in event.items:
            try:
                namespace = namespace_of(item)
            except LocalError:
                raise RemoteError("an item has no namespace", reason="bad-item", needed="namespace:name") from None
            if namespace in ATTRIBUTES:
                raise RemoteError("an item is in a namespace of attributes", reason="bad-item", got=namespace)
    return usage


def _learn(model: Combination, context: list[str], target: list[str]) -> None:
    """An example as the changelog keeps it: a basket where no target is named."""
    if target:
        model.learn_one(context, target[0])
    else:
        model.learn_basket(context)


def _answers(state: State, usage: UsageBatch, message: Message) -> list[Output]:
    used = [event for event in usage.events if event.kind in LEARNED_KINDS]
    if not used:
        return []
    last = used[-1]
    # What a client says is at hand now counts; what it did before stands in where it says nothing.
    recent = last.context + last.items if last.context or len(last.items) > 1 else state.recent[usage.pseudonym][1]
    at_hand = attributes_of(usage) + recent
    namespaces = list(dict.fromkeys(namespace_of(item) for event in reversed(used) for item in event.items))
    outputs: list[Output] = []
    for namespace in namespaces[:NAMESPACES_MAX]:
        ranked = state.model.rank(at_hand, ANSWERS, namespaces=[namespace])
        record = Recommendation(
            deployment=usage.deployment,
            pseudonym=usage.pseudonym,
            namespace=namespace,
            time_s=_newest(used),
            source=PartitionOffset(message.partition, message.offset),
            items=[
                Recommended(item, score, [Reason(*reason) for reason in reasons(state.model, item, recent)])
                for item, score in ranked
            ],
        )
        outputs.append(Output(topics.RECOMMENDATIONS.name, usage.pseudonym + namespace.encode(), record))
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
    state.chunks = len(chunks)
    state.pending.clear()


def _restore(model: Combination, data: bytes) -> None:
    arrays = unpack(data)
    model.vocabulary.restore(arrays)
    model.restore(arrays)
