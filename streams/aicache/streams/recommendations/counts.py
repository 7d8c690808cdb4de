"""What one partition tells of its counts, so that another processor can add partitions up.

Rows of items that have changed are published every so many examples: soon while little is known, later every `EVERY`. The number of
the last publication is kept, and the examples since then are in the changelog anyway: a worker that starts again publishes the same.
Cost of an example: some tens of microseconds, spread over the rows of a publication. Pure.
"""

import numpy as np

from aicache.schemas import topics
from aicache.schemas.records import ItemCount
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of
from aicache.streams.runtime.contract import Output

FIRST, EVERY = 50, 5_000
"""Examples between two publications: a quarter of those before, within these bounds."""
NEIGHBOURS_MAX = 128
"""Neighbours of a row: what is left out came less often than all of these."""


def is_due(examples: int, published: int) -> bool:
    """Whether so many examples, of which so many have been published, are worth a publication."""
    return examples - published >= min(max(published // 4, FIRST), EVERY)


def rows(model: Combination, names: set[str], deployment: str, partition: int, clock: int) -> list[Output]:
    """The rows of some items, in the order of their names."""
    outputs = []
    for name in sorted(names):
        for number in model.vocabulary.known([name]):
            record = _row(model, name, number, deployment, partition, clock)
            outputs.append(Output(topics.COUNTS.name, f"{name}/{partition}".encode(), record))
    return outputs


def _row(model: Combination, name: str, number: int, deployment: str, partition: int, clock: int) -> ItemCount:
    if (
        namespace_of(name) in ATTRIBUTES
    ):  # what goes with the situation is counted apart, and an attribute itself never comes
        _, numbers, counts = model.situation.row(number)
        count = float(counts.sum())
    else:
        count, numbers, counts = model.neighbours.row(number)
    best = np.lexsort((np.array(numbers), -counts))[:NEIGHBOURS_MAX]
    return ItemCount(
        deployment=deployment,
        item=name,
        partition=partition,
        clock=clock,
        count=count,
        neighbours=[model.vocabulary.names[numbers[at]] for at in best],
        counts=counts[best].astype("<f4").tobytes(),
    )
