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
    vocabulary, conditional = model.vocabulary, model.neighbours.conditional
    known = [(other, number) for other in dict.fromkeys(at_hand) for number in vocabulary.known([other])]
    found = []
    for item in items:
        weights = [
            (weight, other)
            for wanted in vocabulary.known([item])
            for other, number in known
            if (weight := conditional(number, wanted)) >= WEIGHT_MIN
        ]
        weights.sort(key=lambda pair: (-pair[0], pair[1]))
        found.append([(other, weight) for weight, other in weights[:REASONS_MAX]])
    return found
