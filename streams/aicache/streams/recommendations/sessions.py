"""Session neighbours (VMIS-kNN; Kersbergen, Sprangers, Schelter, SIGMOD 2022; Ludewig and Jannach, 2018).

The sessions or baskets most like the one at hand vote for their items. A posting list an item names the newest sessions that have
it; rare items find sessions first and weigh more (the root of their inverse frequency). Posting lists may name a session that has
made room for a newer one: the nearest are therefore measured again by the items that they really have.

Memory: 4·`length` bytes a session kept, 4·`postings` bytes an item at most. Cost of a session: one write an item. Cost of a
question: `postings` additions an item at hand, then `nearest` · `length`; it does not grow with the sessions that are kept.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.compiled import compiled
from aicache.streams.recommendations.ranker import Numbers, Ranker, Scores, grown

NOTHING = -1
POWERS = (3, 6)
"""Similarities are raised to these: the nearest session outweighs many that are half as near, or nearly all of them."""
RARITY_MIN = 0.01
"""Added to every inverse frequency, so that what everybody has still counts a little."""
BLOCK = 64
"""Posting lists grow by so many."""


class SessionNeighbours(Ranker):
    """The log of the share of votes of the nearest sessions, mixed with the base rate.

    Args:
        sessions: how many are kept; the oldest makes room.
        postings: newest sessions named an item.
        nearest: how many sessions vote.
        length: newest items kept of a session, and looked at of a context.

    Examples:
        >>> ranker = SessionNeighbours()
        >>> for _ in range(3):
        ...     ranker.learn_basket(["tag:wifi", "tag:driver", "tag:kernel"])
        ...     ranker.learn_basket(["tag:wifi", "tag:router", "tag:channel"])
        >>> ranker.predict_one(["tag:wifi", "tag:driver"], k=1)
        ['tag:kernel']
    """

    def __init__(self, sessions: int = 65_536, postings: int = 4_096, nearest: int = 64, length: int = 32) -> None:
        super().__init__()
        self.sessions = sessions
        self.postings = postings
        self.nearest = nearest
        self.length = length
        self._items = np.full((64, length), NOTHING, dtype=np.int32)
        self._norms = np.ones(64, dtype=np.float32)
        self._near = np.zeros(64, dtype=np.float32)  # nothing but zeros, between two questions
        self._pool = np.zeros((64, BLOCK), dtype=np.int32)
        self._taken = 0
        self._blocks = np.zeros((64, -(-postings // BLOCK)), dtype=np.int32)
        self._counts = np.zeros(64, dtype=np.int64)
        self._learned = 0
        self._open: dict[bytes, int] = {}

    def learn_set(self, numbers: Numbers) -> None:
        """See `Ranker.learn_set`."""
        if len(numbers) > 1:
            newest = np.asarray(numbers[-self.length :], dtype=np.int32)
            self._write(self._slot(), newest[:-1], int(newest[-1]), new=True)

    def learn(self, context: Numbers, target: int) -> None:
        """See `Ranker.learn`: a context that is a session as it stands goes on with it, others begin one."""
        if not len(context):
            return
        before = np.asarray(context[-self.length :], dtype=np.int32)
        slot = self._open.pop(before.tobytes(), NOTHING)
        new = slot == NOTHING
        if new:
            slot = self._slot()
        size = self._write(slot, before, target, new=new)
        self._open[self._items[slot, :size].tobytes()] = slot
        if len(self._open) > self.sessions:
            del self._open[next(iter(self._open))]

    def _slot(self) -> int:
        slot = self._learned % self.sessions
        self._learned += 1
        if slot >= len(self._items):
            end = min(2 * len(self._items), self.sessions)
            items = np.full((end, self.length), NOTHING, dtype=np.int32)
            items[: len(self._items)] = self._items
            self._items, self._norms, self._near = items, grown(self._norms, end), grown(self._near, end)
        return slot

    def _write(self, slot: int, before: NDArray[np.int32], target: int, *, new: bool) -> int:
        """Write a session, and its postings that are new; returns how many items it has."""
        self._make_room(len(self.vocabulary))
        self._pool = grown(self._pool, self._taken + len(before) + 1)
        size = _write(self._items[slot], before, target)
        self._norms[slot] = math.sqrt(size + 1)
        lists = self._pool, self._blocks, self._counts, self._taken, self.postings
        self._taken = _post(*lists, slot, before if new else before[:0], target)
        return size

    def _make_room(self, size: int) -> None:
        self._counts, self._blocks = grown(self._counts, size), grown(self._blocks, size)

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`: sessions go on without these items."""
        numbers = numbers[numbers < len(self._counts)]
        gone = np.zeros(len(self._counts) + 1, dtype=np.bool_)  # the last one stands for NOTHING
        gone[numbers] = True
        touched = np.flatnonzero(gone[self._items].any(axis=1))
        items = self._items[touched]
        items[gone[items]] = NOTHING
        self._items[touched] = np.take_along_axis(items, (items == NOTHING).argsort(axis=1, kind="stable"), axis=1)
        self._norms[touched] = np.sqrt((items != NOTHING).sum(axis=1) + 1)
        lists = self._lists()[~np.repeat(gone[:-1], np.minimum(self._counts, self.postings))]
        self._counts[numbers] = 0
        self._take(lists)
        lost = set(numbers.tolist())
        self._open = {key: slot for key, slot in self._open.items() if lost.isdisjoint(memoryview(key).cast("i"))}

    def _places(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Where the postings of all items are in the pool, item by item."""
        used = np.minimum(self._counts, self.postings)
        items = np.repeat(np.arange(len(used)), used)
        within = np.arange(len(items)) - np.repeat(np.cumsum(used) - used, used)
        return self._blocks[items, within // BLOCK], within % BLOCK

    def _lists(self) -> NDArray[np.int32]:
        return self._pool[self._places()]

    def _take(self, lists: NDArray[np.int32]) -> None:
        """Fill the pool anew, with as many postings an item as are counted."""
        blocks = -(-np.minimum(self._counts, self.postings) // BLOCK)
        self._taken = int(blocks.sum())
        first = (np.cumsum(blocks) - blocks).astype(np.int32)
        self._blocks = first[:, None] + np.arange(-(-self.postings // BLOCK), dtype=np.int32)
        self._pool = np.zeros((max(self._taken, 1), BLOCK), dtype=np.int32)
        self._pool[self._places()] = lists

    def votes(self, context: Numbers) -> NDArray[np.float32]:
        """The share of votes for each number, a row a power: shape (2, len(self.vocabulary)); zeros where no session is near."""
        size = len(self.vocabulary)
        self._make_room(size)
        result = np.zeros((len(POWERS), size), dtype=np.float32)
        rarity = np.empty(size, dtype=np.float32)
        recent = np.asarray(context[-self.length :], dtype=np.int64)
        _rarity(self._counts, self._learned, rarity)
        np.log(rarity, out=rarity)
        lists = self._pool, self._blocks, self._counts, self.postings
        _vote(*lists, self._items, self._norms, self._near, rarity, recent, self.nearest, result)
        return result

    def scores(self, context: Numbers) -> Scores:
        """See `Ranker.scores`."""
        size = len(self.vocabulary)
        votes = self.votes(context)[0]
        base = (self._counts[:size] + np.float32(0.1)).astype(np.float32)
        return np.log(votes + 1e-3 * base / max(float(base.sum()), 1.0))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        size = len(self.vocabulary)
        self._make_room(size)
        open_items = np.full((len(self._open), self.length), NOTHING, dtype=np.int32)
        for row, key in enumerate(self._open):
            items = np.frombuffer(key, dtype=np.int32)
            open_items[row, : len(items)] = items
        return {
            "items": self._items.copy(),
            "lists": self._lists(),
            "counts": self._counts[:size].copy(),
            "ordered": np.array([self.ordered]),
            "learned": np.array([self._learned]),
            "open_items": open_items,
            "open_slots": np.array(list(self._open.values()), dtype=np.int32),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self._items = np.array(arrays["items"], dtype=np.int32)
        self._norms = np.sqrt((self._items != NOTHING).sum(axis=1) + 1).astype(np.float32)
        self._near = np.zeros(len(self._items), dtype=np.float32)
        self._counts = np.array(arrays["counts"], dtype=np.int64)
        self.ordered = float(arrays["ordered"][0])
        self._learned = int(arrays["learned"][0])
        self._take(np.asarray(arrays["lists"], dtype=np.int32))
        open_items = np.array(arrays["open_items"], dtype=np.int32)
        self._open = {
            items[items != NOTHING].tobytes(): slot
            for items, slot in zip(open_items, arrays["open_slots"].tolist(), strict=True)
        }


@compiled
def _write(row: NDArray[np.int32], before: NDArray[np.int32], target: int) -> int:
    """Write a session in its row, the target last; the oldest item makes room. Returns how many items it has."""
    size = 0
    for item in before:
        if item != target:
            row[size] = item
            size += 1
    if size == len(row):
        size -= 1
        for place in range(size):
            row[place] = row[place + 1]
    row[size] = target
    for place in range(size + 1, len(row)):
        row[place] = NOTHING
    return size + 1


@compiled
def _post(
    pool: NDArray[np.int32],
    blocks: NDArray[np.int32],
    counts: NDArray[np.int64],
    taken: int,
    postings: int,
    slot: int,
    before: NDArray[np.int32],
    target: int,
) -> int:
    """Name a session in the posting lists of its items; returns how many blocks of the pool are taken then."""
    for place in range(len(before) + 1):
        item = int(before[place]) if place < len(before) else target
        if place == len(before) or item != target:
            within = counts[item] % postings
            if within % BLOCK == 0 and counts[item] < postings:
                blocks[item, within // BLOCK] = taken
                taken += 1
            pool[blocks[item, within // BLOCK], within % BLOCK] = slot
            counts[item] += 1
    return taken


@compiled
def _rarity(counts: NDArray[np.int64], learned: int, out: NDArray[np.float32]) -> None:
    """Inverse frequencies, in sessions: of what came more often than once in each, as if it had come once."""
    for number in range(len(out)):
        share = np.float32(learned + 1) / np.float32(counts[number] + 1)
        out[number] = max(share, np.float32(1.0)) + np.float32(RARITY_MIN)


@compiled
def _vote(
    pool: NDArray[np.int32],
    blocks: NDArray[np.int32],
    counts: NDArray[np.int64],
    postings: int,
    items: NDArray[np.int32],
    norms: NDArray[np.float32],
    near: NDArray[np.float32],
    rarity: NDArray[np.float32],
    recent: NDArray[np.int64],
    nearest: int,
    out: NDArray[np.float32],
) -> None:
    """The nearest sessions by their postings, then by the items that they have, vote for these."""
    found, slots = 0, np.empty(len(near) + 1, dtype=np.int32)
    for item in recent:
        for within in range(min(counts[item], postings)):
            slot = pool[blocks[item, within // BLOCK], within % BLOCK]
            slots[found] = slot
            found += near[slot] == 0
            near[slot] += rarity[item]
    weights = np.empty(found, dtype=np.float32)
    for place in range(found):
        weights[place] = near[slots[place]] / norms[slots[place]]
        near[slots[place]] = 0.0
    found = _heaviest(weights, slots[:found], 2 * nearest)
    _measure(items, slots[:found], rarity, recent, weights)
    found = _heaviest(weights[:found], slots[:found], nearest)
    best = np.float32(0.0)
    for place in range(found):
        best = max(best, weights[place])
    if best == 0:
        return
    for row in range(len(POWERS)):
        whole = np.float32(0.0)
        for place in range(found):
            whole += (weights[place] / best) ** POWERS[row]
        for place in range(found):
            vote = (weights[place] / best) ** POWERS[row] / whole
            for item in items[slots[place]]:
                if item == NOTHING:
                    break
                out[row, item] += vote


@compiled
def _measure(
    items: NDArray[np.int32],
    slots: NDArray[np.int32],
    rarity: NDArray[np.float32],
    recent: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> None:
    """How much sessions have in common with the items at hand; one that has nothing else has no vote, and no seat."""
    asked = np.zeros_like(rarity)
    for item in recent:
        asked[item] = rarity[item]
    for place in range(len(slots)):
        common = whole = np.float32(0.0)
        for item in items[slots[place]]:
            if item == NOTHING:
                break
            common += asked[item]
            whole += rarity[item]
        alone = whole - common < RARITY_MIN / 2
        weights[place] = 0.0 if alone else common / math.sqrt(whole + np.float32(1.0))


@compiled
def _heaviest(weights: NDArray[np.float32], slots: NDArray[np.int32], k: int) -> int:
    """Bring the `k` largest weights and their slots to the front, the newest of very many equal ones; returns how many they are."""
    bits = weights.view(np.int32)  # what is not negative is ordered as its bits are
    found = _first(bits, slots, k)
    return found if found <= 4 * k else _first(slots[:found], bits[:found], 4 * k)


@compiled
def _first(keys: NDArray[np.int32], others: NDArray[np.int32], k: int) -> int:
    """Bring the `k` largest keys to the front, with what equals the last of them, and what goes with each; none is negative."""
    edge = np.int32(0)
    for bit in range(30 if len(keys) > k else -1, -1, -1):  # the edge is found bit by bit: many are compared at once
        guess, reach = np.int32(edge | 1 << bit), np.int32(0)
        for place in range(len(keys)):
            reach = np.int32(reach + np.int32(keys[place] >= guess))
        if reach >= k:
            edge = guess
        if reach == k:
            break
    found = 0
    for place in range(len(keys)):
        key, other = keys[place], others[place]
        keys[found], others[found] = key, other
        found += key >= edge
    return found
