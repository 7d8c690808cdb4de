"""What a client answers from tables, beside the model that they come from, in recommend.py.

The rows take the way that they take in a deployment: a partition publishes as many of those that have changed, and as often, as the
fold does, the second level merges them (here of one partition) and quantizes, the client reads and scores. Between two publications the
client knows nothing newer.
"""

import numpy as np
from numpy.typing import NDArray

from aicache.producers.tables import Tables, table_scores
from aicache.schemas.records import ItemTable
from aicache.streams.recommendations import counts, logic
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.merging import Merging
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
        self.partition = logic.State(model)
        self.offset = 0
        self._places = np.zeros(0, dtype=np.int64)

    def told(self, names: list[str]) -> None:
        """The model has learned an example with these items."""
        self.partition.examples += 1
        logic._touch(self.partition, [names, []])
        if counts.is_due(self.partition.examples, self.partition.published):
            self.publish()

    def publish(self) -> None:
        """Rows of what has changed go to the client."""
        step = Step()
        logic._publish(self.partition, DEPLOYMENT, 0, step)
        for output in step.outputs:
            message = Message(output.topic, 0, self.offset, 0, output.key, output.record)
            self.offset += 1
            for told in self.fold.apply(self.state, Batch(0, [message])).outputs:
                assert isinstance(told.record, ItemTable)
                self.client.apply(told.record)
        table = self.client.table()
        known = self.model.vocabulary.known(table.names)
        assert len(known) == len(table.names), "tables name what the model knows"
        self._places = np.array(known, dtype=np.int64)

    def settle(self) -> None:
        """Nothing more is learned: in time all rows that have changed are published."""
        self.publish()
        while self.partition.touched:
            self.publish()

    def scores(self, names: list[str], size: int) -> NDArray[np.float32]:
        """A score for each of the first `size` numbers of the model's vocabulary; -∞ for what is in no table."""
        table = self.client.table()
        at_hand = [table.numbers[name] for name in names if name in table.numbers]
        result = np.full(max(size, len(self.model.vocabulary)), -np.inf, dtype=np.float32)
        if len(self._places):
            result[self._places] = table_scores(table, at_hand, probabilities=True)
        return result[:size]
