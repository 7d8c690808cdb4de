"""What a model knows of single items, as rows that clients can add up.

The row of an item is the model's own answer where only that item is at hand: with all that the combination knows, in the form of a
neighbour's row. Beside it stand the weights of the linear autoencoder, which tell most where many items are at hand. Pure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.combination import Combination

NEIGHBOURS_MAX = 128
LINEAR_KEPT = 48
"""Neighbours that have a place for their linear weight, whatever their probability."""


@dataclass(frozen=True, slots=True, eq=False)
class Distilled:
    """The row of one item.

    Attributes:
        numbers: its neighbours, the likeliest first, shape (k,).
        probabilities: how likely each comes next where the item alone is at hand, shape (k,).
        linear: what the item adds for each where others are at hand too, shape (k,).
    """

    numbers: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    linear: NDArray[np.float64]


def distil(model: Combination, number: int) -> Distilled:
    """The row of an item; empty where the model knows of nothing else. Cost: that of one question."""
    allowed = model.vocabulary.rankable()
    allowed[number] = False
    if not allowed.any():
        return Distilled(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    scores = np.where(allowed, model.log_likelihoods([number]), -np.inf).astype(np.float64)
    likely = np.exp(scores - scores.max())
    likely /= likely.sum()
    weights = np.where(allowed, model.ease.scores([number]), 0.0).astype(np.float64)
    first = _largest(np.abs(weights), LINEAR_KEPT)
    rest = _largest(np.where(np.isin(np.arange(len(likely)), first), 0.0, likely), NEIGHBOURS_MAX - len(first))
    chosen = np.concatenate([first, rest])
    chosen = chosen[np.lexsort((chosen, -likely[chosen]))]
    return Distilled(chosen, likely[chosen], weights[chosen])


def _largest(values: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Where the `k` largest values above zero stand; of equal ones at the edge the earlier."""
    places = np.argsort(-values, kind="stable")[:k]
    return places[values[places] > 0]
