"""Which names of an open vocabulary are heavy: decoding the sum of count sketches, with error bounds.

A count sketch (Charikar, Chen, Farach-Colton 2002) holds no names, so a reader asks for those that it knows: its own packages, its
own error codes. One row's answer is the true count, plus what other names add in the same cell, plus the noise of the round. Signs are
random, so the answer is unbiased and its variance is at most E‖row‖²/width: the second moment of the counts over the width, and the
noise, which are both in the table. By Chebyshev a row is off by more than √(variance / q) with probability under q, and the median
of independent rows only where half of them are. q is chosen so that all candidates together fail with the probability that is asked
for. A privacy threshold is not needed: the noise is in the sum already, and whatever is computed from it is as private.
Pure.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError
from aicache.producers.vectors import sketch_estimate
from aicache.schemas.records import Aggregate, Task

BISECTIONS = 60
CANDIDATES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Heavy:
    """A name that is heavy.

    Attributes:
        name: as it was asked for.
        estimate: how often it occurred, clipped contributions counted.
        error: the true count lies within this of the estimate.
    """

    name: str
    estimate: float
    error: float


def sketch_of(aggregate: Aggregate, task: Task) -> NDArray[np.float64]:
    """The table of an opened count sketch, shape (depth, width), in the task's own unit.

    Args:
        aggregate: of a round.
        task: in the version of that round.

    Raises:
        LocalError: the round is of another kind or version, or nothing was opened.
    """
    cells = task.sketch_depth * task.sketch_width
    fits = (aggregate.task, aggregate.task_version) == (task.task, task.version) and len(aggregate.sum) >= 8 * cells
    if aggregate.kind != "count-sketch" or aggregate.n < 1 or not fits or cells < 1:
        got = (aggregate.kind, aggregate.n, len(aggregate.sum) // 8)
        raise LocalError(
            f"{aggregate.round_id} has no count sketch to read",
            got=got,
            needed="an opened round of a count-sketch task",
        )
    table = np.frombuffer(aggregate.sum, "<i8")[:cells].astype(np.float64) / aggregate.scale
    return table.reshape(task.sketch_depth, task.sketch_width)


def row_failure(depth: int, candidates: int, failure: float) -> float:
    """The largest chance q of one row such that medians over `depth` rows of all candidates fail with at most `failure`."""
    half = (depth + 1) // 2

    def fails(q: float) -> float:
        return candidates * sum(math.comb(depth, k) * q**k * (1 - q) ** (depth - k) for k in range(half, depth + 1))

    low, high = 0.0, 0.5
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if fails(middle) <= failure else (low, middle)
    return low


def error_bound(table: NDArray[np.float64], candidates: int, *, failure: float = 0.01) -> float:
    """Within what all estimates of so many candidates are right, but for a chance of `failure`.

    Args:
        table: shape (depth, width), the sum of the clients' sketches divided by the task's scale.
        candidates: how many names are asked for.
        failure: the chance that any of them is further off, over the choice of hashes and noise.
    """
    depth, width = table.shape
    variance = float((table**2).sum(axis=1).max()) / width
    return math.sqrt(variance / row_failure(depth, candidates, failure))


def heavy_names(
    table: NDArray[np.float64], candidates: Iterable[str], threshold: float, *, failure: float = 0.01
) -> list[Heavy]:
    """The candidates that occurred at least `threshold` times beyond doubt, heaviest first.

    Args:
        table: shape (depth, width), the sum of the clients' sketches divided by the task's scale.
        candidates: names that the reader knows; a name is counted once.
        threshold: how often makes heavy.
        failure: the chance that any statement is wrong.

    Raises:
        LocalError: the table has another form, a number is out of range, or there are too many candidates.
    """
    if not 0 < failure < 1 or not math.isfinite(threshold):
        raise LocalError("failure is above 0 and below 1, threshold finite", got=(failure, threshold), needed=(0, 1))
    if table.ndim != 2 or not np.isfinite(table).all():
        raise LocalError("not a count sketch", got=table.shape, needed="finite numbers, depth × width")
    names = list(dict.fromkeys(candidates))
    if not names:
        return []
    if len(names) > CANDIDATES_MAX:
        raise LocalError("too many candidates", got=len(names), needed=f"at most {CANDIDATES_MAX}")
    depth, width = table.shape
    error = error_bound(table, len(names), failure=failure)
    found = [Heavy(name, sketch_estimate(table, name, depth, width), error) for name in names]
    return sorted((h for h in found if h.estimate - error >= threshold), key=lambda h: (-h.estimate, h.name))
