"""What clients are told of a model lets them ask the same parts of it as the worker does."""

import numpy as np
import pytest

from aicache.producers import scoring
from aicache.producers.tables import Tables
from aicache.schemas.records import ItemTable, ItemVectors, TableWeights
from aicache.schemas.tables import FEATURES, LENGTHS, PIECE, vectors_of, weights_of
from aicache.streams.recommendations import combination, counts
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.distilled import KEPT, NEIGHBOURS_MAX, PIECES, distil, piece, pieces_due, weights
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


def taught_in_order(people: int = 120) -> Combination:
    """Each goes through most of a group, mostly in its order."""
    model, rng = Combination(), np.random.default_rng(3)
    for _ in range(people):
        group = [item for item in GROUPS[rng.integers(4)] if rng.random() < 0.8]
        for place, item in enumerate(group):
            model.learn_one(["os:linux", *group[:place]], item)
    model.ease.solve()
    return model


MODEL, ORDERED = taught(), taught_in_order()
ATTRIBUTE = {MODEL: "language:c", ORDERED: "os:linux"}


def followed(model: Combination, partitions: int = 1) -> Tables:
    """A client that has read everything, of as many partitions that have learned the same."""
    merging, client = Merging(), Tables("d")
    state, offset = merging.empty(0), 0
    for partition in range(partitions):
        outputs = counts.rows(model, set(model.vocabulary.names), "d", partition, 400)
        outputs += counts.vectors(model, "d", partition, 400, 0)
        for output in outputs:
            message = Message(output.topic, 0, offset, 0, output.key, output.record)
            offset += 1
            for told in merging.apply(state, Batch(0, [message])).outputs:
                assert isinstance(told.record, ItemTable | ItemVectors | TableWeights)
                client.apply(told.record)
    return client


def test_a_row_counts_what_came_with_its_item_and_right_after_it() -> None:
    number, after = ORDERED.vocabulary.known(["tag:pa", "tag:pb"])
    found = distil(ORDERED, number)
    count, others, together = ORDERED.neighbours.row(number)
    assert found.count == count
    assert dict(zip(found.numbers.tolist(), found.counts.tolist(), strict=True)) == dict(
        zip(others, together.tolist(), strict=True)
    )
    assert list(found.counts) == sorted(found.counts, reverse=True)
    assert found.numbers[found.after.argmax()] == after
    assert np.allclose(found.linear, ORDERED.ease.scores([number])[found.numbers])


def test_the_row_of_an_attribute_counts_what_came_in_that_situation() -> None:
    (number,) = MODEL.vocabulary.known(["language:c"])
    found = distil(MODEL, number)
    assert {MODEL.vocabulary.names[other] for other in found.numbers} == {item for group in GROUPS for item in group}
    assert found.count == pytest.approx(float(found.counts.sum()))
    assert not found.linear.any()


def test_a_row_has_a_largest_size_and_may_be_empty() -> None:
    wide = Combination()
    for n in range(300):
        wide.learn_basket(["tag:one", f"tag:{n}"])
    assert len(distil(wide, 0).numbers) == NEIGHBOURS_MAX
    alone = Combination()
    alone.learn_basket(["tag:one"])
    assert len(distil(alone, 0).numbers) == 0


def test_pieces_are_bounded_and_every_one_has_its_turn() -> None:
    model = Combination()
    for n in range(40 * PIECE):
        model.learn_basket([f"tag:{n}"])
    due = [pieces_due(model, turn) for turn in range(8)]
    assert max(map(len, due)) <= PIECES
    assert {39, 38} <= set(due[0]), "those that came lately"
    assert {number for numbers in due for number in numbers} == set(range(40))
    assert pieces_due(Combination(), 3) == []


def test_vectors_are_those_of_the_model_up_to_half_a_step() -> None:
    record = piece(MODEL, 0, "d", 2, 400)
    assert record is not None
    assert "language:c" not in record.items
    numbers = MODEL.vocabulary.known(record.items)
    told, (read, answered, pace, bias) = vectors_of(record), MODEL.factorization.vectors(numbers)
    for found, wanted in ((told.input, read), (told.output, answered)):
        assert (np.abs(found - wanted) <= np.abs(wanted).max(axis=1, keepdims=True) / 254 + 1e-7).all()
    assert (told.bias == bias).all() and (told.pace == pace).all()
    assert np.allclose(told.counts[:, :3], MODEL.neighbours.totals(numbers))
    assert piece(MODEL, 1, "d", 2, 400) is None


def test_weights_for_a_part_of_the_features_are_the_best_where_the_others_weigh_nothing() -> None:
    """By the paraboloid that the curvature is of: no step from them is better."""
    stack = MODEL._stacks[0]
    found, best = MODEL.weights_of(KEPT), stack.weights
    assert np.allclose(MODEL.weights_of(stack.chosen.tolist()), best, atol=1e-4)
    rng = np.random.default_rng(1)
    for bucket in range(len(LENGTHS)):
        curvature = stack.curvature[bucket] + combination.PRIOR * np.eye(combination.FEATURES)

        def loss(kept: np.ndarray, at: int = bucket, curvature: np.ndarray = curvature) -> float:
            away = -best[at].astype(np.float64)
            away[list(KEPT)] += kept
            return float(away @ curvature @ away)

        least = loss(found[bucket])
        assert all(loss(found[bucket] + 0.1 * rng.normal(size=len(KEPT))) > least for _ in range(20))


