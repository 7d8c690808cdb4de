"""Names of items and their numbers.

Items are public names in a namespace, `pypi:numpy` or `tag:python`; they are learned together and asked for separately. The
attributes of a situation are items too, in namespaces of their own (`language:python`): they count as context and are never
recommended, so that an empty basket falls back on what goes with its language, and an unknown language on what is popular.
Invariant: a number is given once, in the order of first sight, and never changes. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError

ATTRIBUTES = ("language", "framework", "os", "task", "tool")
"""Namespaces that describe a situation."""


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
    """Numbers for names, at most `capacity` of them: what comes after is unknown until the table is made anew.

    Args:
        capacity: how many names are numbered; memory of every ranker is linear in it.
    """

    def __init__(self, capacity: int = 8_192) -> None:
        self.capacity = capacity
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._namespaces: dict[str, int] = {}
        self._namespace = np.zeros(64, dtype=np.int16)
        self._rankable = np.zeros(64, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, item: str) -> bool:
        return item in self._numbers

    def add(self, item: str) -> int:
        """The number of a name, a new one where it has none; -1 where the table is full."""
        number = self._numbers.get(item)
        if number is not None:
            return number
        if len(self.names) >= self.capacity:
            return -1
        namespace = namespace_of(item)
        number = self._numbers[item] = len(self.names)
        self.names.append(item)
        if number == len(self._namespace):
            self._namespace = np.concatenate([self._namespace, np.zeros_like(self._namespace)])
            self._rankable = np.concatenate([self._rankable, np.zeros_like(self._rankable)])
        self._rankable[number] = namespace not in ATTRIBUTES
        self._namespace[number] = self._namespaces.setdefault(namespace, len(self._namespaces))
        return number

    def known(self, items: Iterable[str]) -> list[int]:
        """The numbers of those that have one."""
        return [number for item in items if (number := self._numbers.get(item)) is not None]

    def within(self, namespaces: Sequence[str]) -> NDArray[np.bool_]:
        """Which numbers belong to one of the namespaces: shape (len(self),)."""
        wanted = [self._namespaces[name] for name in namespaces if name in self._namespaces]
        return np.isin(self._namespace[: len(self.names)], np.array(wanted, dtype=np.int16))

    def rankable(self) -> NDArray[np.bool_]:
        """Which numbers are items, not attributes of a situation: shape (len(self),)."""
        return self._rankable[: len(self.names)].copy()

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All that is needed to make it again."""
        return {"names": np.frombuffer("\n".join(self.names).encode(), dtype=np.uint8)}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Become what gave these arrays; must be empty."""
        for name in arrays["names"].tobytes().decode().split("\n"):
            if name:
                self.add(name)
