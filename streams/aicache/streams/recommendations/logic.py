"""Recommendations as a fold over usage batches.

An event that names several items is a basket; a single item follows its context, or the pseudonym's recent items where it has none. Each
batch is learned and answered with what comes next in the namespaces that it used.

State: what each pseudonym did lately, and one model (state.py). What is counted is told to whoever adds partitions up (telling.py).

A tombstone under a pseudonym is its owner's wish to be forgotten: what is kept under that name goes. Pure.
"""

from collections.abc import Iterable

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import PartitionOffset, Reason, Recommendation, Recommended, UsageBatch, UsageEvent
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.explain import reasons
from aicache.streams.recommendations.feedback import Answered, Policy
from aicache.streams.recommendations.person import Person, window_of
from aicache.streams.recommendations.state import (
    COUNT,
    ERASED,
    EXAMPLE,
    PSEUDONYM,
    TIME,
    State,
    count,
    learn,
    load,
    to_json,
)
from aicache.streams.recommendations.telling import feedback_sums, tell
from aicache.streams.recommendations.usage import checked_attributes
from aicache.streams.recommendations.vocabulary import namespace_of
from aicache.streams.runtime.contract import Batch, Message, Output, Step

LEARNED_KINDS = frozenset({"used", "taken"})
FEEDBACK_KINDS = frozenset({"shown", "taken", "dismissed"})
PSEUDONYMS_MAX = 200_000
"""Pseudonyms remembered a partition; the one silent for longest is forgotten first."""
BASKET_MAX = 64
"""Items of one event that count: bounds what one event can teach."""
NAMESPACES_MAX = 4
"""Namespaces that one batch is answered in."""
ANSWERS = 10


class Recommendations:
    """The fold.

    Args:
        policy: whether, and how far, the bandit may change the order of answers.
    """

    name = "recommendations"
    version = 4
    inputs = (topics.USAGE,)

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        del partition
        return State(Combination())

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        del partition
        if version != self.version:
            raise LocalError("the recommendations' state is of another version", got=version, needed=self.version)
        return load(entries)

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
                    attributes = checked_attributes(usage)
                except RemoteError as error:
                    step.dead.append((message, error))
                    continue
                step.outputs += feedback_sums(state, usage.deployment, batch.partition)
                self._hear(state, usage)
                person = _person(state, usage.pseudonym)
                _learn_usage(state, usage, attributes, person, step)
                _keep(state, usage.pseudonym, person, message, step)
                tell(state, usage.deployment, batch.partition, step)
                step.outputs += self._answers(state, usage, attributes, person, message)
        if state.now_ms != began_ms:
            step.changed[TIME] = state.now_ms.to_bytes(8, "big")
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


def _erase(state: State, pseudonym: bytes, step: Step) -> None:
    """Forget what is kept under a name. What it taught is in counts with everybody's, without its name, and fades."""
    state.feedback.erase(pseudonym)
    if state.people.pop(pseudonym, None) is not None:
        step.changed[PSEUDONYM + pseudonym] = None
        state.erased[pseudonym] = window_of(state.now_ms)
        step.changed[ERASED + pseudonym] = state.erased[pseudonym].to_bytes(8, "big")


def _forget_erased(state: State, step: Step) -> None:
    """Once its window is over, nothing says that a pseudonym was erased."""
    for name in [name for name, window in state.erased.items() if window < window_of(state.now_ms)]:
        del state.erased[name]
        step.changed[ERASED + name] = None


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
            learn(state.model, attributes + example[0], example[1])
        person.remember(items)
    if learned:
        step.changed[EXAMPLE + state.examples.to_bytes(8, "big")] = to_json([attributes, learned]).encode()
        count(state, attributes, learned)
        step.changed[COUNT] = state.examples.to_bytes(8, "big")


def _person(state: State, pseudonym: bytes) -> Person:
    known = state.people.pop(pseudonym, None)
    if known is not None:
        return Person.unpack(known)
    return Person.erased(state.now_ms) if pseudonym in state.erased else Person()


def _keep(state: State, pseudonym: bytes, person: Person, message: Message, step: Step) -> None:
    """Pack what is kept of a pseudonym; whoever has been silent for longest makes room."""
    state.people[pseudonym] = step.changed[PSEUDONYM + pseudonym] = person.pack(message.offset)
    if len(state.people) > PSEUDONYMS_MAX:
        oldest = next(iter(state.people))
        del state.people[oldest]
        step.changed[PSEUDONYM + oldest] = None


def _newest(events: list[UsageEvent]) -> int:
    return max(event.time_s for event in events)
