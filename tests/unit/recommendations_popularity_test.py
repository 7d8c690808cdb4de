"""Lifts in a situation are those of plain counts, and the lightest attribute makes room."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.explain import REASONS_MAX, WEIGHT_MIN, reasons
from aicache.streams.recommendations.popularity import RATE_MIN, ContextPopularity

ITEMS, ATTRIBUTES = 8, 5
EXAMPLE = st.tuples(
    st.lists(st.integers(ITEMS, ITEMS + ATTRIBUTES - 1), unique=True, max_size=3),
    st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=4),
)


def made(*, attributes: int = 512) -> ContextPopularity:
    ranker = ContextPopularity(half_life=20.0, prior=2.0, attributes=attributes)
    for n in range(ITEMS + ATTRIBUTES):
        ranker.vocabulary.add(f"{'tag' if n < ITEMS else 'language'}:{n}")
    return ranker


@given(
    examples=st.lists(EXAMPLE, max_size=30), situation=st.lists(st.integers(ITEMS, ITEMS + ATTRIBUTES - 1), unique=True)
)
def test_rates_are_multiplied_by_the_lift_with_each_attribute(
    examples: list[tuple[list[int], list[int]]], situation: list[int]
) -> None:
    ranker = made()
    counts = np.zeros((ITEMS + ATTRIBUTES + 1, ITEMS + ATTRIBUTES))  # the last row is of everything
    for n, (attributes, items) in enumerate(examples):
        ranker.fade()
        ranker.count(attributes, np.array(items, dtype=np.int64) if n % 2 else items)
        counts *= 0.5 ** (1 / 20)
        counts[np.ix_([*attributes, -1], items)] += 1.0
    share = (counts[-1] + RATE_MIN) / (counts[-1] + RATE_MIN).sum()
    lifts = [2.0 + counts[attribute] / share for attribute in situation if counts[attribute].any()]
    scores = ranker.scores(situation)
    expected = np.log(share) + np.sum(np.log(lifts), axis=0)
    np.testing.assert_allclose(scores - scores.mean(), expected - expected.mean(), rtol=1e-3, atol=1e-4)


def test_a_new_attribute_takes_the_place_of_the_lightest_and_inherits_nothing() -> None:
    ranker = made(attributes=2)
    for attribute, item, times in ((8, 0, 3), (9, 1, 2), (10, 2, 1)):
        for _ in range(times):
            ranker.count([attribute], [item])
    assert ranker.arrays()["attributes"].tolist() == [8, 10]
    total, numbers, counts = ranker.row(10)
    assert (total, numbers.tolist(), counts.tolist()) == (1.0, [2], [1.0])
    assert ranker.row(9)[1].tolist() == []
    ranker.forget(np.array([0, 8]))
    assert ranker.arrays()["attributes"].tolist() == [10]
    assert ranker.row(10)[1].tolist() == [2]
    assert ranker.arrays()["all"][:3].tolist() == [0.0, 2.0, 1.0]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_reasons_of_an_item_are_what_it_came_with_most_often(count: int) -> None:
    model = Combination()
    at_hand = [f"tag:{n}" for n in range(count)]
    for n, name in enumerate(at_hand):
        for _ in range(4 * (n + 1)):
            model.learn_basket([name, "tag:wanted"])
            model.learn_basket([name, f"tag:other{n}"])
        model.learn_basket([name, "tag:same"])
    for _ in range(200):
        model.learn_basket(["tag:alone", "tag:apart"])
    found = reasons(model, ["tag:wanted", "tag:never", "tag:apart"], [*at_hand, "tag:unknown", at_hand[0]])
    assert [other for other, _ in found[0]] == at_hand[::-1][:REASONS_MAX]
    assert all(1 >= weight >= WEIGHT_MIN for _, weight in found[0])
    assert found[1:] == [[], []]
    assert reasons(model, ["tag:wanted"], []) == [[]]
    assert reasons(model, [], at_hand) == []
