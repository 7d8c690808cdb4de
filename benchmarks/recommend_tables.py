"""What a client answers from tables, beside the model that they come from, in recommend.py.

The rows take the way that they take in a deployment: a partition publishes as many of those that have changed, and as often, as the
fold does, the second level merges them (here of one partition) and quantizes, the client reads and scores. Between two publications the
client knows nothing newer.
"""

import numpy as np
from numpy.typing import NDArray

from aicache.producers.scoring import table_scores
from aicache.producers.tables import Tables
from aicache.schemas.records import ItemTable, ItemVectors, TableWeights
from aicache.schemas.tables import PIECE
from aicache.streams.recommendations import counts
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.distilled import PIECES
from aicache.streams.recommendations.merging import Merging
from aicache.streams.recommendations.state import State, touch
from aicache.streams.recommendations.telling import publish, publish_vectors
from aicache.streams.runtime.contract import Batch, Message, Step

DEPLOYMENT = "benchmark"


class ClientTables:
    """A client that follows a model's tables.

    Args:
        model: learned by somebody else, or by whoever calls `told` after each example.
    """

    def __init__(self, model: Combination) -> None:
        self.model = model
        self.fold = Merging()
        self.state = self.fold.empty(0)
        self.client = Tables(DEPLOYMENT)
        self.partition = State(model)
        self.offset = 0
        self._places: NDArray[np.int64] | None = None  # of the table's items, when somebody has asked for them

    def told(self, names: list[str]) -> None:
        """The model has learned an example with these items."""
        self.partition.examples += 1
        touch(self.partition, [names, []])
        if counts.is_due(self.partition.examples, self.partition.published):
            self.publish()
        if self.partition.examples - self.partition.vectors >= counts.VECTORS_EVERY:
            self.publish_vectors()

    def publish(self) -> None:
        """Rows of what has changed go to the client."""
        step = Step()
        publish(self.partition, DEPLOYMENT, 0, step)
        self._hand_over(step)

    def publish_vectors(self) -> None:
        """Vectors whose turn it is go to the client."""
        step = Step()
        publish_vectors(self.partition, DEPLOYMENT, 0, step)
        self._hand_over(step)

    def _hand_over(self, step: Step) -> None:
        for output in step.outputs:
            message = Message(output.topic, 0, self.offset, 0, output.key, output.record)
            self.offset += 1
            for told in self.fold.apply(self.state, Batch(0, [message])).outputs:
                assert isinstance(told.record, ItemTable | ItemVectors | TableWeights)
                self.client.apply(told.record)
        self._places = None

    def settle(self) -> None:
        """Nothing more is learned: in time all rows that have changed are published, and vectors have their turn."""
        self.publish()
        while self.partition.touched:
            self.publish()
        for _ in range(1 + 2 * len(self.model.vocabulary) // (PIECE * PIECES)):
            self.publish_vectors()

    def scores(self, names: list[str], numbers: dict[str, int], size: int) -> NDArray[np.float32]:
        """A score for each of `size` items, in the order of their numbers; -∞ for what is in no table."""
        table = self.client.table()
        if self._places is None:
            self._places = np.array([numbers[name] for name in table.names], dtype=np.int64)
        at_hand = [table.numbers[name] for name in names if name in table.numbers]
        result = np.full(size, -np.inf, dtype=np.float32)
        if len(self._places):
            result[self._places] = table_scores(table, at_hand, probabilities=True)
        return result
