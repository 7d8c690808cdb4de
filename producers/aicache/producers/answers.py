"""Recommendations as an application uses them: given, shown, taken, dismissed.

What is told of an answer names it, by the place of the usage record that it followed. That place belongs to a pseudonym, so it is
told under the same pseudonym alone: after a change of periods it is left out, and nothing links the two.
Pure: the client brings what was answered and takes what is told.
"""

import abc
from collections.abc import Sequence
from typing import Any

from aicache.privacy.errors import LocalError
from aicache.schemas.records import Recommendation, Recommended

GIVEN_MAX = 64
"""Namespaces whose last answer is remembered."""


class Answering(abc.ABC):
    """What a client does with answers; `Core` brings the rest."""

    def __init__(self) -> None:
        self._given: dict[str, Recommendation] = {}

    @abc.abstractmethod
    def record(self, kind: str, items: Sequence[str], *, time_s: int | None = None, **more: Any) -> None:
        """Queue an event."""

    @abc.abstractmethod
    def _newest(self, namespace: str) -> Recommendation | None:
        """The newest answer under today's pseudonym."""

    @abc.abstractmethod
    def _pseudonym(self) -> bytes:
        """Today's."""

    def recommend(self, namespace: str, k: int = 10) -> list[Recommended]:
        """What comes next in a namespace, best first; empty where nothing is known."""
        found = self._newest(namespace)
        if found is None:
            return []
        self._given.pop(namespace, None)
        self._given[namespace] = found
        if len(self._given) > GIVEN_MAX:
            del self._given[next(iter(self._given))]
        return found.items[:k]

    def shown(self, namespace: str, k: int = 10) -> None:
        """Tell that the first `k` of what `recommend` gave last were shown, in that order.

        Raises:
            LocalError: `recommend` gave nothing in this namespace, or the client may not speak.
        """
        given = self._given.get(namespace)
        items = [] if given is None else given.items[:k]
        if given is None or not items:
            raise LocalError("nothing was recommended in this namespace", got=namespace, needed="recommend(…)")
        least = min(item.propensity for item in items)
        names = [item.item for item in items]
        self.record("shown", names, position=0, propensity=least, answer=self._answer(given))

    def taken(self, item: str) -> None:
        """Tell that an item was taken up, recommended or not: it is learned as used, too."""
        self.record("taken", [item], **self._place(item))

    def dismissed(self, item: str) -> None:
        """Tell that a recommended item was waved away."""
        self.record("dismissed", [item], **self._place(item))

    def _place(self, item: str) -> dict[str, Any]:
        """Where an item stood in the answer that was given last in its namespace; empty where it was not in it."""
        given = self._given.get(item.partition(":")[0])
        for position, found in enumerate([] if given is None else given.items):
            if given is not None and found.item == item:
                return {"position": position, "propensity": found.propensity, "answer": self._answer(given)}
        return {}

    def _answer(self, given: Recommendation) -> str:
        """The name of an answer under today's pseudonym; empty where it was given under another."""
        same = given.pseudonym == self._pseudonym()
        return f"{given.source.partition}/{given.source.offset}" if same else ""
