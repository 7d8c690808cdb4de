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
    task: str = "",
    guarantee: Guarantee | None = None,
) -> ItemTable:
    """The row of an item: its neighbours farthest from zero, the highest weight first.

    Args:
        deployment: whose table it is.
        item: the item at hand.
        version: rises with each change.
        popularity: the item's share of all occurrences.
        weights: how much it speaks for others (below zero: against them).
        task: the task of pairs that it was solved from; empty: learned from usage.
        guarantee: of that task.

    Returns:
        A row whose weights are off by at most half a step of 1/255 of their range.

    Raises:
        LocalError: a weight or the popularity is not finite.
    """
    if not math.isfinite(popularity) or not all(map(math.isfinite, weights.values())):
        raise LocalError("weights and popularity are finite", got="NaN or infinity", needed="finite numbers")
    heavy = sorted(
        ((name, weight) for name, weight in weights.items() if weight), key=lambda pair: (-abs(pair[1]), pair[0])
    )
    kept: list[tuple[str, float]] = []
    size = len(item.encode())
    for name, weight in heavy[:NEIGHBOURS_MAX]:
        size += len(name.encode()) + 4
        if size > ROW_BYTES_MAX:
            break
        kept.append((name, weight))
    kept.sort(key=lambda pair: (-pair[1], pair[0]))
    values = np.array([weight for _, weight in kept])
    low = min(0.0, float(values.min())) if kept else 0.0
    scale = max(0.0, float(values.max())) - low if kept else 0.0
    levels = np.rint((values - low) / scale * LEVELS) if kept else values
    return ItemTable(
        deployment=deployment,
        item=item,
        version=version,
        popularity=popularity,
        neighbours=[name for name, _ in kept],
        weights=levels.astype(np.uint8).tobytes(),
        scale=scale,
        guarantee=guarantee,
        low=low,
        task=task,
    )
