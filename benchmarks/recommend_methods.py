"""The methods that recommend.py compares: a registry of names, each with a maker.

A new method is a class with the interface of `Method` and a maker under `@method("name")`. A maker is given the command line's
arguments and returns None where the method is not asked for by them. Methods see numbers in the order of first sight and names.
"""

# ruff: noqa: ARG001, ARG002 -- each method uses a part of what the interface gives
import argparse
import csv
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.ranker import Ranker, grown
from recommend_private import PrivateTable
from recommend_tables import ClientTables

Maker = Callable[[argparse.Namespace], "Method | None"]
METHODS: dict[str, Maker] = {}
HELD_EVERY = 12
TOUCHED = 16
"""Items of a context whose rows an event changes: those that the neighbours count."""
PRIVATE_LEARNS = 0.7
"""Of the baskets that come in turn, the share from which the private table is made."""


def method(name: str) -> Callable[[Maker], Maker]:
    """Register the maker of a method under the name that it has in the figures."""

    def register(maker: Maker) -> Maker:
        METHODS[name] = maker
        return maker

    return register


class Method:
    """What is compared. `numbers` and `context` are numbers in the order of first sight, `names` the same with their namespace."""

    def learn(self, names: list[str], context: list[int], target: int) -> None:
        """One event: the last name came after the others; `context` is what the user had, `target` what came."""
        raise TypeError(f"{type(self).__name__} does not learn single events")

    def learn_basket(self, names: list[str], numbers: list[int]) -> None:
        """One whole basket."""
        raise TypeError(f"{type(self).__name__} does not learn baskets")

    def settle(self) -> None:
        """Nothing more is learned before what follows is asked: the moment for what is made from the whole."""

    def ready(self) -> bool:
        """Whether it can be asked yet: what is asked before is not among its figures."""
        return True

    def scores(self, context: list[int], size: int) -> NDArray[np.floating]:
        """A score for each of `size` items."""
        raise TypeError(f"{type(self).__name__} does not score")


class Named(Method):
    """Whoever knows items by their names: numbers in the order of first sight stand for them here alone."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.numbers: dict[str, int] = {}

    def name(self, names: list[str], numbers: list[int]) -> None:
        """These names have these numbers."""
        for name, number in zip(names, numbers, strict=True):
            if number == len(self.names):
                self.names.append(name)
                self.numbers[name] = number


class Ranked(Named):
    """A ranker of the project, behind the interface that its users have."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker
        self._places = np.zeros(64, dtype=np.int64)  # of the numbers that the ranker gives
        self._known = np.zeros(0, dtype=np.int64)
        self._given = 0

    def learn(self, names: list[str], context: list[int], target: int) -> None:
        self.name(names[-1:], [target])
        self.ranker.learn_one(names[:-1], names[-1])

    def learn_basket(self, names: list[str], numbers: list[int]) -> None:
        self.name(names, numbers)
        self.ranker.learn_basket(names)

    def scores(self, context: list[int], size: int) -> NDArray[np.floating]:
        vocabulary = self.ranker.vocabulary
        if vocabulary.given != self._given:
            self._places = grown(self._places, len(vocabulary))
            for number in vocabulary.since(self._given).tolist():
                self._places[number] = self.numbers[vocabulary.names[number]]
            self._given = vocabulary.given
            self._known = np.flatnonzero(vocabulary.rankable())  # numbers are taken back only where others are given
        result = np.full(size, -np.inf, dtype=np.float32)
        scores = self.ranker.scores(vocabulary.known([self.names[number] for number in context]))
        result[self._places[self._known]] = scores[self._known]
        return result


class HeldBack(Ranked):
    """A combination for questions that are asked long after: what is recent now says little of them, so weights that were learned
    at once would be wrong. Of every few baskets it holds an item back, and learns the weights from those when all is learned."""

    def __init__(self, ranker: Combination) -> None:
        super().__init__(ranker)
        self.combination = ranker
        self.baskets = 0
        self.held: list[tuple[list[str], str]] = []

    def learn_basket(self, names: list[str], numbers: list[int]) -> None:
        self.name(names, numbers)
        self.baskets += 1
        if self.baskets % HELD_EVERY == 0 and len(names) > 2:
            place = self.baskets // HELD_EVERY % len(names)
            names = [*names[:place], *names[place + 1 :], names[place]]
            self.held.append((names[:-1], names[-1]))
            names = names[:-1]
        self.ranker.learn_basket(names)

    def settle(self) -> None:
        self.combination.ease.solve()
        for context, target in self.held:
            self.combination.weigh_one(context, target)
        for context, target in self.held:
            self.ranker.learn_basket([*context, target])
        self.combination.ease.solve()


