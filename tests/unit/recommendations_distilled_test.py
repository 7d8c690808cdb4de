"""Rows for clients say what the whole model says of single items."""

import numpy as np
import pytest

from aicache.producers.tables import Tables
from aicache.schemas.records import ItemTable
from aicache.streams.recommendations import counts
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.distilled import NEIGHBOURS_MAX, distil
from aicache.streams.recommendations.merging import Merging
from aicache.streams.runtime.contract import Batch, Message

GROUPS = [[f"tag:{group}{letter}" for letter in "abcdef"] for group in "pqrs"]


def taught(baskets: int = 400) -> Combination:
    model, rng = Combination(), np.random.default_rng(2)
    for _ in range(baskets):
        group = GROUPS[rng.integers(4)]
        model.learn_basket(["language:c", *rng.choice(group, 3, replace=False).tolist()])
    model.ease.solve()
    return model


MODEL = taught()


def test_a_row_is_the_models_answer_to_its_item_alone() -> None:
    number = MODEL.vocabulary.known(["tag:pa"])[0]
    found = distil(MODEL, number)
    names = [MODEL.vocabulary.names[other] for other in found.numbers]
    assert names[:5] == [name for name, _ in MODEL.rank(["tag:pa"], 5)]
    assert set(names[:5]) == set(GROUPS[0]) - {"tag:pa"}
    assert "language:c" not in names
    assert found.probabilities.sum() == pytest.approx(1.0)
    assert list(found.probabilities) == sorted(found.probabilities, reverse=True)
    assert np.allclose(found.linear, MODEL.ease.scores([number])[found.numbers])


def test_a_row_has_a_largest_size_and_may_be_empty() -> None:
    wide = Combination()
    for n in range(300):
        wide.learn_basket(["tag:one", f"tag:{n}"])
    assert len(distil(wide, 0).numbers) == NEIGHBOURS_MAX
    alone = Combination()
    alone.learn_basket(["tag:one"])
    assert len(distil(alone, 0).numbers) == 0


def test_a_client_that_follows_the_tables_ranks_much_as_the_model_does() -> None:
    merging, client = Merging(), Tables("d")
    state = merging.empty(0)
    outputs = counts.rows(MODEL, set(MODEL.vocabulary.names), "d", 0, 400)
    told = [Message(o.topic, 0, offset, 0, o.key, o.record) for offset, o in enumerate(outputs)]
    for output in merging.apply(state, Batch(0, told)).outputs:
        assert isinstance(output.record, ItemTable)
        client.apply(output.record)
    for group in GROUPS:
        for at_hand in (group[:1], group[:2], group[1:4]):
            wanted = set(group) - set(at_hand)
            assert {found.item for found in client.rank(at_hand, "tag", len(wanted))} == wanted
            assert {item for item, _ in MODEL.rank(at_hand, len(wanted))} == wanted
    assert client.rank([], "language") == []
