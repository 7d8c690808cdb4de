"""Why an item is recommended: the items at hand that most often came with it. Pure."""

from collections.abc import Sequence

import numpy as np

from aicache.streams.recommendations.combination import Combination

REASONS_MAX = 3
WEIGHT_MIN = 0.01


def reasons(model: Combination, items: Sequence[str], at_hand: Sequence[str]) -> list[list[tuple[str, float]]]:
    """The items at hand that speak most for each of some items.

    Args:
        model: what ranked them.
        items: what was recommended.
        at_hand: what the client has used lately.

    Returns:
        For each item at most `REASONS_MAX` pairs (item at hand, how often in 1 the item came with it), heaviest first; none
        where the item is merely popular.
    """
    vocabulary = model.vocabulary
    at_hand = [other for other in dict.fromkeys(at_hand) if other in vocabulary]
    known = [place for place, item in enumerate(items) if item in vocabulary]
    wanted = vocabulary.known(items[place] for place in known)
    weights = model.neighbours.conditionals(vocabulary.known(at_hand), wanted)
    least = np.full(len(wanted), WEIGHT_MIN, dtype=np.float32)
    if len(at_hand) > REASONS_MAX:
        np.maximum(least, np.partition(weights, -REASONS_MAX, axis=0)[-REASONS_MAX], out=least)
    heavy = weights >= least
    found: list[list[tuple[str, float]]] = [[] for _ in items]
    for (row, column), weight in zip(np.argwhere(heavy).tolist(), weights[heavy].tolist(), strict=True):
        found[known[column]].append((at_hand[row], weight))
    return [sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:REASONS_MAX] for pairs in found]
