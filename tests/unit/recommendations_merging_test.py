"""The second level: counts of partitions add up to those of everybody, exactly, and estimates with them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from aicache.schemas.records import (
    FeedbackSums,
    ItemCount,
    ItemTable,
    ItemVectors,
    Lift,
    Record,
    TableWeights,
    UsageBatch,
    UsageEvent,
)
from aicache.schemas.tables import FEATURES, LENGTHS, PARTITIONS_MAX
from aicache.streams.recommendations import counts, telling
from aicache.streams.recommendations import state as state_module
from aicache.streams.recommendations.logic import Recommendations
from aicache.streams.recommendations.merging import (
    AFTER_HALF_LIFE,
    HALF_LIFE,
    Merging,
    merged,
    merged_after,
    merged_linear,
)
from aicache.streams.recommendations.neighbours import Neighbours
from aicache.streams.recommendations.off_policy import ANSWERS_MIN, TERMS, Outcome, terms
from aicache.streams.runtime.contract import Batch, Message, Step
from support.folds import changelog, play

FOLD = Merging()
BAD = ("counts", "sums", "item", "vectors", "weights")


def row(item: str, partition: int, clock: int, count: float, **neighbours: float) -> ItemCount:
    names = [f"tag:{name}" for name in neighbours]
    return ItemCount("test", item, partition, clock, count, names, np.array([*neighbours.values()], "<f4").tobytes())


def with_linear(record: ItemCount, *weights: float) -> ItemCount:
    return replace(record, linear=np.array(weights, "<f4").tobytes())


def with_after(record: ItemCount, count: float, *counts: float) -> ItemCount:
    return replace(record, after=np.array(counts, "<f4").tobytes(), after_count=count)


def vectors(partition: int, **changes: object) -> ItemVectors:
    floats = np.ones(8, "<f4").tobytes()  # two items, four numbers each
    good = ItemVectors("test", partition, 0, 5, ["tag:a", "tag:b"], b"12", b"34", floats[:24], floats[:8], floats)
    return replace(good, **changes)


def weighing(partition: int, **changes: object) -> TableWeights:
    weights = np.ones((len(LENGTHS), len(FEATURES)), "<f4").tobytes()
    return replace(TableWeights("test", partition, 5, 0.5, False, weights), **changes)


def sums(partition: int, answers: int, taken: Sequence[int], shown: Sequence[int] = (1, 0)) -> FeedbackSums:
    """So many answers whose second item the bandit would have put first, and did in all of them."""
    matrix = np.zeros((TERMS, TERMS))
    for n in range(answers):
        outcome = Outcome(shown, [0.5, 0.5], [1, 0], 2, [0] if n in taken else [])
        added = terms(outcome, lambda _rank, _at: 0.1)
        matrix += np.outer(added, added)
    return FeedbackSums("test", "tag", partition, 1_000 + partition, matrix.tobytes())


def log(*records: Record) -> list[Message]:
    return [Message("aicache.counts", 0, offset, 0, b"", record) for offset, record in enumerate(records)]


def last(steps: Sequence[Step], kind: type) -> Record | None:
    return [output.record for step in steps for output in step.outputs if isinstance(output.record, kind)][-1]


def test_rows_of_partitions_add_up() -> None:
    state, steps = play(FOLD, [], log(row("tag:a", 0, 10, 7.0, b=4.0, c=1.0), row("tag:a", 3, 99, 10.0, b=1.0, d=6.0)))
    total, weights = merged(state, "tag:a")
    assert total == 17.0
    assert {name: round(weight * 17, 6) for name, weight in weights.items()} == {"tag:b": 5, "tag:c": 1, "tag:d": 6}
    table = last(steps, ItemTable)
    assert isinstance(table, ItemTable)
    assert table.neighbours == ["tag:d", "tag:b", "tag:c"]
    assert table.popularity == 1.0


def test_linear_weights_are_averaged_by_how_often_the_item_came() -> None:
    """Where a partition does not name a neighbour it has no weight there."""
    first, second = row("tag:a", 0, 10, 6.0, b=1.0, c=1.0), row("tag:a", 1, 10, 2.0, b=1.0)
    state, steps = play(
        FOLD, [], log(with_linear(first, 0.4, -0.2), with_linear(second, 0.8), row("tag:a", 2, 10, 0.0))
    )
    assert merged_linear(state, "tag:a") == pytest.approx({"tag:b": 0.5, "tag:c": -0.15})
    table = last(steps, ItemTable)
    assert isinstance(table, ItemTable)
    assert [round(table.linear_low + table.linear_scale * level / 255, 2) for level in table.linear] == [0.5, -0.15]


def test_what_came_right_after_adds_up_and_fades_faster() -> None:
    first = with_after(row("tag:a", 0, 10, 6.0, b=1.0, c=1.0), 6.0, 0.0, 3.0)
    second = with_after(row("tag:a", 1, 10, 2.0, d=1.0), 4.0, 2.0)
    later = row("tag:x", 1, 10 + int(AFTER_HALF_LIFE), 1.0)
    state, steps = play(FOLD, [], log(first, second, later, first))
    total, weights = merged_after(state, "tag:a")
    assert total == pytest.approx(6.0 + 2.0)
    assert weights == pytest.approx({"tag:c": 3 / 8, "tag:d": 1 / 8})
    table = last(steps, ItemTable)
    assert isinstance(table, ItemTable)
    told = {name: table.after_scale * level / 255 for name, level in zip(table.neighbours, table.after, strict=True)}
    assert told == pytest.approx({"tag:b": 0.0, "tag:c": 3 / 8, "tag:d": 1 / 8}, abs=1e-3)
    assert (table.count, table.after_count) == (pytest.approx(merged(state, "tag:a")[0]), pytest.approx(total))


def test_vectors_and_weights_of_the_first_partitions_are_handed_on_as_they_are() -> None:
    far = PARTITIONS_MAX
    told = [vectors(0), vectors(far - 1), vectors(far), weighing(0), weighing(far)]
    state, (step,) = play(FOLD, [], log(*told))
    assert [output.record for output in step.outputs] == [vectors(0), vectors(far - 1), weighing(0)]
    assert (step.changed, step.dead, state) == ({}, [], FOLD.empty(0))


def test_a_state_of_the_version_before_is_read() -> None:
    key = b"r" + bytes(2) + b"tag:a"
    value = b'[10, 7.0, ["tag:b"], "%s", ""]' % np.array([4.0], "<f4").tobytes().hex().encode()
    state = FOLD.load(0, [(key, value), (b"t", b"7.0")], 1)
    assert merged(state, "tag:a") == (7.0, {"tag:b": 4 / 7})
    assert merged_after(state, "tag:a") == (0.0, {})


def test_a_row_that_comes_again_replaces_what_its_partition_said_before() -> None:
    state, _ = play(FOLD, [], log(row("tag:a", 0, 10, 7.0, b=4.0), row("tag:a", 0, 20, 9.0, c=5.0)))
    assert merged(state, "tag:a")[0] == 9.0
    assert set(merged(state, "tag:a")[1]) == {"tag:c"}
    assert state.total == 9.0


def test_a_row_fades_by_the_examples_that_its_own_partition_has_learned_since() -> None:
    later = row("tag:b", 0, 10 + int(HALF_LIFE), 1.0)
    state, _ = play(FOLD, [], log(row("tag:a", 0, 10, 8.0, b=4.0), row("tag:a", 1, 10, 8.0, b=4.0), later))
    assert merged(state, "tag:a")[0] == pytest.approx(4.0 + 8.0)


def test_batches_cut_in_other_places_and_the_changelog_give_the_same() -> None:
    random = np.random.default_rng(1)
    rows = [row(f"tag:{n % 5}", n % 4, n, float(random.random()), a=float(random.random()), b=1.5) for n in range(60)]
    told = log(*rows, sums(0, 200, range(50)), sums(1, 300, range(60)))
    _, whole = play(FOLD, [], told)
    state, pieces = play(FOLD, [1, 2, 30, 61], told)
    assert [o for step in whole for o in step.outputs] == [o for step in pieces for o in step.outputs]
    assert changelog(whole) == changelog(pieces)
    again = FOLD.load(0, changelog(whole).items(), FOLD.version)
    later = [Message("aicache.counts", 0, 100, 0, b"", record) for record in (*rows[:7], sums(2, 150, [1]))]
    assert FOLD.apply(again, Batch(0, later)) == FOLD.apply(state, Batch(0, later))


def test_estimates_are_those_of_all_answers_together() -> None:
    _, steps = play(FOLD, [], log(sums(0, 80, range(20)), sums(1, 80, range(10), (0, 1))))
    found = last(steps, Lift)
    assert isinstance(found, Lift)
    assert (found.answers, found.taken, found.time_s) == (160, 30 / 160, 1_001)
    assert [estimate.estimator for estimate in found.estimates] == ["ips", "self-normalised", "doubly-robust"]
    ips = found.estimates[0]
    assert ips.bandit == pytest.approx(2 * 20 / 160)
    assert ips.ranker == pytest.approx(2 * 10 / 160)
    assert ips.watched_low < ips.low < ips.lift < ips.high < ips.watched_high


def test_too_few_answers_are_told_without_an_estimate() -> None:
    _, steps = play(FOLD, [], log(sums(0, ANSWERS_MIN - 1, [1])))
    found = last(steps, Lift)
    assert isinstance(found, Lift)
    assert (found.answers, found.estimates) == (ANSWERS_MIN - 1, [])


def test_attributes_of_a_situation_have_neighbours_and_no_popularity() -> None:
    _, (step,) = play(FOLD, [], log(row("tag:a", 0, 10, 5.0), row("language:c", 0, 10, 9.0, a=3.0)))
    tables = [output.record for output in step.outputs if isinstance(output.record, ItemTable)]
    assert [(table.item, table.popularity) for table in tables] == [("tag:a", 1.0), ("language:c", 0.0)]


@pytest.mark.parametrize(
    "bad",
    [
        ItemCount("test", "tag:a", 0, 1, 1.0, ["tag:b"], b""),
        ItemCount("test", "a", 0, 1, 1.0, [], b""),
        row("tag:a", 0, 1, 1.0, b=float("nan")),
        row("tag:a", 0, 1, 1.0, b=-1.0),
        with_linear(row("tag:a", 0, 1, 1.0, b=1.0), 1.0, 2.0),
        with_linear(row("tag:a", 0, 1, 1.0, b=1.0), float("inf")),
        with_after(row("tag:a", 0, 1, 1.0, b=1.0), 1.0, 1.0, 2.0),
        with_after(row("tag:a", 0, 1, 1.0, b=1.0), 1.0, -1.0),
        with_after(row("tag:a", 0, 1, 1.0, b=1.0), float("nan"), 1.0),
        vectors(0, items=[]),
        vectors(0, items=["tag:a", "tag:a"]),
        vectors(0, items=["tag:a", "tag:" + "x" * 2_000]),
        vectors(0, piece=-1),
        vectors(0, output=b"3"),
        vectors(0, bias=np.array([1.0, np.nan], "<f4").tobytes()),
        vectors(0, scales=np.full(6, -1.0, "<f4").tobytes()),
        weighing(0, weights=bytes(8)),
        weighing(0, weights=np.full((len(LENGTHS), len(FEATURES)), np.inf, "<f4").tobytes()),
        weighing(0, ordered=1.5),
        FeedbackSums("test", "tag", 0, 1, bytes(8)),
        FeedbackSums("test", "tag", 0, 1, np.full((TERMS, TERMS), np.inf).tobytes()),
    ],
    ids=[
        *("missing", "no namespace", "nan", "negative", "linear weights", "infinite weight"),
        *("what came after", "negative after", "count after", "no items", "an item twice", "a long name", "no piece"),
        *("other vectors", "bias", "scales", "few weights", "infinite weights", "ordered", "size", "infinite"),
    ],
)
def test_what_no_partition_publishes_is_dead_lettered_and_changes_nothing(bad: Record) -> None:
    state, (step,) = play(FOLD, [], log(bad))
    assert [error.reason for _, error in step.dead] in [[f"bad-{what}"] for what in BAD]
    assert (step.outputs, step.changed) == ([], {})
    assert (state.rows, state.sums) == ({}, {})


def test_half_lives_are_those_of_the_model() -> None:
    assert Neighbours().half_lives[-1] == HALF_LIFE


# ---------------------------------------------------------------- both levels


def usage(offset: int, who: int, *items: str) -> Message:
    event = UsageEvent("used", 1_700_000_000, list(items), [], "", 1, b"", -1, 0.0)
    record = UsageBatch("test", who.to_bytes(16, "big"), 1, 0, "python", "", "", "", "", [event])
    return Message("aicache.usage", 0, offset, 0, b"", record)


def crowd(seed: int, people: int) -> list[Message]:
    random = np.random.default_rng(seed)
    picks = [random.choice(12, 3, replace=False).tolist() for _ in range(people)]
    return [usage(n, 1_000 * seed + n, *[f"tag:t{item}" for item in pick]) for n, pick in enumerate(picks)]


def vectors_of(steps: Sequence[Step]) -> list[Record]:
    return [
        output.record
        for step in steps
        for output in step.outputs
        if isinstance(output.record, ItemVectors | TableWeights)
    ]


def published(steps: Sequence[Step]) -> list[ItemCount]:
    return [output.record for step in steps for output in step.outputs if isinstance(output.record, ItemCount)]


def test_tables_of_two_partitions_are_nearly_those_of_one_that_saw_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to fading, and to what half of the people teach a model less well."""
    monkeypatch.setattr(counts, "is_due", lambda examples, published: examples == published + 100)
    fold = Recommendations()
    parts = [crowd(1, 100), crowd(2, 100)]
    rows = []
    for partition, part in enumerate(parts):
        rows += published([fold.apply(fold.empty(partition), Batch(partition, part))])
    state, _ = play(FOLD, [], log(*rows))
    monkeypatch.setattr(counts, "is_due", lambda examples, published: examples == published + 200)
    alone, _ = play(FOLD, [], log(*published([fold.apply(fold.empty(0), Batch(0, [*parts[0], *parts[1]]))])))
    assert set(state.rows) == set(alone.rows)
    assert sum(merged(state, "language:python")[1].values()) == pytest.approx(1.0)
    for item in state.rows:
        count, weights = merged(state, item)
        expected_count, expected = merged(alone, item)
        assert count == pytest.approx(expected_count, rel=0.01)
        assert all(abs(weights.get(name, 0.0) - weight) < 0.05 for name, weight in expected.items())


