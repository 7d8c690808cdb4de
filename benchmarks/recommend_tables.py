"""What a client answers from tables, beside the model that they come from, in recommend.py.

The rows take the way that they take in a deployment: a partition publishes those of items that have changed as often as it does there,
the second level merges them (here of one partition) and quantizes, the client reads and scores. Between two publications the client
knows nothing newer.
"""

import numpy as np
from numpy.typing import NDArray

from aicache.producers.tables import Tables, table_scores
from aicache.schemas.records import ItemTable
from aicache.streams.recommendations import counts
from aicache.streams.recommendations.combination import Combination
from aicache.streams.recommendations.merging import Merging
from aicache.streams.runtime.contract import Batch, Message

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
        self.examples = self.published = self.offset = 0
        self.touched: set[str] = set()
        self.bytes = 0
        self._places = np.zeros(0, dtype=np.int64)

    def told(self, names: list[str]) -> None:
        """The model has learned an example with these items."""
        self.examples += 1
        self.touched.update(names)
        if counts.is_due(self.examples, self.published):
            self.publish()

    def publish(self) -> None:
        """Rows of what has changed go to the client."""
        outputs = counts.rows(self.model, self.touched, DEPLOYMENT, 0, self.examples)
        for output in outputs:
            message = Message(output.topic, 0, self.offset, 0, output.key, output.record)
            self.offset += 1
            for told in self.fold.apply(self.state, Batch(0, [message])).outputs:
                assert isinstance(told.record, ItemTable)
                self.client.apply(told.record)
        self.touched.clear()
        self.published = self.examples
        table = self.client.table()
        known = self.model.vocabulary.known(table.names)
        assert len(known) == len(table.names), "tables name what the model knows"
        self._places = np.array(known, dtype=np.int64)

    def scores(self, names: list[str], size: int) -> NDArray[np.float32]:
        """A score for each of the first `size` numbers of the model's vocabulary; -∞ for what is in no table."""
        table = self.client.table()
        at_hand = [table.numbers[name] for name in names if name in table.numbers]
        result = np.full(max(size, len(self.model.vocabulary)), -np.inf, dtype=np.float32)
        if len(self._places):
            result[self._places] = table_scores(table, at_hand, probabilities=True)
        return result[:size]
