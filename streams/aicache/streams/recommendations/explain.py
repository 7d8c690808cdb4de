"""Why an item is recommended: the items at hand that most often came with it. Pure."""

from collections.abc import Sequence

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
    at_hand = [other for other in dict.fromkeys(at_hand) if other in model.vocabulary]
    weights = model.neighbours.conditionals(model.vocabulary.known(at_hand), model.vocabulary.known(items)).T.tolist()
    rows = dict(zip((item for item in items if item in model.vocabulary), weights, strict=True))
    found = []
    for item in items:
        pairs = [pair for pair in zip(at_hand, rows.get(item, ()), strict=False) if pair[1] >= WEIGHT_MIN]
        found.append(sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:REASONS_MAX])
    return found