def test_lengths_features_and_speeds_are_those_of_the_model() -> None:
    assert LENGTHS == combination.BUCKETS
    assert weights_of(weights(MODEL, "d", 0, 1)).shape == (len(LENGTHS), len(FEATURES))
    speeds = (*MODEL.neighbours.half_lives, *MODEL.transitions.half_lives)
    assert tuple(scoring.HALF_LIVES) == speeds
    smoothing = {part.smoothing for part in (MODEL.neighbours, MODEL.transitions)}
    assert smoothing == {float(scoring.SMOOTHING)}
    assert (MODEL.situation.prior, MODEL.situation.half_life) == (scoring.LIFT_PRIOR, scoring.HALF_LIVES[2])
    assert (MODEL.factorization.decay, MODEL.neighbours.window) == (scoring.DECAY, scoring.RECENT)
    reaches = {MODEL.factorization.window, MODEL.ease.window, MODEL.neighbours.basket, MODEL.transitions.basket}
    assert reaches == {scoring.WINDOW, scoring.BASKET}


@pytest.mark.parametrize("model", [MODEL, ORDERED], ids=["baskets", "in order"])
@pytest.mark.parametrize("partitions", [1, 2])
def test_a_client_sees_the_features_that_the_model_sees(
    model: Combination, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a byte's precision, and what it learns for itself.

    Of two partitions that have learned the same, rows are surer: less of the base rate is mixed in.
    """
    monkeypatch.setattr(scoring, "STRIDE", 0.0)
    client = followed(model, partitions)
    table = client.table()
    places = model.vocabulary.known(table.names)
    items = [at for at, name in enumerate(table.names) if name.startswith("tag:")]
    for at_hand in ([], GROUPS[0][:1], [ATTRIBUTE[model], *GROUPS[1][:4]], [*GROUPS[2][3:], GROUPS[3][1]]):
        numbers = [table.numbers[name] for name in at_hand]
        features = scoring.features_of(table, numbers, table.weighed().ordered).values
        wanted = model.features(model.vocabulary.known(at_hand))[list(KEPT)][:, places]
        vectors = FEATURES.index("vectors")
        wanted[vectors] += (features - wanted)[vectors, items].mean()  # the model leaves out what is the same for all
        away = np.abs(features - wanted)[:, items].max(axis=1)
        surer = (
            {FEATURES.index("near"), FEATURES.index("after"), FEATURES.index("situation")} if partitions > 1 else set()
        )
        assert all(away[at] < (0.8 if at in surer else 0.12) for at in range(len(FEATURES))), away


def test_what_the_row_of_an_attribute_does_not_name_is_lifted_as_the_rest() -> None:
    """Two languages with two hundred items each: a row has room for half of them."""
    model = Combination()
    for n in range(4_000):
        language = n % 2
        model.learn_basket([f"language:l{language}", f"tag:{language}-{n // 2 % 200}"])
    table = followed(model).table()
    features = scoring.features_of(table, [table.numbers["language:l1"]], 0.0).values
    lift = features[FEATURES.index("situation")] - features[FEATURES.index("slow")]
    told = table.rows[table.numbers["language:l1"]].neighbours
    named = np.isin(np.arange(len(lift)), told)
    ours = np.array([name.startswith("tag:1-") for name in table.names])
    assert len(told) == NEIGHBOURS_MAX
    assert np.ptp(lift[~named]) < 1e-4
    assert lift[named & ours].min() > lift[~named].max() > np.log(scoring.LIFT_PRIOR) + 1


def test_a_client_learns_for_itself_what_the_worker_would_learn_of_its_sequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker moves what the first item says by the same step; others it does not move."""
    monkeypatch.setattr(scoring, "STRIDE", 1.0)
    names = ["tag:pa", "tag:qe"]
    model, table = taught_in_order(), followed(ORDERED).table()
    first, second = model.vocabulary.known(names)
    factorization, partition = model.factorization, table.partitions[0]
    factorization.ordered = 1.0
    factorization._step()  # what waits
    before = factorization.vectors([first, second])[0]
    factorization.learn([first], second)
    factorization._step()
    moved = scoring._fades(2, 1.0) @ (factorization.vectors([first, second])[0] - before)
    known = partition.clocks[: len(table.names)] >= 0
    bias = np.where(known, partition.bias[: len(known)], np.float32(-np.inf))
    own = partition._own_steps([table.numbers[name] for name in names], bias, 1.0)
    assert np.linalg.norm(moved) > 0.01
    assert np.linalg.norm(own - moved) < 0.2 * np.linalg.norm(moved)  # less its own square under the root


@pytest.mark.parametrize("model", [MODEL, ORDERED], ids=["baskets", "in order"])
def test_a_client_that_follows_the_tables_ranks_much_as_the_model_does(model: Combination) -> None:
    client = followed(model)
    for group in GROUPS:
        for at_hand in (group[:1], group[:2], group[1:4]):
            wanted = set(group) - set(at_hand) if model is MODEL else {group[group.index(at_hand[-1]) + 1]}
            assert {found.item for found in client.rank(at_hand, "tag", len(wanted))} == wanted
            assert {item for item, _ in model.rank(at_hand, len(wanted))} == wanted
    assert client.rank([], "language") == []
    assert client.rank([], "tag", 3)
