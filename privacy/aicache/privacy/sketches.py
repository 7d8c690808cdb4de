"""Durations as mergeable sketches: DDSketch (Masson, Rim, Lee, VLDB 2019) as a table of buckets.

A duration x > 0 in seconds lies in bucket ⌈log_γ x⌉ with γ = (1 + α)/(1 − α), so a quantile is off by at most α of itself.
Merging is adding. The bytes are float64 pairs (bucket, count), little-endian, buckets rising. Pure.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from aicache.privacy.errors import LocalError, RemoteError

ALPHA = 0.02
GAMMA = (1 + ALPHA) / (1 - ALPHA)
SECONDS_MIN, SECONDS_MAX = 1e-6, 1e6
BUCKET_MIN = math.ceil(math.log(SECONDS_MIN, GAMMA))
BUCKET_MAX = math.ceil(math.log(SECONDS_MAX, GAMMA))
BUCKETS_MAX = BUCKET_MAX - BUCKET_MIN + 1
COUNT_MAX = 1e12

Sketch = dict[float, float]


def sketch_of(durations_s: Iterable[float]) -> Sketch:
    """The sketch of some durations.

    Args:
        durations_s: each positive and at most `SECONDS_MAX`; shorter than `SECONDS_MIN` counts as that.

    Raises:
        LocalError: a duration is negative, not a number or absurd.
    """
    result: Sketch = {}
    for seconds in durations_s:
        if not 0 <= seconds <= SECONDS_MAX:
            raise LocalError("a duration is out of range", got=seconds, needed=f"0 … {SECONDS_MAX:g} s")
        bucket = float(math.ceil(math.log(max(seconds, SECONDS_MIN), GAMMA)))
        result[bucket] = result.get(bucket, 0.0) + 1
    return result


def pack(sketch: Mapping[float, float]) -> bytes:
    """The sketch's bytes; empty where it is."""
    return np.array(sorted(sketch.items()), dtype="<f8").tobytes()


def unpack(data: bytes) -> Sketch:
    """The sketch again.

    Raises:
        RemoteError: `bad-sketch`: not pairs, too many, a bucket that no duration has, twice the same, or an impossible count.
    """
    if len(data) % 16 or len(data) > 16 * BUCKETS_MAX:
        raise RemoteError("a sketch has the wrong size", reason="bad-sketch", got=len(data), needed="pairs of float64")
    pairs = np.frombuffer(data, dtype="<f8").reshape(-1, 2)
    buckets, counts = pairs[:, 0], pairs[:, 1]
    if not ((buckets >= BUCKET_MIN) & (buckets <= BUCKET_MAX) & (buckets == np.floor(buckets))).all():
        raise RemoteError(
            "a sketch has buckets that no duration has", reason="bad-sketch", needed="whole numbers in range"
        )
    if not ((counts > 0) & (counts <= COUNT_MAX)).all() or len(set(buckets.tolist())) < len(buckets):
        raise RemoteError("a sketch has counts that cannot be", reason="bad-sketch", needed="above 0, one a bucket")
    return {float(bucket): float(count) for bucket, count in pairs}


def merge(sketches: Iterable[Mapping[float, float]]) -> Sketch:
    """The sketch of all durations together."""
    result: Sketch = {}
    for sketch in sketches:
        for bucket, count in sketch.items():
            result[bucket] = result.get(bucket, 0.0) + count
    return result


def quantile(sketch: Mapping[float, float], q: float) -> float:
    """The duration in seconds below which a share q of them lies; 0 where there are none."""
    total = sum(sketch.values())
    reached = 0.0
    for bucket, count in sorted(sketch.items()):
        reached += count
        if reached >= q * total:
            return 2 * GAMMA**bucket / (GAMMA + 1)
    return 0.0


def count_above(sketch: Mapping[float, float], seconds: float) -> float:
    """How many durations lie in buckets above that of `seconds`."""
    if seconds <= 0:
        return sum(sketch.values())
    edge = math.ceil(math.log(seconds, GAMMA))
    return sum(count for bucket, count in sketch.items() if bucket > edge)
