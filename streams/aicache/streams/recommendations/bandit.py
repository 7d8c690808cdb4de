"""A contextual bandit that puts the head of a ranked list in another order.

What a person takes depends on where it stands: P(taken at k) = examined(k) · appeal(item, situation), the position-based model
(Richardson et al., WWW 2007). The appeal is linear in features of rank, item and situation, learned by a Kalman filter with a
diagonal covariance; the order is by the upper end of its interval (LinUCB; Li et al., WWW 2010, with one model for all items,
so that a new item begins with what the ranker says of it). What a position is worth is estimated from orders that were drawn.

Exploration is bounded: the same items are named whatever happens, only the first `HEAD` change places, and another order than the
chosen one is shown in a share `epsilon` of the answers alone. Each item's probability at each place is known. What is drawn comes from a
digest of the place in the log: a replay draws the same.
Memory: 8 · `SLOTS` bytes. Cost of an order: some 10 µs an item of the head. Pure.
"""

import hashlib
import math
import zlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

HEAD = 5
"""Ranks that may change places."""
SLOTS = 1 << 16
"""Weights; features share them by hashing."""
PRIOR_VARIANCE = 0.02
VARIANCE_MIN = 2e-5
"""Keeps the weights following what changes."""
NOISE = 0.1
RANK_WEIGHT = 0.1
"""What the ranker's order is worth before anything has been learned."""
EXAMINED_MIN = 0.05
CURVE = tuple(1.0 / math.log2(2 + rank) for rank in range(HEAD))
"""How far people look, before anything is known."""
CURVE_TAKEN = 50.0
"""Items taken for which that guess stands."""

Features: TypeAlias = list[tuple[int, float]]


def features(situation: Sequence[str], item: str, rank: int, share: float) -> Features:
    """What the appeal of an item depends on.

    Args:
        situation: attributes, as `language:python`.
        item: its name.
        rank: the ranker's, from 0.
        share: the ranker's probability of it among the head.

    Returns:
        Slots with their values.
    """
    namespace = item.partition(":")[0]
    own = [(f"{namespace}|bias", 1.0), (f"{namespace}|rank", 1.0 / (1 + rank)), (f"{namespace}|share", share)]
    names = [item, *[f"{item}|{attribute}" for attribute in situation]]
    found = [(zlib.crc32(name.encode()) % SLOTS, value) for name, value in own]
    return found + [(zlib.crc32(name.encode()) % SLOTS, 1.0) for name in names]


class Appeal:
    """How likely an item is taken where it is looked at.

    Args:
        width: standard deviations by which what is uncertain is preferred.
    """

    def __init__(self, width: float = 1.0) -> None:
        self.width = width
        self.mean: dict[int, float] = {}
        self.variance: dict[int, float] = {}

    def expected(self, found: Features) -> tuple[float, float]:
        """Mean and variance of the appeal."""
        mean = variance = 0.0
        for slot, value in found:
            mean += value * self.mean.get(slot, 0.0)
            variance += value * value * self.variance.get(slot, PRIOR_VARIANCE)
        return mean, variance

    def upper(self, found: Features, rank: int) -> float:
        """By what items are ordered: the upper end of the interval, and the ranker's order on top."""
        mean, variance = self.expected(found)
        return mean + RANK_WEIGHT / (1 + rank) + self.width * math.sqrt(variance)

    def learn(self, found: Features, rank: int, taken: float, examined: float) -> list[int]:
        """Learn whether an item was taken; gives the slots that changed.

        Args:
            found: its features.
            rank: the ranker's.
            taken: 1 or 0.
            examined: how likely it was looked at.
        """
        mean, variance = self.expected(found)
        error = taken - examined * (mean + RANK_WEIGHT / (1 + rank))
        total = NOISE + examined * examined * variance
        for slot, value in found:
            own = self.variance.get(slot, PRIOR_VARIANCE)
            gain = own * examined * value / total
            self.mean[slot] = self.mean.get(slot, 0.0) + gain * error
            self.variance[slot] = max(own - gain * examined * value * own, VARIANCE_MIN)
        return list(dict.fromkeys(slot for slot, _ in found))


class Examination:
    """How likely each rank of the head is looked at, against the first one.

    Each item taken counts by (1/HEAD) / p, with p its probability at its place: the mean over answers is then what that rank
    would bring if every order were equally likely, whatever stood there, so that the ratio of two ranks is that of their being
    looked at (Joachims, Swaminathan, Schnabel, WSDM 2017, section 5).
    """

    def __init__(self) -> None:
        self.taken = np.zeros(HEAD)
        self.weight = np.zeros(HEAD)
        self.number = 0.0

    def learn(self, rank: int, propensity: float, taken: float) -> None:
        """What was shown at a rank with this probability was taken, or not."""
        weight = 1.0 / (HEAD * propensity)
        self.weight[rank] += weight
        self.taken[rank] += weight * taken
        self.number += taken

    def curve(self) -> list[float]:
        """For each rank of the head; never above 1."""
        rates = self.taken / np.maximum(self.weight, 1.0)
        if rates[0] <= 0:
            return list(CURVE)
        mixed = (self.number * rates / rates[0] + CURVE_TAKEN * np.array(CURVE)) / (self.number + CURVE_TAKEN)
        return [float(value) for value in np.clip(mixed, EXAMINED_MIN, 1.0)]


def best_order(appeal: Appeal, found: Sequence[Features]) -> list[int]:
    """Ranks of the head, the most promising first; ties keep the ranker's order."""
    return sorted(range(len(found)), key=lambda rank: (-appeal.upper(found[rank], rank), rank))


def drawn(seed: str, chosen: Sequence[int], other: Sequence[int], epsilon: float) -> list[int]:
    """The order to show: the one chosen, but in a share `epsilon` / 2 of all seeds the other one, and in as many any, equally likely.

    The other one is what the chosen one is compared with: shown outright, it is estimated from a tenth of the answers that any order
    would take.
    """
    digest = hashlib.blake2b(seed.encode(), digest_size=16).digest()
    place = int.from_bytes(digest[:8], "big") / 2.0**64
    if place >= epsilon:
        return list(chosen)
    if place >= epsilon / 2:
        return list(other)
    left, result = sorted(chosen), []
    number = int.from_bytes(digest[8:], "big") % math.factorial(len(left))
    while left:
        number, at = divmod(number, len(left))
        result.append(left.pop(at))
    return result


def propensity(chosen: Sequence[int], other: Sequence[int], at: int, rank: int, epsilon: float) -> float:
    """The probability that `drawn` puts a rank of the ranker's at a place."""
    return (1.0 - epsilon) * (chosen[at] == rank) + epsilon / 2 * (other[at] == rank) + epsilon / 2 / len(chosen)


def epsilon_of(answers: int, start: float, least: float) -> float:
    """The share of answers that is drawn, after so many: falls with the root, never below `least`."""
    return max(least, start / math.sqrt(1.0 + answers / 1_000.0))


__all__ = [
    "HEAD",
    "Appeal",
    "Examination",
    "Features",
    "best_order",
    "drawn",
    "epsilon_of",
    "features",
    "propensity",
]
