"""The sketches of durations that clients send, under the name that the detectors use."""

from aicache.privacy.sketches import (
    ALPHA,
    BUCKET_MIN,
    BUCKETS_MAX,
    GAMMA,
    SECONDS_MAX,
    SECONDS_MIN,
    Sketch,
    count_above,
    merge,
    pack,
    quantile,
    sketch_of,
    unpack,
)

__all__ = [
    "ALPHA",
    "BUCKETS_MAX",
    "BUCKET_MIN",
    "GAMMA",
    "SECONDS_MAX",
    "SECONDS_MIN",
    "Sketch",
    "count_above",
    "merge",
    "pack",
    "quantile",
    "sketch_of",
    "unpack",
]
