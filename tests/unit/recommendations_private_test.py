"""Tables solved from private sums: planned within the budget, versioned, written where they changed, the same again on a replay."""

from dataclasses import replace

import numpy as np
import pytest

from aicache.privacy import accounting
from aicache.privacy.errors import LocalError
from aicache.privacy.quantize import sensitivity
from aicache.schemas import topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Aggregate, ItemTable
from aicache.streams.recommendations import private, tables
from aicache.streams.runtime.contract import Batch, Message, Step
from support.pairs import BASKETS, LABELS, aggregate, declared

FOLD = private.PrivateTables()


def message(record: Aggregate, offset: int) -> Message:
    return Message(topics.AGGREGATES.name, 0, offset, 0, b"", record)


def played(*batches: list[Aggregate]) -> list[Step]:
    state = FOLD.empty(0)
    return [FOLD.apply(state, Batch(0, [message(record, n) for n, record in enumerate(batch)])) for batch in batches]


def rows(step: Step) -> list[ItemTable]:
    return [output.record for output in step.outputs if isinstance(output.record, ItemTable)]


def test_an_opened_sum_becomes_a_row_a_label_with_its_guarantee() -> None:
    (step,) = played([aggregate(declared())])
    assert [row.item for row in rows(step)] == LABELS
    for number, row in enumerate(rows(step)):
        assert set(row.neighbours[:3]) == set(LABELS[number // 4 * 4 : number // 4 * 4 + 4]) - {row.item}
        assert row.guarantee is not None
        assert row.guarantee.epsilon == pytest.approx(4.0, rel=1e-3)
        assert (row.task, row.version) == ("together", 1)
    assert step.outputs[0].key == b"together\0pypi:0"


def test_only_rows_that_changed_are_written_again_and_labels_that_are_gone_are_deleted() -> None:
    task = declared()
    first, again, third = played(
        [aggregate(task)],
        [replace(aggregate(task), number=2)],
        [aggregate(replace(task, labels=LABELS[:8], length=36), 3, BASKETS[:800])],
    )  # fmt: skip
    assert len(first.outputs) == 12
    assert not again.outputs
    assert {output.key for output in third.outputs if output.record is None} == {
        tables.key_of(label, "together") for label in LABELS[8:]
    }


def test_a_replay_from_the_changelog_gives_the_same_tables_bit_for_bit() -> None:
    task = declared()
    batches = [[aggregate(task)], [aggregate(task, 2)], [aggregate(task, 3, BASKETS[:800])]]
    whole, state, log = played(*batches), FOLD.empty(0), {}
    for batch, expected in zip(batches, whole, strict=True):
        state = FOLD.load(0, list(log.items()), FOLD.version)
        step = FOLD.apply(state, Batch(0, [message(record, n) for n, record in enumerate(batch)]))
        assert [(o.key, o.record and Codec().encode(o.record)) for o in step.outputs] == [
            (o.key, o.record and Codec().encode(o.record)) for o in expected.outputs
        ]
        log.update(step.changed)
    with pytest.raises(LocalError, match="another version"):
        FOLD.load(0, [], 3)


def test_the_state_of_the_first_version_is_read_without_its_tasks() -> None:
    state, log = FOLD.empty(0), {}
    log.update(FOLD.apply(state, Batch(0, [message(aggregate(declared()), 0)])).changed)
    assert FOLD.load(0, [(b"ttogether", Codec().encode(declared())), *log.items()], 1) == state


def test_a_sum_is_trusted_as_far_as_its_noise_and_an_older_one_as_its_guarantee_says() -> None:
    told = aggregate(declared())
    older = replace(told, sigma=0.0)
    assert np.array_equal(
        private.solve_aggregate(older).weights,
        private.solve_aggregate(replace(told, sigma=told.guarantee.sigma)).weights,
    )
    assert not np.array_equal(private.solve_aggregate(older).weights, private.solve_aggregate(told).weights)


def test_sums_of_other_kinds_are_passed_over_and_bad_ones_are_dead_letters() -> None:
    good = aggregate(declared())
    other = replace(good, kind="histogram")
    cut, empty, upside_down = replace(good, sum=good.sum[8:]), replace(good, n=0), replace(good, scale=-1.0)
    (step,) = played([other, cut, empty, upside_down, replace(good, sigma=-1.0)])
    assert [error.reason for _, error in step.dead] == ["length", "bad-sum", "bad-sum"]
    assert not step.outputs


def test_a_vocabulary_round_and_a_round_of_pairs_cost_what_was_asked_for_together() -> None:
    spent = []
    for multiplier, length in zip(private.multipliers(4.0, 1e-6), (3_029, 200 * 201 // 2), strict=True):
        bound = sensitivity(private.CLIP, private.SCALE, length)
        spent.append(
            accounting.round_guarantee(
                noise="committee", sensitivity=bound, sigma=multiplier * bound, members=5, threshold=3, honest=0,
                length=length, delta=1e-6,
            ).rdp
        )  # fmt: skip
    assert accounting.epsilon_from_rdp(np.sum(spent, axis=0), 1e-6) == pytest.approx(4.0, abs=1e-3)


def test_the_vocabulary_is_what_stands_out_of_the_noise_most_frequent_first() -> None:
    counts = np.array([5.0, 100.0, -40.0, 31.0, 29.0])
    assert private.vocabulary(list("abcde"), counts, 10.0) == ["b", "d"]
    with pytest.raises(LocalError):
        private.vocabulary(["a"], counts, 10.0)


def test_a_row_keeps_what_is_farthest_from_zero_and_is_off_by_half_a_step() -> None:
    rng = np.random.default_rng(1)
    weights = {f"n{k}": float(w) for k, w in enumerate(rng.normal(size=300))}
    row = tables.encode_row("d", "i", 1, 0.1, weights)
    back = {name: row.low + row.scale * level / 255 for name, level in zip(row.neighbours, row.weights, strict=True)}
    assert len(back) == tables.NEIGHBOURS_MAX
    assert all(abs(weights[name] - value) <= row.scale / 255 / 2 + 1e-12 for name, value in back.items())
    assert min(abs(weights[name]) for name in back) >= max(abs(w) for name, w in weights.items() if name not in back)
    assert list(back.values()) == sorted(back.values(), reverse=True)


def test_a_row_fits_its_topic_whatever_the_names_and_may_be_empty() -> None:
    long = tables.encode_row("d", "i", 1, 0.1, {f"{k:05}" + "x" * 2_000: 1.0 for k in range(500)})
    assert len(Codec().encode(long)) < topics.TABLES.record_bytes_max
    assert tables.encode_row("d", "i", 1, 0.1, {}).neighbours == []
    assert tables.encode_row("d", "i", 1, 0.1, {"a": 0.0}).neighbours == []
    with pytest.raises(LocalError):
        tables.encode_row("d", "i", 1, 0.1, {"a": float("nan")})
