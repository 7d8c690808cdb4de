"""The fully private method of recommend.py: what rounds of pairs would open, at full size, and the tables solved from it.

Every client's vector is shortened to its task's clip, scaled and rounded at random to integers as the SDK does it, the integers are
summed in the clear, and the exact integer noise of each committee member (or of the clients, as one draw of their sum's variance) is
added once: what the masked sum opens to, bit for bit on the same input (a test compares the two). Only the coordinates that are not
zero are worked on; the others stay zero under rounding.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import accounting, quantize
from aicache.privacy.entropy import ByteSource
from aicache.privacy.noise import discrete_gaussian
from aicache.privacy.sampling import Stream
from aicache.producers.vectors import DIAGONAL, triangle_places
from aicache.streams.recommendations import gram, private

DELTA = 1e-6
MEMBERS, THRESHOLD = 5, 3
HONEST_SHARE = 0.9
"""Of the clients that add noise, assumed to be honest."""
SEED = bytes(range(32))  # the same noise each time: figures can be compared

Sparse: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Places of a vector that are not zero, and what stands there."""


class Rounds:
    """Sums over clients, within one budget.

    Args:
        epsilon: of all rounds together, at `DELTA`; 0: no noise.
        noise: `committee` or `clients`: who adds it.
        entropy: for rounding and noise.
    """

    def __init__(self, epsilon: float, noise: str, entropy: ByteSource) -> None:
        self.epsilon, self.noise, self.entropy = epsilon, noise, entropy

    def opened(self, clients: Iterator[Sparse], length: int, multiplier: float) -> tuple[NDArray[np.float64], float]:
        """The sum that opens, divided by the scale, and the standard deviation of the noise in it.

        Args:
            clients: the vector of each.
            length: of the vectors.
            multiplier: σ in units of the sensitivity; what is planned for the sum.
        """
        total, n = clipped_sum(clients, length, self.entropy)
        if not self.epsilon:
            return total / private.SCALE, 0.0
        honest = math.floor(HONEST_SHARE * n) if self.noise == accounting.CLIENTS else 0
        sigma = multiplier * quantize.sensitivity(private.CLIP, private.SCALE, length)
        share = accounting.share_sigma(self.noise, sigma, MEMBERS, THRESHOLD, honest)
        if self.noise == accounting.COMMITTEE:
            for _ in range(MEMBERS):
                total += discrete_gaussian(share, length, self.entropy)
            present = share * math.sqrt(MEMBERS)
        else:
            present = share * math.sqrt(n)
            total += discrete_gaussian(present, length, self.entropy)
        return total / private.SCALE, present / private.SCALE


def clipped_sum(
    clients: Iterator[Sparse],
    length: int,
    entropy: ByteSource,
    clip: float = private.CLIP,
    scale: float = private.SCALE,
) -> tuple[NDArray[np.int64], int]:
    """The integer sum of all clients' vectors, each shortened, scaled and rounded as `quantize` does it; and how many there were."""
    total, n = np.zeros(length, dtype=np.int64), 0
    bound = quantize.sensitivity(clip, scale, length) ** 2
    stream = Stream(entropy(32))
    for places, values in clients:
        n += 1
        scaled = quantize.clip_l2(values, clip) * scale
        floor = np.floor(scaled)
        for _ in range(quantize.DRAWS_MAX):
            words = np.frombuffer(stream(4 * len(scaled)), "<u4")
            rounded = (floor + (words < (scaled - floor) * 2.0**32)).astype(np.int64)
            if int(rounded @ rounded) <= bound:
                break
        total[places] += rounded
    return total, n


def triangles(clients: Sequence[Sequence[Sequence[int]]], labels: int) -> Iterator[Sparse]:
    """The vector of pairs of each client, from baskets of numbers below `labels`."""
    for baskets in clients:
        parts = []
        for basket in baskets:
            known = np.unique(np.array(basket, dtype=np.int64))
            first, second = np.triu_indices(len(known))
            parts.append(
                (triangle_places(known[first], known[second], labels), np.where(first == second, DIAGONAL, 1.0))
            )
        yield _added(parts)


