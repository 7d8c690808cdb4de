"""What one partition of recommendations knows, and how it stands in the changelog.

The model is a function of its examples in order, so the changelog holds the examples since the last snapshot, those of a record together,
and, every `SNAPSHOT_EVERY` of them at most, the model in chunks: writing stays proportional to what happened, and loading costs a
snapshot and a bounded replay. Pure.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.feedback import KEYS as FEEDBACK_KEYS
from aicache.streams.recommendations.feedback import Feedback
from aicache.streams.recommendations.person import Person
from aicache.streams.recommendations.snapshot import pack, unpack
from aicache.streams.runtime.contract import Step

SNAPSHOT_EVERY = 5_000
SNAPSHOT_LEAST, SNAPSHOT_MS = 1_000, 60_000
"""Where examples come slowly, fewer are worth a snapshot once the log has gone on for so long: what a restart learns again is the less."""
CHUNK_BYTES = 900_000
NEVER_MS = -(10**9)
"""Before all time of the log."""

EXAMPLE, PSEUDONYM, SNAPSHOT, COUNT, TIME, PUBLISHED, ERASED, VECTORS = (bytes([kind]) for kind in b"epsctmzv")
"""Kinds of entries: the first byte of their keys."""

to_json = json.JSONEncoder(separators=(",", ":")).encode


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
    published_ms: int = NEVER_MS
    touched: dict[str, int] = field(default_factory=dict)
    vectors: int = 0
    vectors_ms: int = NEVER_MS
    turn: int = 0


def load(entries: Iterable[tuple[bytes, bytes]]) -> State:
    """What the changelog's entries say."""
    state = State(Combination())
    chunks: dict[int, bytes] = {}
    examples: dict[int, bytes] = {}
    people: list[tuple[int, bytes, bytes]] = []
    feedback: dict[bytes, bytes] = {}
    alone = {COUNT: b"", TIME: b"", PUBLISHED: b"", VECTORS: b""}
    for key, value in entries:
        kind, name = key[:1], key[1:]
        if kind == SNAPSHOT:
            chunks[int.from_bytes(name, "big")] = value
        elif kind == EXAMPLE:
            examples[int.from_bytes(name, "big")] = value
        elif kind == PSEUDONYM:
            people.append((Person.used(value), name, value))
        elif kind == ERASED:
            state.erased[name] = int.from_bytes(value, "big")
        elif kind in alone:
            alone[kind] = value
        elif kind in FEEDBACK_KEYS:
            feedback[key] = value
    state.now_ms, told = int.from_bytes(alone[TIME], "big"), 0
    if alone[PUBLISHED]:
        state.published, state.published_ms, told, state.touched, state.kept_ms = json.loads(alone[PUBLISHED])
    if alone[VECTORS]:
        state.vectors, state.vectors_ms, state.turn = json.loads(alone[VECTORS])
    people.sort()
    state.people = {name: value for _, name, value in people}
    state.feedback = Feedback.loaded(feedback)
    state.chunks = len(chunks)
    if chunks:
        _restore(state.model, b"".join(chunks[number] for number in sorted(chunks)))
    state.examples = state.kept = min(examples, default=int.from_bytes(alone[COUNT], "big"))
    learn_again(state, examples, told)
    return state


def learn(model: Combination, context: list[str], target: list[str]) -> None:
    """An example as the changelog keeps it: a basket where no target is named."""
    if target:
        model.learn_one(context, target[0])
    else:
        model.learn_basket(context)


def learn_again(state: State, kept: Mapping[int, bytes], told: int) -> None:
    """Learn the examples that the changelog keeps; what the first `told` of them touched is known."""
    for number in sorted(kept):
        attributes, learned = json.loads(kept[number])
        for context, target in learned:
            learn(state.model, attributes + context, target)
        count(state, attributes, learned, touched=number >= told)


def count(state: State, attributes: list[str], learned: list[list[list[str]]], *, touched: bool = True) -> None:
    """The examples of a record were learned."""
    if touched:
        for example in learned:
            touch(state, example)
        touch(state, [attributes, []], len(learned))
    state.pending.append(state.examples)
    state.examples += len(learned)


def touch(state: State, example: list[list[str]], times: int = 1) -> None:
    """Count that these items wait to be told of."""
    for name in (*example[0], *example[1]):
        state.touched[name] = state.touched.get(name, 0) + times


def write_touched(state: State, step: Step) -> None:
    """What waits to be published stands so, and is counted on from the examples after it."""
    told = [state.published, state.published_ms, state.examples, state.touched, state.kept_ms]
    step.changed[PUBLISHED] = to_json(told).encode()


def is_model_due(state: State) -> bool:
    """Whether so many examples wait, or have waited for so long, that the model is worth a snapshot."""
    fresh, passed_ms = state.examples - state.kept, state.now_ms - state.kept_ms
    return fresh >= SNAPSHOT_EVERY or (fresh >= SNAPSHOT_LEAST and passed_ms >= SNAPSHOT_MS)


def keep_model(state: State, step: Step) -> None:
    """Write the model, which stands for all examples so far."""
    data = pack({**state.model.vocabulary.arrays(), **state.model.arrays()})
    chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
    for number, chunk in enumerate(chunks):
        step.changed[SNAPSHOT + number.to_bytes(4, "big")] = chunk
    for number in range(len(chunks), state.chunks):
        step.changed[SNAPSHOT + number.to_bytes(4, "big")] = None
    for number in state.pending:
        step.changed[EXAMPLE + number.to_bytes(8, "big")] = None
    state.chunks, state.kept, state.kept_ms = len(chunks), state.examples, state.now_ms
    state.pending.clear()
    write_touched(state, step)  # examples before a snapshot are not kept


def _restore(model: Combination, data: bytes) -> None:
    arrays = unpack(data)
    model.vocabulary.restore(arrays)
    model.restore(arrays)
