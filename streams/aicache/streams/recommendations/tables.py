"""Tables that clients score with: one row an item, quantized to a byte a neighbour, written when it has changed.

A row says how much its item, at hand, speaks for or against others. The topic is compacted by item, so it always holds the whole
table, and what a reader has not seen yet is exactly the difference to what it has.
Invariant: a row takes at most `ROW_BYTES_MAX`, whatever the names. Pure: the same weights give the same bytes.
"""

import math
from collections.abc import Mapping

import numpy as np

from aicache.privacy.errors import LocalError
from aicache.schemas.records import Guarantee, ItemTable

NEIGHBOURS_MAX = 128
LINEAR_KEPT = 80
ROW_BYTES_MAX = 48_000
"""Names and weights of a row; its guarantee comes on top."""
LEVELS = 255


def key_of(item: str, task: str = "") -> bytes:
    """The key of a row: rows that different tasks were solved to stand beside each other."""
    return (f"{task}\0{item}" if task else item).encode()


def encode_row(
    deployment: str,
    item: str,
    version: int,
    popularity: float,
    weights: Mapping[str, float],
    *,
    linear: Mapping[str, float] | None = None,
    after: Mapping[str, float] | None = None,
    counts: tuple[float, float] = (0.0, 0.0),
    task: str = "",
    guarantee: Guarantee | None = None,
) -> ItemTable:
    """The row of an item: its neighbours farthest from zero, the highest weight first.

    Args:
        deployment: whose table it is.
        item: the item at hand.
        version: rises with each change.
        popularity: the item's share of all occurrences.
        weights: from usage: how likely others come with it; from a task: how much it speaks for them (below zero: against).
        linear: from usage: how much it speaks for others where several items are at hand; `LINEAR_KEPT` of these have a place.
        after: from usage: how likely others come right after it.
        counts: from usage: how often the item came, and the same as `after` counts it.
        task: the task of pairs that it was solved from; empty: learned from usage.
        guarantee: of that task.

    Returns:
        A row whose weights are off by at most half a step of 1/255 of their range.

    Raises:
        LocalError: a weight or the popularity is not finite.
    """
    others, next_ = linear or {}, after or {}
    if not all(map(math.isfinite, (popularity, *counts, *weights.values(), *others.values(), *next_.values()))):
        raise LocalError("weights and popularity are finite", got="NaN or infinity", needed="finite numbers")
    kept: list[str] = []
    size = len(item.encode())
    first = _heaviest(others)[:LINEAR_KEPT]
    likely = {name: max(weights.get(name, 0.0), next_[name]) for name in next_}
    for name in list(dict.fromkeys([*first, *_heaviest({**weights, **likely})]))[:NEIGHBOURS_MAX]:
        size += len(name.encode()) + 6
        if size > ROW_BYTES_MAX:
            break
        kept.append(name)
    kept.sort(key=lambda name: (-weights.get(name, 0.0), name))
    low, scale, levels = _quantized([weights.get(name, 0.0) for name in kept])
    linear_low, linear_scale, linear_levels = _quantized([others.get(name, 0.0) for name in kept] if others else [])
    _, after_scale, after_levels = _quantized([next_.get(name, 0.0) for name in kept] if next_ else [])
    return ItemTable(
        deployment=deployment,
        item=item,
        version=version,
        popularity=popularity,
        neighbours=kept,
        weights=levels,
        scale=scale,
        guarantee=guarantee,
        low=low,
        task=task,
        linear=linear_levels,
        linear_low=linear_low,
        linear_scale=linear_scale,
        count=counts[0],
        after=after_levels,
        after_scale=after_scale,
        after_count=counts[1],
    )


def _heaviest(weights: Mapping[str, float]) -> list[str]:
    """Names in the order of how far from zero they are; ties by name."""
    return sorted((name for name, weight in weights.items() if weight), key=lambda name: (-abs(weights[name]), name))


def _quantized(values: list[float]) -> tuple[float, float, bytes]:
    """The weight of byte 0, the range, and a byte each; zero is within the range."""
    low, high = min([0.0, *values]), max([0.0, *values])
    if low == high:
        return 0.0, 0.0, bytes(len(values))
    levels = np.rint((np.array(values) - low) / (high - low) * LEVELS)
    return low, high - low, levels.astype(np.uint8).tobytes()
