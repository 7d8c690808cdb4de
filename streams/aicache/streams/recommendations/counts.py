"""What one partition tells of its counts, so that another processor can add partitions up.

Rows of items that have changed are published every so many examples: soon while little is known, later every `EVERY`, and at most once
in `PERIOD_MS` of the log's time: however fast records come, rows take a bounded share of a core. The number of the last publication is
kept, and the examples since then are in the changelog anyway: a worker that starts again publishes the same.
A row counts what came with its item. Vectors and weights are told more often, in pieces that take turns. Cost of a publication: a few
passes over all items a row, a copy of a piece. Pure.
"""

from aicache.schemas import topics
from aicache.schemas.records import ItemCount
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.distilled import distil, piece, pieces_due, weights
from aicache.streams.runtime.contract import Output

FIRST, EVERY = 50, 1_000
"""Examples between two publications: a sixteenth of those before, within these bounds. A client knows nothing newer than the last."""
VECTORS_EVERY = 100
"""Examples between two publications of vectors."""
PERIOD_MS = 5_000


def is_due(examples: int, published: int) -> bool:
    """Whether so many examples, of which so many have been published, are worth a publication."""
    return examples - published >= min(max(published // 16, FIRST), EVERY)


def rows(model: Combination, names: set[str], deployment: str, partition: int, clock: int) -> list[Output]:
    """The rows of some items, in the order of their names."""
    outputs = []
    for name in sorted(names):
        for number in model.vocabulary.known([name]):
            record = _row(model, name, number, deployment, partition, clock)
            outputs.append(Output(topics.COUNTS.name, f"{name}/{partition}".encode(), record))
    return outputs


def vectors(model: Combination, deployment: str, partition: int, clock: int, turn: int) -> list[Output]:
    """Some pieces of the items' vectors, those whose turn it is among them, and the weights."""
    outputs = [
        Output(topics.COUNTS.name, f"weights/{partition}".encode(), weights(model, deployment, partition, clock))
    ]
    for number in pieces_due(model, turn):
        record = piece(model, number, deployment, partition, clock)
        if record is not None:
            outputs.append(Output(topics.COUNTS.name, f"vectors/{partition}/{number}".encode(), record))
    return outputs


def _row(model: Combination, name: str, number: int, deployment: str, partition: int, clock: int) -> ItemCount:
    found = distil(model, number)
    return ItemCount(
        deployment=deployment,
        item=name,
        partition=partition,
        clock=clock,
        count=found.count,
        neighbours=[model.vocabulary.names[other] for other in found.numbers],
        counts=found.counts.astype("<f4").tobytes(),
        linear=found.linear.astype("<f4").tobytes(),
        after=found.after.astype("<f4").tobytes() if found.after.any() else b"",
        after_count=found.after_count,
    )
