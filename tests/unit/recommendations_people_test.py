"""What is kept of a pseudonym: it is bounded in what it teaches, forgotten on its wish, and its feedback is learned exactly once."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from aicache.schemas.records import FeedbackSums, ItemCount, Recommendation, UsageBatch, UsageEvent
from aicache.streams.recommendations import counts, feedback
from aicache.streams.recommendations.feedback import OBSERVE, ON, WINDOW_MS, Policy
from aicache.streams.recommendations.logic import Recommendations
from aicache.streams.recommendations.off_policy import ONE, TERMS
from aicache.streams.recommendations.person import ITEM_MAX, ITEMS_MAX, NAMES_MAX, NAMES_SCARCE, Person
from aicache.streams.recommendations.person import WINDOW_MS as TEACHING_MS
from aicache.streams.recommendations.state import State
from aicache.streams.recommendations.vocabulary import Vocabulary
from aicache.streams.runtime.contract import Batch, Message, Step
from support.folds import changelog, play

FOLD = Recommendations()
OBSERVING = Recommendations(Policy(OBSERVE))


def event(kind: str, items: Sequence[str], *, position: int = -1, answer: str = "", time_s: int = 0) -> UsageEvent:
    return UsageEvent(kind, time_s, list(items), [], "", 1, b"", position, 0.0, answer)


def said(offset: int, pseudonym: int, *events: UsageEvent, time_ms: int = 0) -> Message:
    usage = UsageBatch("test", name_of(pseudonym), 1, 0, "python", "", "linux", "build", "pytest@9", list(events))
    return Message("aicache.usage", 0, offset, time_ms, usage.pseudonym, usage)


def name_of(pseudonym: int) -> bytes:
    return pseudonym.to_bytes(16, "big")


def crowd(people: int, random: np.random.Generator) -> list[Message]:
    """From each five baskets of three of fifty items, a few of them often; every other one as a sequence."""
    weight = 1.0 / (1 + np.arange(50))
    baskets = [random.choice(50, 3, replace=False, p=weight / weight.sum()).tolist() for _ in range(5 * people)]
    told = []
    for number, basket in enumerate(baskets):
        items = [f"tag:t{item}" for item in basket]
        one = replace(event("used", items[-1:]), context=items[:-1])
        told.append(one if number % 2 else event("used", items))
    return [said(n, n, *told[5 * n : 5 * n + 5], time_ms=n * 1_000) for n in range(people)]


# ---------------------------------------------------------------- flood


def table(state: State, item: str) -> dict[str, float]:
    """The row of an item as it is published, the likeliest first."""
    [output] = counts.rows(state.model, {item}, "test", 0, state.examples)
    assert isinstance(output.record, ItemCount)
    shares = np.frombuffer(output.record.counts, dtype="<f4") / output.record.count
    return dict(zip(output.record.neighbours, shares.tolist(), strict=True))


def after(item: str) -> UsageEvent:
    return replace(event("used", [item]), context=["tag:t0"])


FLOODS = {
    "one pair": [event("used", ["tag:t0", "tag:spam"])] * 2_000,
    "one sequence": [after("tag:spam")] * 2_000,
    "many sequences": [after(f"tag:spam{n}") for n in range(200) for _ in range(8)],
    "large baskets": [
        event("used", ["tag:t0", *[f"tag:spam{(63 * n + m) % 120}" for m in range(63)]]) for n in range(40)
    ],
}


def test_a_flood_from_one_pseudonym_hardly_moves_a_table() -> None:
    """1,000 honest examples, then a flood of one pseudonym that wants its items beside the one that is used most."""
    honest = crowd(200, np.random.default_rng(1))
    state, _ = play(FOLD, [], honest)
    before = table(state, "tag:t0")
    for name, events in FLOODS.items():
        flooded, learned = copy.deepcopy(state), state.examples
        FOLD.apply(flooded, Batch(0, [said(200, 9_999, *events, time_ms=honest[-1].timestamp_ms)]))
        moved = table(flooded, "tag:t0")
        assert flooded.examples - learned <= ITEMS_MAX, name
        assert len({*list(before)[:10]} & {*list(moved)[:10]}) >= 8, name
        assert max(abs(moved.get(item, 0.0) - share) for item, share in before.items()) < 0.1, name


def test_a_pseudonym_teaches_an_item_a_few_times_an_hour_and_a_bounded_number_of_items() -> None:
    often = [said(n, 1, event("used", ["tag:a"])) for n in range(50)]
    state, _ = play(FOLD, [], often)
    assert state.examples == ITEM_MAX
    state, _ = play(FOLD, [], [*often, said(50, 1, event("used", ["tag:a"]), time_ms=TEACHING_MS)])
    assert state.examples == ITEM_MAX + 1
    many = [said(n, 1, event("used", [f"tag:i{n % 4}-{m}" for m in range(48)])) for n in range(11)]
    state, _ = play(FOLD, [], many)
    person = Person.unpack(*state.people.values())
    assert person.spent == sum(person.taught.values()) == ITEMS_MAX


def test_what_is_kept_of_a_pseudonym_comes_back_from_its_bytes() -> None:
    known = Vocabulary()
    known.add("tag:é")
    person = Person()
    assert Person.unpack(person.pack(3)) == person
    for n in range(600):
        person.begin(n, n * 1_000)
        items = ["tag:é", f"tag:{n % 90}"]
        person.admitted(person.named(items, known))
        person.context([f"tag:before{n}", *person.recent])
        person.remember(items)
    packed = person.pack(2**40)
    assert Person.unpack(packed) == person
    assert Person.used(packed) == 2**40
    assert Person.unpack(Person.erased(TEACHING_MS).pack(0)) == Person.erased(TEACHING_MS)
    assert len(packed) < 10_000


def test_names_are_brought_a_few_at_a_time_and_never_fill_the_vocabulary() -> None:
    """Through items, contexts and attributes; a pseudonym lives for a week."""

    def batch(n: int, hour: int) -> Message:
        told = replace(event("used", [f"tag:i{n}"]), context=[f"tag:c{n}-{m}" for m in range(200)])
        message = said(n, 1, told, time_ms=hour * TEACHING_MS)
        assert isinstance(message.record, UsageBatch)
        return message._replace(record=replace(message.record, language=f"l{n}", framework=f"f{n}", tool=f"t{n}"))

    state = FOLD.empty(0)
    FOLD.apply(state, Batch(0, [batch(n, 0) for n in range(20)]))
    names = state.model.vocabulary
    assert len(names) == NAMES_MAX
    names.capacity = 2 * len(names)
    FOLD.apply(state, Batch(0, [batch(n, 1) for n in range(20, 40)]))
    assert len(names) == NAMES_MAX + NAMES_SCARCE
    half = Vocabulary().capacity // 2
    hours = half // NAMES_MAX
    assert half + NAMES_MAX + (7 * 24 - hours) * NAMES_SCARCE < Vocabulary().capacity


def test_a_flood_of_new_names_takes_no_place_from_what_everybody_uses() -> None:
    """A thousand pseudonyms bring sixteen names each, five times as many as have a place, and use them as often as they teach."""
    vocabulary, random = Vocabulary(capacity=3_000), np.random.default_rng(1)
    weight = 1.0 / (1 + np.arange(1_000))
    weight /= weight.sum()

    def use(names: list[str]) -> None:
        if sum(name not in vocabulary for name in names) > vocabulary.room:
            vocabulary.make_room(len(names), keep=names)
        vocabulary.use([vocabulary.add(name) for name in names])

    for person in range(1_000):
        for basket in random.choice(1_000, (10, 3), p=weight):
            use(sorted({f"tag:t{item}" for item in basket}))
        found = Person().named([f"tag:flood{person}-{n}" for n in range(100)], vocabulary)
        assert len(found) in (100, NAMES_SCARCE)
        for name in found * ITEM_MAX:
            use([name])
    assert vocabulary.room < vocabulary.capacity // 16
    assert all(f"tag:t{item}" in vocabulary for item in range(100)), "each is at least one in 5,000 of all uses"


@pytest.mark.parametrize("bad", ["tag:two\nlines", "tag:" + "x" * 200, "tag:\x00", "language:c"])
def test_names_that_are_none_are_dead_lettered(bad: str) -> None:
    for wrong in (event("used", [bad]), replace(event("used", ["tag:a"]), context=[bad])):
        state, (step,) = play(FOLD, [], [said(0, 1, wrong)])
        assert [error.reason for _, error in step.dead] == ["bad-item"]
        assert len(state.model.vocabulary) == 0
    message = said(0, 1, event("used", ["tag:a"]))
    assert isinstance(message.record, UsageBatch)
    _, (step,) = play(FOLD, [], [message._replace(record=replace(message.record, language="c\nd"))])
    assert [error.reason for _, error in step.dead] == ["bad-item"]


def test_what_no_longer_teaches_is_still_at_hand_for_its_own_answers() -> None:
    pairs = [said(n, n, event("used", ["tag:wifi", "tag:driver"])) for n in range(20)]
    often = [said(20 + n, 99, event("used", ["tag:wifi"])) for n in range(ITEM_MAX + 2)]
    _, steps = play(FOLD, [], [*pairs, *often])
    last = steps[-1].outputs[-1].record
    assert isinstance(last, Recommendation)
    assert last.items[0].item == "tag:driver"


def test_a_context_without_namespaces_is_dead_lettered() -> None:
    bad = replace(event("used", ["tag:a"]), context=["no namespace"])
    _, (step,) = play(FOLD, [], [said(0, 1, bad)])
    assert [error.reason for _, error in step.dead] == ["bad-item"]


# ---------------------------------------------------------------- erasure


def test_an_erased_pseudonym_is_as_one_that_never_was() -> None:
    log = [said(n, n % 5, event("used", [f"tag:t{n % 7}"])) for n in range(40)]
    log.append(Message("aicache.usage", 0, 40, 0, name_of(3), None))
    state, steps = play(OBSERVING, [7, 23], log)
    kept = changelog(steps)
    assert name_of(3) not in state.people
    named = [key for key, value in kept.items() if name_of(3) in key or name_of(3).hex().encode() in value]
    assert named == [b"z" + name_of(3)], "for the rest of the hour, so that it teaches no more"
    assert len(state.people) == 4
    again = OBSERVING.load(0, kept.items(), OBSERVING.version)
    later = [said(41, 3, event("used", ["tag:t1"]))]
    assert OBSERVING.apply(again, Batch(0, later)) == OBSERVING.apply(state, Batch(0, later))


def test_an_erasure_makes_no_room_for_a_flood_and_is_forgotten_itself() -> None:
    gone = Message("aicache.usage", 0, 1, 0, name_of(1), None)
    log = [said(0, 1, event("used", ["tag:a"])), gone, said(2, 1, event("used", ["tag:b"])), gone._replace(offset=3)]
    state, steps = play(FOLD, [], log)
    assert state.examples == 1
    assert list(state.erased) == [name_of(1)]
    later, more = play(FOLD, [4], [*log, said(4, 2, event("used", ["tag:a"]), time_ms=TEACHING_MS)])
    assert later.erased == {}
    assert not any(name_of(1) in key for key in changelog(more))
    again = FOLD.load(0, changelog(steps).items(), FOLD.version)
    assert again.erased == state.erased


def test_an_erasure_takes_the_open_answers_with_it() -> None:
    log = [said(n, n % 2, event("used", [f"tag:t{n % 7}", f"tag:t{n % 3 + 7}"])) for n in range(40)]
    state, _ = play(OBSERVING, [], [*log, Message("aicache.usage", 0, 40, 0, name_of(1), None)])
    assert state.feedback.answers
    assert {answered.pseudonym for answered in state.feedback.answers.values()} == {name_of(0).hex()}


def test_a_tombstone_for_nobody_changes_nothing() -> None:
    _, (step,) = play(FOLD, [], [Message("aicache.usage", 0, 0, 0, name_of(3), None)])
    assert step == Step()


# ---------------------------------------------------------------- feedback through the log


def conversation(policy: Policy, rounds: int) -> list[Message]:
    """Each answer is shown, its second item taken in every third; played along, as the answers have to be known."""
    fold = Recommendations(policy)
    state, log = fold.empty(0), list[Message]()
    for n in range(20):
        log.append(said(len(log), 1_000 + n, event("used", [f"tag:t{m}" for m in range(n % 5, n % 5 + 8)])))
    fold.apply(state, Batch(0, log))
    for n in range(rounds):
        time_ms = n * 60_000
        asked = said(len(log), n, event("used", [f"tag:t{n % 3}"]), time_ms=time_ms)
        log.append(asked)
        [output] = fold.apply(state, Batch(0, [asked])).outputs[-1:]
        assert isinstance(output.record, Recommendation)
        names = [item.item for item in output.record.items]
        place = f"0/{asked.offset}"
        told = [event("shown", names, position=0, answer=place)]
        told += [event("taken", names[1:2], position=1, answer=place)] if n % 3 == 0 else []
        log.append(said(len(log), n, *told, time_ms=time_ms + 1))
        fold.apply(state, Batch(0, [log[-1]]))
    return log


@pytest.mark.parametrize("mode", [OBSERVE, ON])
def test_feedback_is_the_same_however_the_log_is_cut_and_from_the_changelog(mode: str) -> None:
    policy = Policy(mode, 0.2)
    log, fold = conversation(policy, 70), Recommendations(policy)
    whole_state, whole = play(fold, [], log)
    _, pieces = play(fold, [3, 40, 41, 100], log)
    assert [output for step in whole for output in step.outputs] == [o for step in pieces for o in step.outputs]
    assert changelog(whole) == changelog(pieces)
    again = fold.load(0, changelog(pieces).items(), fold.version)
    later = [message._replace(offset=len(log) + n, timestamp_ms=5_000_000) for n, message in enumerate(log[-30:])]
    assert fold.apply(again, Batch(0, later)) == fold.apply(whole_state, Batch(0, later))


def test_sums_are_published_for_every_few_answers_and_propensities_with_each() -> None:
    log = conversation(Policy(OBSERVE), 30 + feedback.PUBLISH_EVERY)
    _, (step,) = play(OBSERVING, [], log)
    records = [output.record for output in step.outputs]
    sums = [record for record in records if isinstance(record, FeedbackSums)]
    assert [(found.namespace, found.partition) for found in sums] == [("tag", 0)]
    matrix = np.frombuffer(sums[0].sums, dtype="<f8").reshape(TERMS, TERMS)
    assert matrix[ONE, ONE] == feedback.PUBLISH_EVERY
    answers = [record for record in records if isinstance(record, Recommendation)]
    assert any(item.propensity < 1 for item in answers[-1].items)
    assert all(0 < item.propensity <= 1 for answer in answers for item in answer.items)


def test_switched_off_answers_are_in_the_rankers_order_and_feedback_leaves_no_trace() -> None:
    log = conversation(Policy(OBSERVE), 10)
    state, (step,) = play(FOLD, [], [m._replace(timestamp_ms=m.timestamp_ms + WINDOW_MS) for m in log])
    assert state.feedback.answers == {} and state.feedback.standings == {}
    answers = [o.record for o in step.outputs if isinstance(o.record, Recommendation)]
    assert all(item.propensity == 1 for answer in answers for item in answer.items)
    scores = [[item.score for item in answer.items] for answer in answers]
    assert scores == [sorted(row, reverse=True) for row in scores]