def histograms(clients: Sequence[Sequence[Sequence[int]]]) -> Iterator[Sparse]:
    """How often each number occurred, for each client."""
    for baskets in clients:
        yield _added([(np.array(basket, dtype=np.int64), np.ones(len(basket))) for basket in baskets])


def _added(parts: list[Sparse]) -> Sparse:
    places, inverse = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    return places, np.bincount(inverse, np.concatenate([part[1] for part in parts]), len(places))


def learned(
    clients: Sequence[Sequence[Sequence[int]]], items: int, epsilon: float, noise: str
) -> tuple[list[int], gram.Solved]:
    """The vocabulary and the weights over it, from one round of pairs, after one of a histogram where the list is long.

    Args:
        clients: the baskets of each, as numbers below `items`; nobody comes twice.
        items: how many there are: their list is public.
        epsilon: for all that a client gives, at `DELTA`; 0: no noise.
        noise: who adds it.
    """
    rounds = Rounds(epsilon, noise, Stream(SEED))
    numbers = list(range(items))
    multiplier = accounting.noise_multiplier(epsilon, DELTA) if epsilon else 0.0
    if items > private.LABELS_ROUND:
        first, multiplier = private.multipliers(epsilon, DELTA) if epsilon else (0.0, 0.0)
        counts, sigma = rounds.opened(histograms(clients), items, first)
        numbers = [int(name) for name in private.vocabulary([str(n) for n in numbers], counts, sigma)]
    place = {number: at for at, number in enumerate(numbers)}
    within = [[[place[n] for n in basket if n in place] for basket in baskets] for baskets in clients]
    within = [kept for baskets in within if (kept := [basket for basket in baskets if basket])]
    total, sigma = rounds.opened(triangles(within, len(numbers)), len(numbers) * (len(numbers) + 1) // 2, multiplier)
    return numbers, gram.solve(total, len(numbers), sigma)


class PrivateTable:
    """Answers from the tables that private rounds gave.

    Args:
        epsilon, noise: see `learned`.
        clients: baskets are dealt to so many in turn; 0: each basket is a client.
        learns: how many baskets are learned before the one table is made; 0: all.
    """

    def __init__(self, epsilon: float, noise: str, clients: int, learns: int) -> None:
        self.epsilon, self.noise, self.clients, self.learns = epsilon, noise, clients, learns
        self.baskets: list[list[int]] = []
        self.weights = np.zeros((0, 0), dtype=np.float32)
        self.popularity = np.zeros(0, dtype=np.float32)

    @property
    def ready(self) -> bool:
        """Whether there is a table."""
        return len(self.weights) > 0

    def learn_basket(self, numbers: list[int]) -> None:
        """One more basket; the last one that is learned makes the table."""
        if not self.ready:
            self.baskets.append(numbers)
            if len(self.baskets) == self.learns:
                self.settle()

    def settle(self) -> None:
        """Make the table."""
        if self.ready or not self.baskets:
            return
        items = 1 + max(itertools.chain.from_iterable(self.baskets))
        dealt = (
            [self.baskets[start :: self.clients] for start in range(self.clients)]
            if self.clients
            else [[b] for b in self.baskets]
        )
        numbers, solved = learned(dealt, items, self.epsilon, self.noise)
        self.popularity = np.zeros(items, dtype=np.float32)
        self.popularity[numbers] = solved.popularity
        self.weights = np.zeros((items, items), dtype=np.float32)
        self.weights[np.ix_(numbers, numbers)] = solved.weights
        self.baskets = []

    def scores(self, context: list[int], size: int) -> NDArray[np.float32]:
        """Weights of what is at hand, added up; popularity where they say nothing."""
        known = [number for number in context if number < len(self.weights)]
        scores = np.full(size, -np.inf, dtype=np.float32)
        scores[: len(self.popularity)] = self.weights[known].sum(axis=0) + 1e-3 * self.popularity
        return scores
