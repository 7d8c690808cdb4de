"""What every estimator of recommendations keeps to: one suite for all, and River's own checks where they apply."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from river.checks import common

from aicache.privacy.errors import LocalError
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.ease import Ease
from aicache.streams.recommendations.factorization import Factorization
from aicache.streams.recommendations.neighbours import Neighbours
from aicache.streams.recommendations.popularity import ContextPopularity
from aicache.streams.recommendations.ranker import CONTEXT_MAX, Ranker
from aicache.streams.recommendations.sessions import SessionNeighbours
from aicache.streams.recommendations.snapshot import pack, unpack
from aicache.streams.recommendations.solving import LinearWeights, Solving, solve
from aicache.streams.recommendations.vocabulary import Vocabulary

MAKERS: dict[str, Callable[[], Ranker]] = {
    "neighbours": lambda: Neighbours(width=16),
    "transitions": lambda: Neighbours(half_lives=(5_000.0,), width=16, window=1, directed=True),
    "factorization": lambda: Factorization(dimension=8),
    "ease": lambda: Ease(width=48),
    "sessions": lambda: SessionNeighbours(sessions=128, postings=32, nearest=16, length=8),
    "popularity": ContextPopularity,
    "combination": lambda: Combination(
        neighbours=Neighbours(width=16),
        transitions=Neighbours(half_lives=(5_000.0,), width=16, window=1, directed=True),
        factorization=Factorization(dimension=8),
        ease=Ease(width=48),
        sessions=SessionNeighbours(sessions=128, postings=32, nearest=16, length=8),
    ),
}
RIVER_CHECKS = {
    "check_repr",
    "check_str",
    "check_tags",
    "check_clone_same_class",
    "check_clone_is_idempotent",
    "check_init_has_default_params_for_tests",
    "check_init_default_params_are_not_mutable",
    "check_doc",
    "check_clone_changes_memory_addresses",
    "check_mutate_can_be_idempotent",
    "check_repr_roundtrips_clone",
    "check_clone_with_new_params_applies",
    "check_get_params_matches_signature",
}
"""All that need neither a data set of features nor pickles."""
FOLLOWING = [name for name in MAKERS if name != "popularity"]
"""Those that look at the items at hand."""


@pytest.fixture(params=MAKERS)
def ranker(request: pytest.FixtureRequest) -> Ranker:
    return MAKERS[request.param]()


def stream(count: int, start: int = 0, items: int = 40) -> Iterator[tuple[list[str], list[str]]]:
    """Baskets and events: what is at hand, and the target where there is one."""
    for n in range(start, start + count):
        names = [f"tag:t{(n * factor + n // 7) % items}" for factor in (1, 3, 7)]
        attributes = [f"language:{('python', 'rust')[n % 2]}", "os:linux"]
        yield (attributes + names, []) if n % 3 else (attributes + names[:2], [names[2]])


def teach(ranker: Ranker, examples: Iterator[tuple[list[str], list[str]]]) -> None:
    for context, target in examples:
        if target:
            ranker.learn_one(context, target[0])
        else:
            ranker.learn_basket(context)


def state(ranker: Ranker) -> bytes:
    return pack({**ranker.vocabulary.arrays(), **ranker.arrays()})


def test_nothing_learned_means_nothing_recommended(ranker: Ranker) -> None:
    assert ranker.rank([]) == []
    assert ranker.rank(["tag:never", "language:python"]) == []


@pytest.mark.parametrize("name", FOLLOWING)
@pytest.mark.parametrize("ordered", [False, True])
def test_what_came_together_is_recommended_together(name: str, ordered: bool) -> None:
    ranker = MAKERS[name]()
    pairs = [("tag:wifi", "tag:driver"), ("tag:boot", "tag:grub"), ("tag:sound", "tag:alsa")]
    for n in range(150):
        first, second = pairs[n % 3]
        if ordered:
            ranker.learn_one([first], second)
        else:
            ranker.learn_basket([first, second])
    if ordered or name != "transitions":
        assert [ranker.predict_one([first], k=1) for first, _ in pairs] == [[second] for _, second in pairs]


def test_unknown_items_are_passed_over(ranker: Ranker) -> None:
    teach(ranker, stream(60))
    assert ranker.rank(["tag:never", "pypi:neither"]) == ranker.rank([])
    assert ranker.rank(["tag:never", "tag:t3"]) == ranker.rank(["tag:t3"])


def test_an_unknown_namespace_has_no_answer_and_a_new_one_needs_no_setting(ranker: Ranker) -> None:
    teach(ranker, stream(60))
    assert ranker.rank(["tag:t3"], namespaces=["npm"]) == []
    for _ in range(30):
        ranker.learn_basket(["tag:t3", "npm:left-pad", "language:javascript"])
    assert ranker.rank(["tag:t3"], namespaces=["npm"])[0][0] == "npm:left-pad"
    assert all(item.startswith("tag:") for item, _ in ranker.rank(["npm:left-pad"], namespaces=["tag"]))


def test_attributes_of_a_situation_and_items_at_hand_or_seen_are_not_recommended(ranker: Ranker) -> None:
    teach(ranker, stream(60))
    ranked = [item for item, _ in ranker.rank(["tag:t3", "os:linux"], k=100, seen=["tag:t4"])]
    assert len(ranked) == len(set(ranked)) == 38
    assert all(item.startswith("tag:") for item in ranked)
    assert not {"tag:t3", "tag:t4"} & set(ranked)


def test_scores_are_finite_one_for_each_name_and_the_same_when_asked_again(ranker: Ranker) -> None:
    teach(ranker, stream(90))
    for context in ([], [5], [5, 5, 7], list(range(len(ranker.vocabulary)))):
        scores = ranker.scores(context)
        assert scores.shape == (len(ranker.vocabulary),)
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(ranker.scores(context), scores)


def test_the_same_examples_give_the_same_bits(ranker: Ranker) -> None:
    again = ranker.clone()
    for each in (ranker, again):
        teach(each, stream(150))
    assert state(ranker) == state(again)


@pytest.mark.parametrize("at", [0, 1, 70])
def test_a_ranker_that_is_restored_goes_on_as_if_nothing_had_happened(ranker: Ranker, at: int) -> None:
    teach(ranker, stream(at))
    again = ranker.clone()
    arrays = unpack(state(ranker))
    again.vocabulary.restore(arrays)
    again.restore(arrays)
    for each in (ranker, again):
        teach(each, stream(90, start=at))
    assert again.rank(["tag:t3", "language:rust"], k=40) == ranker.rank(["tag:t3", "language:rust"], k=40)


def test_a_clone_has_the_parameters_but_nothing_that_was_learned(ranker: Ranker) -> None:
    teach(ranker, stream(60))
    before = state(ranker)
    clone = ranker.clone()
    assert clone.rank(["tag:t3"]) == []
    assert repr(clone) == repr(ranker)
    teach(clone, stream(30, start=60))
    assert state(ranker) == before


def test_memory_is_bounded_by_names_and_parameters_whatever_comes(ranker: Ranker) -> None:
    ranker.vocabulary.capacity = 64
    teach(ranker, stream(400, items=500))
    full = sum(array.nbytes for array in ranker.arrays().values())
    teach(ranker, stream(200, start=400, items=900))
    assert len(ranker.vocabulary) == 64
    assert sum(array.nbytes for array in ranker.arrays().values()) <= 1.5 * full


def test_a_basket_of_ten_thousand_items_is_cut_to_its_newest(ranker: Ranker) -> None:
    flood = [f"tag:f{n}" for n in range(10_000)]
    ranker.learn_basket(flood)
    ranker.learn_one(flood, "tag:target")
    assert len(ranker.vocabulary) <= CONTEXT_MAX + 1
    assert len(ranker.rank(flood, k=5)) <= 5


def test_a_full_vocabulary_makes_room_for_what_comes_now(ranker: Ranker) -> None:
    ranker.vocabulary.capacity = 64
    teach(ranker, stream(60))
    for n in range(400):
        ranker.learn_basket([f"tag:once{n}", "tag:t3", "language:python"])
    for _ in range(40):
        ranker.learn_basket(["npm:left-pad", "npm:right-pad", "language:javascript"])
    assert len(ranker.vocabulary) == 64
    assert "tag:t3" in ranker.vocabulary and "language:python" in ranker.vocabulary
    assert ranker.rank(["language:javascript"], namespaces=["npm"], k=1)[0][0] in ("npm:left-pad", "npm:right-pad")
    if ranker.__class__ is not ContextPopularity:
        assert ranker.predict_one(["npm:left-pad"], k=1) == ["npm:right-pad"]
    assert all(name in ranker.vocabulary for name, _ in ranker.rank(["tag:t3"], k=100))


def drifting(count: int) -> Iterator[list[str]]:
    """Pairs of a thousand items of which forty are in use at a time, and every third with one that nobody uses again."""
    for n in range(count):
        pair = n * 480 // count + n * 7 % 20
        yield [f"tag:{2 * pair}", f"tag:{2 * pair + 1}", *([f"tag:once{n}"] if n % 3 == 0 else [])]


def test_where_items_come_and_go_a_small_vocabulary_is_nearly_as_good_as_one_without_bound() -> None:
    found = dict.fromkeys((96, 10_000), 0)
    for capacity in found:
        ranker = Neighbours()
        ranker.vocabulary.capacity = capacity
        for first, second, *rest in drifting(4_000):
            found[capacity] += second in ranker.predict_one([first], k=3)
            ranker.learn_basket([first, second, *rest])
    assert found[96] > 0.98 * found[10_000] > 3_000


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "combination"])
def test_who_takes_a_number_over_inherits_nothing(name: str) -> None:
    """But its base rate, with some: what the old one went with is not what the new one goes with."""
    ranker = MAKERS[name]()
    ranker.vocabulary.capacity = 48
    for _ in range(60):
        ranker.learn_basket(["tag:a", "tag:b", "tag:old"])
    number = ranker.vocabulary.add("tag:old")
    for n in range(200):
        ranker.learn_basket(["tag:a", "tag:b", f"tag:once{n}"])
        ranker.learn_basket(["tag:c", "tag:d"])
    ranker.forget(np.array([number]))
    scores = ranker.scores([number])
    np.testing.assert_allclose(scores - scores.mean(), ranker.scores([]) - ranker.scores([]).mean(), atol=1.0)


def test_a_snapshot_of_a_full_vocabulary_goes_on_as_if_nothing_had_happened(ranker: Ranker) -> None:
    ranker.vocabulary.capacity = 64
    teach(ranker, stream(300, items=500))
    assert len(ranker.vocabulary) == 64 and ranker.vocabulary.room, "some numbers were taken back"
    again = ranker.clone()
    again.vocabulary.capacity = 64
    arrays = unpack(state(ranker))
    again.vocabulary.restore(arrays)
    again.restore(arrays)
    for each in (ranker, again):
        teach(each, stream(300, start=300, items=700))
    assert again.vocabulary.names == ranker.vocabulary.names
    assert again.rank(["tag:t3", "language:rust"], k=40) == ranker.rank(["tag:t3", "language:rust"], k=40)


def test_what_is_old_fades() -> None:
    for name in ("neighbours", "popularity"):
        ranker = MAKERS[name]()
        for parameter in ("half_lives", "half_life"):
            if hasattr(ranker, parameter):
                ranker = ranker.clone({parameter: (20.0,) if parameter == "half_lives" else 20.0})
        for n in range(400):
            ranker.learn_basket(["language:c", "tag:x", "tag:old" if n < 300 else "tag:new"])
        assert ranker.predict_one(["tag:x", "language:c"], k=1) == ["tag:new"]


def test_popularity_backs_off_from_the_task_to_the_language_to_everything() -> None:
    ranker = ContextPopularity()
    for _ in range(50):
        ranker.learn_one(["language:python", "task:plot"], "pypi:matplotlib")
        ranker.learn_one(["language:python", "task:serve"], "pypi:flask")
        ranker.learn_one(["language:python"], "pypi:flask")
        for _ in range(3):
            ranker.learn_one(["language:javascript"], "npm:react")
    assert ranker.predict_one(["language:python", "task:plot"], k=1) == ["pypi:matplotlib"]
    assert ranker.predict_one(["language:python", "task:new"], k=1) == ["pypi:flask"]
    assert ranker.predict_one(["language:fortran"], k=1) == ["npm:react"]
    assert ranker.predict_one([], k=1) == ["npm:react"]


def test_a_session_goes_on_where_its_items_are_at_hand() -> None:
    ranker = SessionNeighbours()
    for end in ("tag:kernel", "tag:module"):
        ranker.learn_one(["tag:wifi"], "tag:driver")
        ranker.learn_one(["tag:wifi", "tag:driver"], end)
    assert int(ranker.arrays()["learned"][0]) == 2


def test_linear_weights_are_those_of_the_closed_form() -> None:
    ranker = Ease(ridge=2.0, half_life=1e12)
    baskets = [[f"tag:{letter}" for letter in word] for word in ("ab", "abc", "cd", "ad", "bcd", "e")]
    for basket in baskets:
        ranker.learn_basket(basket)
    ranker.solve()
    names = ranker.vocabulary.names
    rows = np.array([[(name in basket) / len(basket) ** 0.25 for name in names] for basket in baskets])
    inverse = np.linalg.inv(rows.T @ rows + 2.0 * np.eye(len(names)))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    for number in range(len(names)):
        np.testing.assert_allclose(ranker.scores([number]), weights[number], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 200])
def test_weights_are_made_from_half_of_the_partial_correlations(size: int) -> None:
    rng = np.random.default_rng(size)
    half = rng.normal(size=(size, 2 * size))
    gram = half @ half.T
    weights = solve(gram[np.tril_indices(size)].astype(np.float32), 0.5 * size)
    inverse = np.linalg.inv(gram + 0.5 * size * np.eye(size))
    expected = inverse / -np.diag(inverse)
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(weights.matrix, expected, rtol=2e-3, atol=1e-6)
    np.testing.assert_array_equal(LinearWeights.of(weights.partial, weights.spread).matrix, weights.matrix)


def wide() -> Ease:
    """Many items: solved in a thread, its weights count many examples later."""
    ranker = Ease(width=400)
    teach(ranker, many(700))
    return ranker


def many(count: int, start: int = 0) -> Iterator[tuple[list[str], list[str]]]:
    return stream(count, start=start, items=400)


def test_weights_that_are_solved_in_a_thread_count_from_a_fixed_example_on() -> None:
    ranker, slow = wide(), wide()
    while ranker._ahead is None:  # the stream comes to the next solving
        for each in (slow, ranker):
            teach(each, many(1, start=ranker._examples))
    before = ranker._weights
    until = ranker._ahead_until
    assert until > ranker._examples
    assert isinstance(ranker._ahead, Solving)
    ranker._ahead.result()  # here the thread was quick, there it need not have been
    while ranker._examples < until:
        assert ranker._weights is before
        for each in (slow, ranker):
            teach(each, many(1, start=ranker._examples))
    assert ranker._weights is not before
    assert state(slow) == state(ranker)


def test_a_snapshot_while_weights_are_solved_carries_them() -> None:
    ranker = wide()
    while ranker._ahead is None:
        teach(ranker, many(1, start=ranker._examples))
    arrays, again, copied = unpack(state(ranker)), ranker.clone(), copy.deepcopy(ranker)
    again.vocabulary.restore(arrays)
    again.restore(arrays)
    until = ranker._ahead_until
    for each in (ranker, again, copied):
        teach(each, many(400, start=1_000))
    assert ranker._examples > until
    assert state(again) == state(ranker) == state(copied)


def test_what_cannot_be_solved_in_the_thread_is_known_to_whoever_waits() -> None:
    with pytest.raises(LocalError, match="triangle"):
        Solving(np.zeros(5, dtype=np.float32), 1.0).result()


def test_a_gram_matrix_that_is_indefinite_is_solved_with_a_larger_ridge() -> None:
    weights = solve(np.array([1.0, 9.0, 1.0], dtype=np.float32), 0.1)
    assert np.isfinite(weights.matrix).all()
    for bad in (np.inf, -np.inf, np.nan):
        with pytest.raises(LocalError, match="inverse"):
            solve(np.full(3, bad, dtype=np.float32), 1.0)


def test_what_single_precision_cannot_solve_is_solved_in_double() -> None:
    """Two items that are nearly one: with this ridge an inverse exists, but only with more digits."""
    weights = solve(np.array([1e6, 1e6, 1e6], dtype=np.float32), 1e-3)
    np.testing.assert_allclose(weights.matrix, [[0.0, 1.0], [1.0, 0.0]], rtol=1e-3)


def test_rows_of_the_linear_model_go_to_the_heavy_items() -> None:
    ranker = Ease(width=8)
    for n in range(400):
        ranker.learn_basket(["tag:a", "tag:b", f"tag:rare{n}"])
    ranker.solve()
    assert ranker.predict_one(["tag:a"], k=1) == ["tag:b"]


def test_an_example_takes_no_row_from_its_own_items() -> None:
    ranker = Ease(width=8)
    ranker.learn_basket([f"tag:{n}" for n in range(8)])
    for n in range(20):
        ranker.learn_basket([f"tag:new{n}{m}" for m in range(7)] + ["tag:0"])
    ranker.learn_one([f"tag:other{n}" for n in range(9)], "tag:0")
    rows = ranker._rows[ranker._rows >= 0]
    assert sorted(rows.tolist()) == list(range(8))
    assert ranker._rows[ranker.vocabulary.add("tag:0")] >= 0


def test_river_s_own_checks_pass(ranker: Ranker) -> None:
    checks = [check for name, check in vars(common).items() if name in RIVER_CHECKS]
    assert len(checks) == len(RIVER_CHECKS)
    for check in checks:
        check(ranker)


def test_numbers_are_given_in_order_and_taken_back_from_what_weighs_least() -> None:
    vocabulary = Vocabulary(capacity=3)
    assert [vocabulary.add(item) for item in ("tag:a", "tag:b", "tag:a", "os:c", "tag:d")] == [0, 1, 0, 2, -1]
    vocabulary.use([0], [1, 2])
    assert vocabulary.make_room(1).tolist() == [1], "an attribute at hand was used, an item at hand was not"
    assert "tag:b" not in vocabulary and vocabulary.room == 1
    assert vocabulary.within(["tag"]).tolist() == [True, False, False]
    assert vocabulary.add("npm:e") == 1
    assert vocabulary.rankable().tolist() == [True, True, False]
    assert vocabulary.since(3).tolist() == [1]
    assert vocabulary.make_room(2, keep=["tag:a"]).tolist() == [1, 2]


def test_uses_fade_and_a_newcomer_counts_as_used_once() -> None:
    vocabulary = Vocabulary(capacity=3)
    for item in ("tag:often", "tag:lately"):
        vocabulary.add(item)
    for n in range(1_000):
        vocabulary.use([0 if n < 950 else 1])
    vocabulary.add("tag:new")
    assert vocabulary.make_room(1).tolist() == [0]


def test_a_vocabulary_is_restored_with_the_places_that_are_free() -> None:
    vocabulary = Vocabulary(capacity=40)
    for n in range(40):
        vocabulary.add(f"n{n % 7}:{n}")
    vocabulary.make_room(5)
    again = Vocabulary(capacity=40)
    again.restore(unpack(pack(vocabulary.arrays())))
    for each in (vocabulary, again):
        each.use([11, 12])
        for n in range(9):
            each.add(f"tag:{n}")
    assert again.names == vocabulary.names
    assert pack(again.arrays()) == pack(vocabulary.arrays())


def test_of_two_stacks_the_one_that_names_what_comes_is_asked() -> None:
    """Nothing is known of the neighbours of `tag:lone`: the stack that says the same of all items has named none of them."""
    ranker = MAKERS["combination"]()
    assert isinstance(ranker, Combination)
    for n in range(200):
        ranker.learn_basket(["tag:lone", f"tag:once{n}", f"tag:t{n % 3}"])
    whole, head = (float(ranker.arrays()[f"success{number}"][0]) for number in (0, 1))
    assert 0.0 < head <= whole


def test_weights_may_learn_from_what_was_held_back_alone() -> None:
    ranker = Combination(prequential=False)
    teach(ranker, stream(60))
    before = ranker.arrays()["weights0"]
    teach(ranker, stream(60, start=60))
    np.testing.assert_array_equal(ranker.arrays()["weights0"], before)
    ranker.weigh_one(["tag:t3"], "tag:never")
    ranker.weigh_one(["tag:t3"], "tag:t3")
    np.testing.assert_array_equal(ranker.arrays()["weights0"], before)
    ranker.weigh_one(["tag:t3"], "tag:t9")
    assert (ranker.arrays()["weights0"] != before).any()
