"""Names of items and their numbers.

Items are public names in a namespace, `pypi:numpy` or `tag:python`; they are learned together and asked for separately. The
attributes of a situation are items too, in namespaces of their own (`language:python`): they count as context and are never
recommended, so that an empty basket falls back on what goes with its language, and an unknown language on what is popular.
Invariant: a name keeps its number as long as it has one; numbers are given in the order of first sight, and those that were taken back
first. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError

ATTRIBUTES = ("language", "framework", "os", "task", "tool", "daytime")
"""Namespaces that describe a situation."""
NO_NAMESPACE = -1
UNIT_MAX = 1e9
HALF_LIFE = 2.0
"""A use weighs half after this many for each name that has room: about what it takes to see a newcomer again that is worth a place."""
SHARE_FREED = 16
"""A full vocabulary makes room for a sixteenth of its names at once: what it costs to forget is shared by so many new ones."""


def namespace_of(item: str) -> str:
    """`pypi` of `pypi:numpy`.

    Raises:
        LocalError: the name has no namespace.
    """
    namespace, colon, name = item.partition(":")
    if not colon or not namespace or not name:
        raise LocalError(f"items are namespace:name, got {item[:80]!r}", got=item[:80], needed="namespace:name")
    return namespace


class Vocabulary:
    """Numbers for names, at most `capacity` of them. A full one makes room by taking back the numbers of those that weigh least.

    A name weighs how often it was used, decayed; a new one begins as if it had been used once. Whoever takes numbers back has to forget
    what stands under them. Cost of a use: one addition a name; of making room: a sort of all, for so many new names at once.

    Args:
        capacity: how many names are numbered; memory of every ranker is linear in it.
    """

    def __init__(self, capacity: int = 8_192) -> None:
        self.capacity = capacity
        self.names: list[str] = []
        self.given = 0
        self._free: list[int] = []  # the smallest last
        self._numbers: dict[str, int] = {}
        self._namespaces: dict[str, int] = {}
        self._namespace = np.zeros(64, dtype=np.int16)
        self._rankable = np.zeros(64, dtype=np.bool_)
        self._attributes: set[int] = set()
        self._turns = np.zeros(64, dtype=np.int64)
        self._weights = np.zeros(64)
        self._unit = 1.0

    def __len__(self) -> int:
        """Numbers are below this; those that were taken back are among them."""
        return len(self.names)

    def __contains__(self, item: str) -> bool:
        return item in self._numbers

    @property
    def room(self) -> int:
        """How many new names have a place."""
        return max(self.capacity - len(self._numbers), 0)

    def add(self, item: str) -> int:
        """The number of a name, a new one where it has none; -1 where the table is full."""
        number = self._numbers.get(item)
        if number is not None:
            return number
        if len(self._numbers) >= self.capacity:
            return -1
        namespace = namespace_of(item)
        number = self._free.pop() if self._free else len(self.names)
        self._numbers[item] = number
        if number == len(self.names):
            self.names.append(item)
            self._reserve(len(self.names))
        else:
            self.names[number] = item
        self.given += 1
        self._turns[number] = self.given
        self._weights[number] = self._unit
        self._describe(number, namespace)
        return number

    def _reserve(self, size: int) -> None:
        for name in ("_namespace", "_rankable", "_turns", "_weights"):
            array = getattr(self, name)
            if size > len(array):
                setattr(self, name, np.concatenate([array, np.zeros_like(array)]))

    def _describe(self, number: int, namespace: str) -> None:
        self._namespace[number] = self._namespaces.setdefault(namespace, len(self._namespaces))
        self._rankable[number] = namespace not in ATTRIBUTES
        if namespace in ATTRIBUTES:
            self._attributes.add(number)

    def use(self, numbers: Sequence[int], situation: Sequence[int] = ()) -> None:
        """An example has come.

        Args:
            numbers: what was used, distinct.
            situation: what was at hand; the attributes in it count as used too.
        """
        self._unit *= 2.0 ** (len(numbers) / (HALF_LIFE * self.capacity))
        if self._unit > UNIT_MAX:
            self._weights /= self._unit
            self._unit = 1.0
        if situation and self._attributes:
            numbers = [*numbers, *self._attributes.intersection(situation)]
        for number in numbers:  # few: one by one is faster than all at once
            self._weights[number] += self._unit

    def make_room(self, needed: int, keep: Iterable[str] = ()) -> NDArray[np.int64]:
        """Take back numbers until so many new names have a place, and a share of all at once: of what weighs least, the older first.

        Args:
            needed: how many names want a place.
            keep: names that stay.

        Returns:
            The numbers that were taken back, in rising order.
        """
        live = np.array(sorted(self._numbers.values()), dtype=np.int64)
        live = live[~np.isin(live, self.known(keep))]
        count = max(needed - self.room, self.capacity // SHARE_FREED)
        order = np.lexsort((self._turns[live], self._weights[live]))
        taken = np.sort(live[order[:count]])
        for number in taken.tolist():
            del self._numbers[self.names[number]]
            self.names[number] = ""
        self._free = sorted({*self._free, *taken.tolist()}, reverse=True)
        self._describe_all()
        return taken

    def _describe_all(self) -> None:
        """Namespaces of which no name is left have no number either."""
        self._namespaces, self._attributes = {}, set()
        self._rankable[:] = False
        self._namespace[:] = NO_NAMESPACE
        for number, name in enumerate(self.names):
            if name:
                self._describe(number, namespace_of(name))

    def known(self, items: Iterable[str]) -> list[int]:
        """The numbers of those that have one."""
        return [number for number in map(self._numbers.get, items) if number is not None]

    def since(self, given: int) -> NDArray[np.int64]:
        """Numbers that were given after `given` had been."""
        return np.flatnonzero(self._turns[: len(self.names)] > given)

    def split(self, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
        """Which numbers are items, and which are attributes of a situation."""
        if self._attributes.isdisjoint(numbers):
            return list(numbers), []
        items = [number for number in numbers if number not in self._attributes]
        return items, [number for number in numbers if number in self._attributes]

    def within(self, namespaces: Sequence[str]) -> NDArray[np.bool_]:
        """Which numbers belong to one of the namespaces: shape (len(self),)."""
        here = self._namespace[: len(self.names)]
        result = np.zeros(len(self.names), dtype=np.bool_)
        for namespace in namespaces:
            if namespace in self._namespaces:
                result |= here == self._namespaces[namespace]
        return result

    def rankable(self) -> NDArray[np.bool_]:
        """Which numbers are items, not attributes of a situation nor taken back: shape (len(self),)."""
        return self._rankable[: len(self.names)].copy()

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All that is needed to make it again."""
        size = len(self.names)
        return {
            "names": np.frombuffer("\n".join(self.names).encode(), dtype=np.uint8),
            "turns": self._turns[:size].copy(),
            "weights": self._weights[:size].copy(),
            "unit": np.array([self._unit, float(self.given)]),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Become what gave these arrays."""
        size = len(arrays["turns"])
        self.names = arrays["names"].tobytes().decode().split("\n") if size else []
        self._numbers = {name: number for number, name in enumerate(self.names) if name}
        self._free = [number for number in range(size - 1, -1, -1) if not self.names[number]]
        while size > len(self._turns):
            self._reserve(len(self._turns) + 1)
        self._turns[:size], self._weights[:size] = arrays["turns"], arrays["weights"]
        self._unit, self.given = float(arrays["unit"][0]), int(arrays["unit"][1])
        self._describe_all()