def test_rows_come_again_after_a_restart_as_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a snapshot falls between two publications; and vectors with them."""
    monkeypatch.setattr(state_module, "SNAPSHOT_EVERY", 70)
    monkeypatch.setattr(counts, "PERIOD_MS", 0)
    monkeypatch.setattr(counts, "VECTORS_EVERY", 20)
    fold, told = Recommendations(), crowd(1, 160)
    state, steps = play(fold, [30], told[:130])
    again = fold.load(0, changelog(steps).items(), fold.version)
    assert again.touched == state.touched
    after, without = (fold.apply(known, Batch(0, told[130:])) for known in (again, state))
    assert published([after]) == published([without])
    assert vectors_of([after]) == vectors_of([without])
    assert len(published(steps)) > 12
    assert {type(record) for record in vectors_of(steps)} == {ItemVectors, TableWeights}


def test_vectors_are_told_every_so_many_examples_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    every = counts.VECTORS_EVERY
    for period_ms, wanted in ((0, [every, 2 * every]), (5_000, [every])):  # all messages bear the same time
        monkeypatch.setattr(counts, "PERIOD_MS", period_ms)
        _, steps = play(Recommendations(), [every], crowd(1, 2 * every + 1))
        assert [record.clock for record in vectors_of(steps) if isinstance(record, TableWeights)] == wanted


def test_a_publication_is_bounded_and_no_item_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """One item is touched all the time, others once."""
    monkeypatch.setattr(telling, "ROWS_MAX", 4)
    monkeypatch.setattr(counts, "PERIOD_MS", 0)
    monkeypatch.setattr(counts, "FIRST", 10)
    log = [usage(n, n, "tag:often", f"tag:once{min(n, 15)}") for n in range(100)]
    fold = Recommendations()
    state, steps = play(fold, [33], log)
    rows = published(steps)
    assert max(Counter(row.clock for row in rows).values()) == 4
    assert {f"tag:once{n}" for n in range(16)} < {row.item for row in rows}
    again = fold.load(0, changelog(steps).items(), fold.version)
    assert list(again.touched.items()) == list(state.touched.items())


def test_publications_wait_for_the_logs_time_however_fast_examples_come() -> None:
    fast = [message._replace(timestamp_ms=n * 20) for n, message in enumerate(crowd(1, 900))]
    _, steps = play(Recommendations(), [400], fast)
    times = sorted({row.clock for row in published(steps)})
    assert times == [50, 300, 550, 800]
    slow = [message._replace(timestamp_ms=n * 1_000) for n, message in enumerate(fast[:300])]
    _, steps = play(Recommendations(), [], slow)
    assert sorted({row.clock for row in published(steps)}) == [50, 100, 150, 200, 250, 300]


def test_publications_are_frequent_at_first_and_rarer_later() -> None:
    due, published_at = [], 0
    for examples in range(200_000):
        if counts.is_due(examples, published_at):
            due.append(examples)
            published_at = examples
    assert due[:4] == [50, 100, 150, 200]
    assert max(np.diff(due)) == counts.EVERY
