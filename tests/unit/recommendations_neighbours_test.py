"""Rows of neighbours hold what a plain SpaceSaving would, and say what the formulas say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.streams.recommendations.neighbours import RATE_MIN, Neighbours

ITEMS = 12
ITEM = st.integers(0, ITEMS - 1)
EXAMPLES = st.lists(st.lists(ITEM, unique=True, max_size=7), max_size=60)


def made(*, directed: bool = False) -> Neighbours:
    ranker = Neighbours(half_lives=(4.0, 50.0), width=4, window=3, basket=5, directed=directed)
    for n in range(ITEMS):
        ranker.vocabulary.add(f"tag:{n}")
    return ranker


class Row:
    """A row as lists, one neighbour after the other."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.counts: list[float] = []

    def add(self, others: list[int], unit: float, width: int) -> None:
        for other in others:
            if other in self.ids:
                continue
            if len(self.ids) < width:
                self.ids.append(other)
                self.counts.append(0.0)
            else:
                self.ids[self.counts.index(min(self.counts))] = other
        for slot, other in enumerate(self.ids):
            self.counts[slot] += unit * (other in others)


def taught(ranker: Neighbours, examples: list[list[int]], *, sets: bool) -> list[Row]:
    """Learn sets or events, and note the same in plain rows."""
    rows = [Row() for _ in range(ITEMS)]
    for n, example in enumerate(examples):
        ranker.fade()
        unit = 2.0 ** ((n + 1) / ranker.half_lives[-1])
        if sets:
            ranker.learn_set(example)
            near = example[-ranker.basket :]
            for item in near:
                rows[item].add([other for other in near if other != item], unit, ranker.width)
        elif example:
            *context, target = example
            ranker.learn(np.array(context, dtype=np.int64) if n % 2 else context, target)
            recent = context[-ranker.window :]
            for item in recent:
                rows[item].add([target], unit, ranker.width)
            if not ranker.directed:
                rows[target].add(recent, unit, ranker.width)
    return rows


@pytest.mark.parametrize(("sets", "directed"), [(True, False), (False, False), (False, True)])
@given(examples=EXAMPLES)
def test_a_full_row_replaces_its_lightest_and_the_newcomer_inherits_its_count(
    sets: bool, directed: bool, examples: list[list[int]]
) -> None:
    ranker = made(directed=directed)
    rows = taught(ranker, examples, sets=sets)
    scale = 2.0 ** (len(examples) / ranker.half_lives[-1])
    for item, row in enumerate(rows):
        _, others, counts = ranker.row(item)
        assert others.tolist() == row.ids
        np.testing.assert_allclose(counts, np.array(row.counts) / scale, rtol=1e-5)


@given(examples=EXAMPLES, context=st.lists(ITEM, unique=True, max_size=7))
def test_features_are_smoothed_means_above_base_rates(examples: list[list[int]], context: list[int]) -> None:
    ranker = made()
    taught(ranker, examples, sets=True)
    totals = ranker.totals(range(ITEMS)).T
    base = (totals + RATE_MIN) / (totals + RATE_MIN).sum(axis=1, keepdims=True)
    arrays, recent = ranker.arrays(), context[-ranker.basket :]
    counts = arrays["counts"] / arrays["scale"][:, None, None]
    given_each = []
    for item in recent:
        together = np.zeros_like(base)
        used = arrays["used"][item]
        together[:, arrays["ids"][item, :used]] = counts[:, item, :used]
        smoothed = together + ranker.smoothing * base
        given_each.append(smoothed / (totals[:, [item]] + ranker.smoothing))
    expected = np.log(np.concatenate([np.mean(given_each, axis=0) if recent else base, base]))
    for rows in (4, 2):
        room = np.zeros((rows, 2 * ITEMS), dtype=np.float32)
        ranker.features(context, room[:, :ITEMS])
        np.testing.assert_allclose(room[:, :ITEMS], expected[:rows], rtol=1e-4, atol=1e-5)


def test_how_often_one_came_with_another_is_smoothed_towards_never() -> None:
    ranker = Neighbours(half_lives=(1e12,), smoothing=3.0)
    for n in range(10):
        ranker.learn_basket(["tag:a", "tag:b"] if n < 6 else ["tag:a", "tag:c"])
    a, b, c = ranker.vocabulary.known(["tag:a", "tag:b", "tag:c"])
    np.testing.assert_allclose(ranker.conditionals([a, b], [b, c]), [[6 / 13, 4 / 13], [0.0, 0.0]], rtol=1e-5)
    assert ranker.conditionals([], [a]).shape == (0, 1)