class Popularity(Method):
    """How often each item has come."""

    def __init__(self) -> None:
        self.counts = np.zeros(64)

    def learn(self, names: list[str], context: list[int], target: int) -> None:
        self.learn_basket([], [target])

    def learn_basket(self, names: list[str], numbers: list[int]) -> None:
        while max(numbers, default=0) >= len(self.counts):
            self.counts = np.concatenate([self.counts, np.zeros_like(self.counts)])
        np.add.at(self.counts, numbers, 1.0)

    def scores(self, context: list[int], size: int) -> NDArray[np.floating]:
        return self.counts[:size]


class Cosine(Method):
    """Item-to-item cosine over everything so far, added up over what the user has."""

    def __init__(self) -> None:
        self.pairs = np.zeros((64, 64))
        self.counts = np.zeros(64)

    def learn(self, names: list[str], context: list[int], target: int) -> None:
        top = max(target, *context, 0) if context else target
        while top >= len(self.counts):
            size = len(self.counts)
            pairs = np.zeros((2 * size, 2 * size))
            pairs[:size, :size] = self.pairs
            self.pairs, self.counts = pairs, np.concatenate([self.counts, np.zeros(size)])
        self.pairs[context, target] += 1
        self.pairs[target, context] += 1
        self.counts[target] += 1

    def learn_basket(self, names: list[str], numbers: list[int]) -> None:
        for place, number in enumerate(numbers):
            self.learn([], numbers[:place], number)

    def scores(self, context: list[int], size: int) -> NDArray[np.floating]:
        if not context:
            return self.counts[:size] * 1e-9
        norms = np.sqrt(np.outer(self.counts[context] + 1, self.counts[:size] + 1))
        return (self.pairs[context, :size] / norms).sum(axis=0) + self.counts[:size] * 1e-9


class Tabled(Named):
    """A client that scores with the tables of the full model: of the one that is measured as `aicache`, or of one of its own."""

    def __init__(self, followed: Ranked, *, own: bool) -> None:
        assert isinstance(followed.ranker, Combination)
        super().__init__()
        self.followed, self.own = followed, own
        self.tables = ClientTables(followed.ranker)

    def learn(self, names: list[str], context: list[int], target: int) -> None:
        self.name(names[-1:], [target])
        if self.own:
            self.followed.learn(names, context, target)
        self.tables.told(names[-1 - TOUCHED :])

    def learn_basket(self, names: list[str], numbers: list[int]) -> None:
        self.name(names, numbers)
        if self.own:
            self.followed.learn_basket(names, numbers)
        self.tables.told(names)

    def settle(self) -> None:
        if self.own:
            self.followed.settle()
        self.tables.settle()

    def scores(self, context: list[int], size: int) -> NDArray[np.floating]:
        return self.tables.scores([self.names[number] for number in context], self.numbers, size)


def _full(arguments: argparse.Namespace) -> Ranked:
    return HeldBack(Combination(prequential=False)) if arguments.protocol == "hidden" else Ranked(Combination())


@method("aicache")
def _aicache(arguments: argparse.Namespace) -> Method:
    arguments.followed = _full(arguments)
    return arguments.followed


@method("client_tables")
def _client_tables(arguments: argparse.Namespace) -> Method:
    followed = getattr(arguments, "followed", None)
    return Tabled(followed or _full(arguments), own=followed is None)


@method("popularity")
def _popularity(arguments: argparse.Namespace) -> Method:
    return Popularity()


@method("neighbours")
def _neighbours(arguments: argparse.Namespace) -> Method:
    return Cosine()


class Private(Method):
    """The table that private rounds gave: from all baskets, or, where baskets come and are asked in turn, from the first 70%."""

    def __init__(self, table: PrivateTable) -> None:
        self.table = table

    def learn_basket(self, names: list[str], numbers: list[int]) -> None:
        self.table.learn_basket(numbers)

    def settle(self) -> None:
        self.table.settle()

    def ready(self) -> bool:
        return self.table.ready

    def scores(self, context: list[int], size: int) -> NDArray[np.floating]:
        return self.table.scores(context, size)


def _private_table(arguments: argparse.Namespace, epsilon: float) -> Method | None:
    if not arguments.epsilon or arguments.protocol == "prequential":
        return None
    if arguments.protocol == "hidden":
        return Private(PrivateTable(epsilon, arguments.noise, clients=0, learns=0))
    with arguments.data.open(newline="") as file:
        known = len({row["user"] for row in csv.DictReader(file)})
    learns = int(PRIVATE_LEARNS * min(known, arguments.limit or known))
    return Private(PrivateTable(epsilon, arguments.noise, clients=arguments.clients, learns=learns))


@method("private")
def _private(arguments: argparse.Namespace) -> Method | None:
    return _private_table(arguments, arguments.epsilon)


@method("private_without_noise")
def _private_without_noise(arguments: argparse.Namespace) -> Method | None:
    return _private_table(arguments, 0.0)
