"""What a model knows of single items, in forms that clients can put together again.

A row counts what came with an item and right after it, with the weights of the linear autoencoder beside it. What no row can say is in
the item's vectors. A client that has both asks the same parts of the combination as the worker does, but for the sessions: those are
people's, and stay. Pure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aicache.schemas.records import ItemVectors, TableWeights
from aicache.schemas.tables import PIECE, quantized
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of

NEIGHBOURS_MAX = 128
LINEAR_KEPT = 80
"""Neighbours that have a place for their linear weight, however seldom they came."""
KEPT = (2, 3, 4, 5, 6, 7, 8, 9, 10)
"""Those of the combination's features that clients have: neighbours at the slowest speed, and all but the votes of sessions."""
PIECES = 12
"""Pieces of vectors in one publication: half of them the busiest, half in turn."""


@dataclass(frozen=True, slots=True, eq=False)
class Distilled:
    """The row of one item.

    Attributes:
        count: how often it came.
        after_count: the same, faded as what came after it.
        numbers: its neighbours, shape (k,).
        counts: how often each came with it, shape (k,).
        after: how often each came right after it, shape (k,).
        linear: what the item adds for each where others are at hand too, shape (k,).
    """

    count: float
    after_count: float
    numbers: NDArray[np.int64]
    counts: NDArray[np.float32]
    after: NDArray[np.float32]
    linear: NDArray[np.float32]


def distil(model: Combination, number: int) -> Distilled:
    """The row of an item. Cost: a few passes over all items, no question."""
    size = len(model.vocabulary)
    together, after = np.zeros((2, size), dtype=np.float32)
    linear = np.zeros(size, dtype=np.float32)
    after_count = 0.0
    if namespace_of(model.vocabulary.names[number]) in ATTRIBUTES:  # what goes with a situation is counted apart
        count, within, counts = model.situation.row(number)
        together[within] = counts
    else:
        count, others, counts = model.neighbours.row(number)
        together[others] = counts
        after_count, others, counts = model.transitions.row(number)
        after[others] = counts
        linear = model.ease.scores([number])
        linear[number] = 0.0
    first = _largest(np.abs(linear), LINEAR_KEPT)
    likely = np.maximum(together / max(count, 1.0), after / max(after_count, 1.0))
    likely[first] = 0.0
    chosen = np.concatenate([first, _largest(likely, NEIGHBOURS_MAX - len(first))])
    chosen = chosen[np.lexsort((chosen, -together[chosen]))]
    return Distilled(count, after_count, chosen, together[chosen], after[chosen], linear[chosen])


def _largest(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Where the `k` largest values above zero stand; of equal ones at the edge the earlier."""
    places = np.flatnonzero(values > 0)
    if len(places) > k:
        edge = np.partition(values[places], len(places) - k)[len(places) - k]
        places = places[values[places] >= edge]
    return places[np.argsort(-values[places], kind="stable")[:k]]


def pieces_due(model: Combination, turn: int) -> list[int]:
    """Which pieces of vectors a publication holds: all where they are few."""
    rates = model.neighbours.totals(range(len(model.vocabulary)))[:, 0]
    count = -(-len(rates) // PIECE)
    busy = np.add.reduceat(rates, np.arange(0, len(rates), PIECE)) if count else rates
    half = PIECES // 2
    busiest = np.argsort(-busy, kind="stable")[:half].tolist()
    in_turn = [(turn * half + step) % count for step in range(min(half, count))]
    return sorted({*busiest, *in_turn})


def piece(model: Combination, place: int, deployment: str, partition: int, clock: int) -> ItemVectors | None:
    """The vectors of a piece; None where it has no item that came."""
    names = model.vocabulary.names
    numbers = range(PIECE * place, min(PIECE * (place + 1), len(names)))
    rankable = model.vocabulary.rankable()
    items = [number for number in numbers if rankable[number] and model.neighbours.knows(number)]
    if not items:
        return None
    read, answered, pace, bias = model.factorization.vectors(items)
    (read_levels, read_steps), (answer_levels, answer_steps) = quantized(read), quantized(answered)
    counts = np.hstack([model.neighbours.totals(items), model.transitions.totals(items)])
    return ItemVectors(
        deployment=deployment,
        partition=partition,
        piece=place,
        clock=clock,
        items=[names[number] for number in items],
        input=read_levels,
        output=answer_levels,
        scales=np.stack([read_steps, answer_steps, pace], axis=1).astype("<f4").tobytes(),
        bias=bias.astype("<f4").tobytes(),
        counts=counts.astype("<f4").tobytes(),
    )


def weights(model: Combination, deployment: str, partition: int, clock: int) -> TableWeights:
    """How the model weighs what clients have, where they have no more."""
    return TableWeights(
        deployment=deployment,
        partition=partition,
        clock=clock,
        ordered=model.ordered,
        head=model.ranks_by_head(),
        weights=model.weights_of(KEPT).astype("<f4").tobytes(),
    )
