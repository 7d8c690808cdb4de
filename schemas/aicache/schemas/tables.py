"""What tables for clients hold beside rows, decoded: vectors of items, and weights of what rows and vectors say.

Whoever merges and whoever scores read them with the same functions, so what the one lets through the other can use. Pure.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import RemoteError
from aicache.schemas.records import ItemVectors, TableWeights

PARTITIONS_MAX = 8
"""Partitions whose vectors clients have. People are dealt to partitions by their pseudonyms: those say nearly what all would."""
PIECE = 64
"""Items of one record of vectors."""
PIECES_MAX = 1_024
DIMENSION_MAX = 256
SPEEDS = 4
LENGTHS = (0, 1, 2, 3, 4, 8, 16, 32)
"""Lower ends of the lengths of context that share weights."""
FEATURES = ("near", "fast", "middle", "slow", "after", "vectors", "situation", "linear", "log-linear")
"""What is weighed: what came with the items at hand; base rates at three speeds; what came right after them; what vectors say; what came
in the situation; the linear weights added up, and their logarithm."""
ITEM_BYTES_MAX = 1_024
STEPS = 127

FloatArray: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Vectors of some items, decoded.

    Attributes:
        input: what each says where it is at hand, shape (n, dimension).
        output: what each answers to, shape (n, dimension).
        pace: how far one example moves the input of each, in gradients, shape (n,).
        bias: shape (n,).
        counts: how often each came, at three speeds and as part of a sequence, shape (n, 4).
    """

    input: FloatArray
    output: FloatArray
    pace: FloatArray
    bias: FloatArray
    counts: FloatArray


def quantized(vectors: FloatArray) -> tuple[bytes, FloatArray]:
    """A signed byte a coefficient, off by at most half a step, and what a step is, a vector each."""
    steps = np.abs(vectors).max(axis=1, initial=0.0) / np.float32(STEPS)
    levels = np.rint(vectors / np.where(steps > 0, steps, np.float32(1.0))[:, None])
    return levels.astype(np.int8).tobytes(), steps.astype(np.float32)


def vectors_of(record: ItemVectors) -> Vectors:
    """Decode vectors.

    Raises:
        RemoteError: sizes do not fit each other, a number is not finite, or there are too many items.
    """
    n = len(record.items)
    if not (0 < n <= PIECE and 0 <= record.piece < PIECES_MAX and record.partition >= 0 and record.clock >= 0):
        raise RemoteError("a piece has some items and its place", reason="bad-vectors", got=n, needed=f"≤ {PIECE}")
    if len(set(record.items)) != n or max(len(item.encode()) for item in record.items) > ITEM_BYTES_MAX:
        raise RemoteError("items differ and have short names", reason="bad-vectors", got=n)
    sizes = [len(data) for data in (record.input, record.output, record.scales, record.bias, record.counts)]
    if not n <= sizes[0] <= DIMENSION_MAX * n or sizes[0] % n or sizes[1:] != [sizes[0], 12 * n, 4 * n, 4 * SPEEDS * n]:
        raise RemoteError("vectors of a piece have one length", reason="bad-vectors", got=sizes)
    scales, bias, counts = (np.frombuffer(data, dtype="<f4") for data in (record.scales, record.bias, record.counts))
    if not (all(np.isfinite(a).all() for a in (scales, bias, counts)) and (scales >= 0).all() and (counts >= 0).all()):
        raise RemoteError("numbers of vectors are finite", reason="bad-vectors", got=record.piece)
    scales = scales.reshape(n, 3).astype(np.float32)
    both = (np.frombuffer(data, dtype=np.int8).reshape(n, -1) for data in (record.input, record.output))
    read, answered = (levels * scales[:, [side]] for side, levels in enumerate(both))
    bias, counts = bias.astype(np.float32), counts.reshape(n, SPEEDS).astype(np.float32)
    return Vectors(read, answered, scales[:, 2], bias, counts)


def weights_of(record: TableWeights) -> FloatArray:
    """Decode weights: shape (len(LENGTHS), len(FEATURES)).

    Raises:
        RemoteError: the size is another, or a number is not finite.
    """
    if len(record.weights) != 4 * len(LENGTHS) * len(FEATURES) or record.partition < 0 or record.clock < 0:
        raise RemoteError("a weight for each length and feature", reason="bad-weights", got=len(record.weights))
    weights = np.frombuffer(record.weights, dtype="<f4").reshape(len(LENGTHS), len(FEATURES))
    if not (np.isfinite(weights).all() and 0 <= record.ordered <= 1):
        raise RemoteError("weights are finite", reason="bad-weights", got=record.partition)
    return weights.astype(np.float32)
