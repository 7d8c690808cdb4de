"""Why an item is recommended: the items at hand that most often came with it. Pure."""

from collections.abc import Sequence

from aicache.streams.recommendations.combination import Combination

REASONS_MAX = 3
WEIGHT_MIN = 0.01


def reasons(model: Combination, item: str, at_hand: Sequence[str]) -> list[tuple[str, float]]:
    """The items at hand that speak most for an item.

    Args:
        model: what ranked it.
        item: what was recommended.
        at_hand: what the client has used lately.

    Returns:
        At most `REASONS_MAX` pairs (item at hand, how often in 1 the item came with it), heaviest first; empty where the
        item is merely popular.
    """
    known = model.vocabulary.known([item])
    if not known:
        return []
    weights = [
        (other, model.neighbours.conditional(number, known[0]))
        for other in dict.fromkeys(at_hand)
        for number in model.vocabulary.known([other])
    ]
    weights.sort(key=lambda pair: (-pair[1], pair[0]))
    return [(other, weight) for other, weight in weights[:REASONS_MAX] if weight >= WEIGHT_MIN]
