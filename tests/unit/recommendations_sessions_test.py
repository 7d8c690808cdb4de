"""The nearest sessions are those that a plain reading of the definition finds, also once they are many."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aicache.streams.recommendations.sessions import NOTHING, POWERS, RARITY_MIN, SessionNeighbours, _heaviest

ITEMS = 9
ITEM = st.integers(0, ITEMS - 1)
SETS = st.lists(st.lists(ITEM, unique=True, max_size=6), max_size=40)
WEIGHTS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]), max_size=60)


def made(*, postings: int = 4_096) -> SessionNeighbours:
    ranker = SessionNeighbours(postings=postings, length=4)
    for n in range(ITEMS):
        ranker.vocabulary.add(f"tag:{n}")
    return ranker


def plain_votes(sets: list[list[int]], context: list[int]) -> np.ndarray:
    """All sessions vote: there are fewer than the nearest."""
    kept = [numbers[-4:] for numbers in sets if len(numbers) > 1]
    often = np.array([sum(number in numbers for numbers in kept) for number in range(ITEMS)])
    rarity = np.log((len(kept) + 1) / (often + 1) + RARITY_MIN)
    votes = np.zeros((len(POWERS), ITEMS))
    weights = []
    for numbers in kept:
        whole = sum(rarity[number] for number in numbers)
        common = sum(rarity[number] for number in numbers if number in context[-4:])
        weights.append(common / np.sqrt(whole + 1) if whole - common >= RARITY_MIN / 2 else 0.0)
    if max(weights, default=0.0) > 0:
        for row, power in enumerate(POWERS):
            shares = (np.array(weights) / max(weights)) ** power
            for numbers, share in zip(kept, shares / shares.sum(), strict=True):
                votes[row, numbers] += share
    return votes


@given(sets=SETS, context=st.lists(ITEM, unique=True, max_size=6))
def test_sessions_vote_by_what_they_have_in_common_with_the_items_at_hand(
    sets: list[list[int]], context: list[int]
) -> None:
    ranker = made()
    for n, numbers in enumerate(sets):
        ranker.learn_set(np.array(numbers, dtype=np.int64) if n % 2 else numbers)
    for _ in range(2):
        np.testing.assert_allclose(ranker.votes(context), plain_votes(sets, context), rtol=1e-4, atol=1e-6)


@given(weights=WEIGHTS, k=st.integers(1, 8))
def test_the_heaviest_are_kept_and_the_newest_of_very_many_equal_ones(weights: list[float], k: int) -> None:
    slots = np.arange(len(weights), dtype=np.int32)
    edge = sorted(weights, reverse=True)[k - 1] if len(weights) > k else 0.0
    expected = [slot for slot, weight in enumerate(weights) if weight >= edge][-4 * k :]
    kept, order = np.array(weights, dtype=np.float32), np.random.default_rng(len(weights)).permutation(len(weights))
    kept, slots = kept[order], slots[order]
    found = _heaviest(kept, slots, k)
    assert sorted(slots[:found].tolist()) == expected
    assert kept[:found].tolist() == [weights[slot] for slot in slots[:found].tolist()]


def test_posting_lists_name_the_newest_sessions_only() -> None:
    ranker = made(postings=100)
    for n in range(350):
        ranker.learn_set([0, 1 + n % 2, 3 + n % 3])
    lists, counts = ranker.arrays()["lists"], ranker.arrays()["counts"]
    ends = np.cumsum(np.minimum(counts, 100))
    assert counts.tolist() == [350, 175, 175, 117, 117, 116, 0, 0, 0]
    assert sorted(lists[: ends[0]].tolist()) == list(range(250, 350))
    assert sorted(lists[ends[0] : ends[1]].tolist()) == list(range(150, 350, 2))


def test_what_is_forgotten_leaves_sessions_and_their_lists_and_the_others_stay() -> None:
    ranker = made()
    for n in range(200):
        ranker.learn_set([0, 1, 2 + n % 3])
    ranker.learn([0, 1], 5)
    ranker.learn([0, 3], 5)
    ranker.forget(np.array([1, 4]))
    arrays = ranker.arrays()
    assert arrays["items"][:3].tolist() == [[0, 2, *[NOTHING] * 2], [0, 3, *[NOTHING] * 2], [0, *[NOTHING] * 3]]
    assert arrays["counts"].tolist() == [202, 0, 67, 68, 0, 2, 0, 0, 0]
    assert len(arrays["lists"]) == arrays["counts"].sum()
    assert arrays["open_items"].tolist() == [[0, 3, 5, NOTHING]]
    np.testing.assert_allclose(ranker.votes([2])[0], [1.0, 0.0, 1.0, *[0.0] * 6], rtol=1e-5)
