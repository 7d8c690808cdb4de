"""What one partition tells of its counts, so that another processor can add partitions up.

Rows of items that have changed are published every so many examples: soon while little is known, later every `EVERY`, and at most once
in `PERIOD_MS` of the log's time: however fast records come, rows take a bounded share of a core. The number of the last publication is
kept, and the examples since then are in the changelog anyway: a worker that starts again publishes the same.
A row says how likely others come next where its item alone is at hand, as the whole model has it, in counts out of those of the item: what
has been seen more often weighs more where partitions are merged. Cost of a publication: a question a row. Pure.
"""

from aicache.schemas import topics
from aicache.schemas.records import ItemCount
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.distilled import distil
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of
from aicache.streams.runtime.contract import Output

FIRST, EVERY = 50, 1_000
"""Examples between two publications: a sixteenth of those before, within these bounds. A client knows nothing newer than the last."""

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


def _row(model: Combination, name: str, number: int, deployment: str, partition: int, clock: int) -> ItemCount:
    if (
        namespace_of(name) in ATTRIBUTES
    ):  # what goes with the situation is counted apart; an attribute itself never comes
        _, _, counts = model.situation.row(number)
        count = float(counts.sum())
    else:
        count, _, _ = model.neighbours.row(number)
    found = distil(model, number)
    return ItemCount(
        deployment=deployment,
        item=name,
        partition=partition,
        clock=clock,
        count=count,
        neighbours=[model.vocabulary.names[other] for other in found.numbers],
        counts=(found.probabilities * count).astype("<f4").tobytes(),
        linear=found.linear.astype("<f4").tobytes(),
    )
