"""Session neighbours (VMIS-kNN; Kersbergen, Sprangers, Schelter, SIGMOD 2022; Ludewig and Jannach, 2018).

The sessions or baskets most like the one at hand vote for their items. A posting list an item names the newest sessions that have
it; rare items find sessions first and weigh more (the root of their inverse frequency). Posting lists may name a session that has
made room for a newer one: the nearest are therefore measured again by the items that they really have.

Memory: 4·`length` bytes a session kept, 4·`postings` bytes an item at most. Cost of a session: one write an item. Cost of a
question: `postings` additions an item at hand, then `nearest` · `length`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.ranker import Ranker, Scores, grown

NOTHING = -1
POWERS = (3, 6)
"""Similarities are raised to these: the nearest session outweighs many that are half as near, or nearly all of them."""
RARITY_MIN = 0.01
"""Added to every inverse frequency, so that what everybody has still counts a little."""
POSTINGS_STEP = 64
"""Posting lists grow by this factor of four until they are full."""


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
        self._lists: list[NDArray[np.int32]] = []
        self._counts = np.zeros(64, dtype=np.int64)
        self._learned = 0
        self._open: dict[tuple[int, ...], int] = {}

    def learn_set(self, numbers: Sequence[int]) -> None:
        """See `Ranker.learn_set`."""
        if len(numbers) > 1:
            newest = numbers[-self.length :]
            self._write(self._slot(), newest, newest)

    def learn(self, context: Sequence[int], target: int) -> None:
        """See `Ranker.learn`: a context that is a session as it stands goes on with it, others begin one."""
        if not context:
            return
        before = tuple(context[-self.length :])
        slot = self._open.pop(before, NOTHING)
        items = [*(item for item in before if item != target), target]
        if slot == NOTHING:
            slot, new = self._slot(), items
        else:
            new = [target]
        self._write(slot, items[-self.length :], new)
        self._open[tuple(items[-self.length :])] = slot
        if len(self._open) > self.sessions:
            del self._open[next(iter(self._open))]

    def _slot(self) -> int:
        slot = self._learned % self.sessions
        self._learned += 1
        if slot >= len(self._items):
            end = min(2 * len(self._items), self.sessions)
            items = np.full((end, self.length), NOTHING, dtype=np.int32)
            items[: len(self._items)] = self._items
            self._items, self._norms = items, grown(self._norms, end)
        return slot

    def _write(self, slot: int, items: Sequence[int], new: Sequence[int]) -> None:
        self._make_room(max(items) + 1)
        self._items[slot] = NOTHING
        self._items[slot, : len(items)] = items
        self._norms[slot] = (len(items) + 1) ** 0.5
        for item in new:
            names, count = self._lists[item], int(self._counts[item])
            if count >= len(names) and len(names) < self.postings:
                grew = np.zeros(min(4 * max(len(names), POSTINGS_STEP // 4), self.postings), dtype=np.int32)
                grew[: len(names)] = names
                self._lists[item] = names = grew
            names[count % len(names)] = slot
            self._counts[item] = count + 1

    def _make_room(self, size: int) -> None:
        self._counts = grown(self._counts, size)
        while len(self._lists) < size:
            self._lists.append(np.zeros(0, dtype=np.int32))

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """See `Ranker.forget`: sessions go on without these items."""
        numbers = numbers[numbers < len(self._lists)]
        gone = np.zeros(len(self._lists) + 1, dtype=np.bool_)  # the last one stands for NOTHING
        gone[numbers] = True
        places = gone[self._items]
        self._items[places] = NOTHING
        touched = np.flatnonzero(places.any(axis=1))
        self._norms[touched] = np.sqrt((self._items[touched] != NOTHING).sum(axis=1) + 1)
        self._counts[numbers] = 0
        for number in numbers.tolist():
            self._lists[number] = np.zeros(0, dtype=np.int32)
        lost = set(numbers.tolist())
        self._open = {items: slot for items, slot in self._open.items() if lost.isdisjoint(items)}

    def votes(self, context: Sequence[int]) -> NDArray[np.float32]:
        """The share of votes for each number, a row a power: shape (2, len(self.vocabulary)); zeros where no session is near."""
        size = len(self.vocabulary)
        self._make_room(size)
        result = np.zeros((len(POWERS), size), dtype=np.float32)
        recent = [item for item in context[-self.length :] if self._counts[item]]
        if not recent:
            return result
        rarity = np.zeros(size + 1, dtype=np.float32)  # the last one stands for NOTHING
        often = self._counts[:size].astype(np.float32) + np.float32(1)
        np.log(np.float32(self._learned + 1) / often + np.float32(RARITY_MIN), out=rarity[:size])
        lists = [self._lists[item][: self._counts[item]] for item in recent]
        weights = np.repeat(rarity[recent].astype(np.float64), [len(names) for names in lists])
        near = np.bincount(np.concatenate(lists), weights=weights)
        candidates = np.flatnonzero(near > 0)
        candidates = candidates[_heaviest(near[candidates] / self._norms[candidates], 2 * self.nearest)]
        longest = round(float(self._norms[candidates].max()) ** 2) - 1
        items = self._items[candidates, :longest]
        asked = np.zeros(size + 1, dtype=np.float32)
        asked[recent] = rarity[recent]
        each = np.ones(longest, dtype=np.float32)
        common = asked.take(items, mode="wrap") @ each
        whole = rarity.take(items, mode="wrap") @ each
        nearness = common / np.sqrt(whole + 1)
        nearness[whole - common < RARITY_MIN / 2] = 0.0  # a session that has nothing else has no vote, and no seat
        keep = _heaviest(nearness, self.nearest)
        nearness, named = nearness[keep], (items[keep] + 1).ravel()  # NOTHING is counted in a place of its own
        if nearness.max() > 0:
            nearness /= nearness.max()
            for row, power in enumerate(POWERS):
                weights = nearness**power
                votes = np.bincount(named, weights=np.repeat(weights, longest), minlength=size + 1)
                result[row] = votes[1:] / weights.sum()
        return result

    def scores(self, context: Sequence[int]) -> Scores:
        """See `Ranker.scores`."""
        size = len(self.vocabulary)
        votes = self.votes(context)[0]
        base = (self._counts[:size] + np.float32(0.1)).astype(np.float32)
        return np.log(votes + 1e-3 * base / max(float(base.sum()), 1.0))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See `Ranker.arrays`."""
        used = [len(names) for names in self._lists]
        lists = np.concatenate([np.zeros(0, dtype=np.int32), *self._lists])
        open_items = np.full((len(self._open), self.length), NOTHING, dtype=np.int32)
        for row, items in enumerate(self._open):
            open_items[row, : len(items)] = items
        return {
            "items": self._items.copy(),
            "lists": lists,
            "used": np.array(used, dtype=np.int32),
            "counts": self._counts[: len(used)].copy(),
            "ordered": np.array([self.ordered]),
            "learned": np.array([self._learned]),
            "open_items": open_items,
            "open_slots": np.array(list(self._open.values()), dtype=np.int32),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Ranker.restore`."""
        self._items = np.array(arrays["items"], dtype=np.int32)
        self._norms = np.sqrt((self._items != NOTHING).sum(axis=1) + 1).astype(np.float32)
        self._counts = np.array(arrays["counts"], dtype=np.int64)
        self.ordered = float(arrays["ordered"][0])
        self._learned = int(arrays["learned"][0])
        ends = np.cumsum(arrays["used"])[:-1]
        lists = np.split(np.array(arrays["lists"], dtype=np.int32), ends) if len(arrays["used"]) else []
        self._lists = [names.copy() for names in lists]
        self._open = {
            tuple(item for item in row if item != NOTHING): slot
            for row, slot in zip(arrays["open_items"].tolist(), arrays["open_slots"].tolist(), strict=True)
        }


def _heaviest(values: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Places of the `k` largest values, the newest of very many equal ones, in rising order."""
    if len(values) <= k:
        return np.arange(len(values))
    edge = np.partition(values, len(values) - k)[len(values) - k]
    return np.flatnonzero(values >= edge)[-4 * k :]
