"""Recommendations on the client itself: tables come in as anybody reads them, and what is asked stays here.

Rows of one item each arrive in any number and order, vectors of several items in pieces, and weights; a later version replaces an
earlier one and a tombstone removes it, so what was applied piece by piece is what a reader of the whole topic has. How they are scored:
scoring.py.
Bounds: `ROWS_MAX` rows a task, `TASKS_MAX` tasks, `NEIGHBOURS_MAX` neighbours a row, vectors of `PARTITIONS_MAX` partitions.
Pure but for a lock: one thread may apply while others ask.
"""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from aicache.privacy.errors import RemoteError
from aicache.producers.scoring import WINDOW, FloatArray, Partition, Row, Table, Weights, table_scores
from aicache.schemas.records import ItemTable, ItemVectors, Reason, Recommended, TableWeights
from aicache.schemas.tables import PARTITIONS_MAX, vectors_of, weights_of

ROWS_MAX = 65_536
TASKS_MAX = 64
NEIGHBOURS_MAX = 512
REASONS = 3
LEVELS = 255


class Tables:
    """The tables of a deployment, as far as they have been read.

    Args:
        deployment: rows of another one are refused.

    Examples:
        >>> tables = Tables("d")
        >>> tables.apply(ItemTable("d", "pypi:a", 1, 0.5, ["pypi:b"], bytes([255]), 0.9, None))
        >>> [found.item for found in tables.rank(["pypi:a"], "pypi")]
        ['pypi:b']
    """

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self._tables: dict[str, Table] = {}
        self._lock = threading.Lock()

    def apply(self, record: ItemTable | ItemVectors | TableWeights) -> None:
        """Take a row, a piece of vectors or weights in.

        Raises:
            RemoteError: it is not of this deployment, makes no sense, is older than what is known, or there are too many. Nothing has
                changed.
        """
        if record.deployment != self.deployment:
            raise RemoteError("a table of another deployment", reason="deployment", got=record.deployment)
        if isinstance(record, ItemTable):
            self._apply_row(record)
            return
        vectors = vectors_of(record) if isinstance(record, ItemVectors) else None
        weights = weights_of(record) if isinstance(record, TableWeights) else None
        if record.partition >= PARTITIONS_MAX:
            raise RemoteError("too many partitions", reason="too-many-rows", needed=PARTITIONS_MAX)
        with self._lock:
            table = self._tables.setdefault("", Table())
            if isinstance(record, TableWeights) and weights is not None:
                known = table.weighing.get(record.partition)
                _check_newer(record.clock, -1 if known is None else known.clock)
                table.weighing[record.partition] = Weights(record.clock, record.ordered, record.head, weights)
            elif isinstance(record, ItemVectors) and vectors is not None:
                partition = table.partitions.get(record.partition) or Partition()
                _check_newer(record.clock, partition.pieces.get(record.piece, (-1,))[0])
                numbers = [table.number(item) for item in record.items]
                partition.put(record.piece, numbers, vectors, record.clock)
                table.partitions[record.partition] = partition
                table.base = None

    def _apply_row(self, record: ItemTable) -> None:
        weights, linear, after = _decoded(record)
        with self._lock:
            table = self._tables.get(record.task) or Table()
            at = table.numbers.get(record.item)
            known = None if at is None else table.rows.get(at)
            _check_newer(record.version, record.version if known is None else known.version)
            if known is None and (len(table.rows) >= ROWS_MAX or len(self._tables.keys() | {record.task}) > TASKS_MAX):
                raise RemoteError("too many rows or tasks", reason="too-many-rows", needed=(ROWS_MAX, TASKS_MAX))
            self._tables[record.task] = table
            number = table.number(record.item)
            table.rows[number] = Row(
                version=record.version,
                popularity=record.popularity,
                neighbours=np.array([table.number(name) for name in record.neighbours], dtype=np.int32),
                weights=weights,
                linear=linear,
                after=after,
                count=record.count,
                after_count=record.after_count,
            )
            table.popularity[number] = record.popularity
            if not table.partitions:
                table.base = None

    def remove(self, key: bytes) -> None:
        """Take a row out: a tombstone has come for its key."""
        task, _, item = key.decode(errors="replace").rpartition("\0")
        with self._lock:
            table = self._tables.get(task)
            number = None if table is None else table.numbers.get(item)
            if table is not None and number is not None and table.rows.pop(number, None) is not None:
                table.popularity[number] = 0.0
                table.base = None

    def rows(self, task: str = "") -> Mapping[str, tuple[int, float, tuple[tuple[str, float], ...]]]:
        """What is known: of each item its version, popularity and neighbours with their weights."""
        with self._lock:
            table = self._tables.get(task) or Table()
            return {
                table.names[number]: (
                    row.version,
                    row.popularity,
                    tuple(
                        (table.names[n], w) for n, w in zip(row.neighbours.tolist(), row.weights.tolist(), strict=True)
                    ),
                )
                for number, row in table.rows.items()
            }

    def table(self, task: str = "") -> Table:
        """The table of a task, for reading only, by the thread that applies rows."""
        return self._tables.get(task) or Table()

    def rank(self, items: Sequence[str], namespace: str, k: int = 10, *, task: str = "") -> list[Recommended]:
        """What comes next, best first, with the items at hand that speak for it.

        Args:
            items: at hand, oldest first; unknown ones are passed over.
            namespace: only items of it; empty: of any.
            k: how many at most.
            task: the private task whose tables answer; empty: those that were learned from usage.

        Returns:
            Nothing where no table is known; the most popular where the items at hand say nothing.
        """
        with self._lock:
            table = self._tables.get(task)
            if table is None or not (table.rows or table.partitions):
                return []
            at_hand = [table.numbers[item] for item in dict.fromkeys(items) if item in table.numbers]
            scores = table_scores(table, at_hand, probabilities=not task)
            prefix = f"{namespace}:" if namespace else ""
            hidden = set(at_hand)
            found: list[Recommended] = []
            for number in np.argsort(-scores, kind="stable").tolist():
                if len(found) == k or scores[number] == -np.inf:
                    break
                if number not in hidden and table.names[number].startswith(prefix):
                    reasons = list(_reasons(table, at_hand, number))
                    found.append(Recommended(table.names[number], float(scores[number]), reasons))
            return found


def _reasons(table: Table, at_hand: Sequence[int], number: int) -> Iterator[Reason]:
    """The items at hand that speak most for one."""
    found: list[tuple[float, int]] = []
    for item in at_hand[-WINDOW:]:
        row = table.rows.get(item)
        if row is not None:
            weight = float(row.weights[row.neighbours == number].sum())
            if weight > 0:
                found.append((weight, item))
    for weight, item in sorted(found, key=lambda pair: (-pair[0], pair[1]))[:REASONS]:
        yield Reason(table.names[item], weight)


def _check_newer(version: int, known: int) -> None:
    if version < known:
        raise RemoteError("it is older than what is known", reason="old-version", got=version, needed=known)


def _decoded(record: ItemTable) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weights, linear weights, and probabilities of what comes right after; zeros for what is not told."""
    size = len(record.weights)
    if len(record.neighbours) != size or size > NEIGHBOURS_MAX:
        raise RemoteError(
            "a row has a byte a neighbour, and not too many", reason="bad-row", got=len(record.neighbours)
        )
    if any(len(levels) not in (0, size) for levels in (record.linear, record.after)):
        raise RemoteError("a row has a byte a neighbour more, or none", reason="bad-row", got=len(record.linear))
    if len(set(record.neighbours)) != len(record.neighbours) or record.item in record.neighbours:
        raise RemoteError("neighbours differ from each other and from the item", reason="bad-row", got=record.item[:80])
    spans = (record.scale, record.linear_scale, record.after_scale, record.count, record.after_count)
    finite = all(map(math.isfinite, (record.low, record.linear_low, *spans)))
    if not (0 <= record.popularity <= 1 and finite and min(spans) >= 0):
        raise RemoteError("a row's numbers make no sense", reason="bad-row", got=record.popularity)
    if not record.task and record.low < 0:
        raise RemoteError("probabilities are not below zero", reason="bad-row", got=record.low)
    return (
        _weights(record.weights, record.low, record.scale),
        _weights(record.linear or bytes(size), record.linear_low if record.linear else 0.0, record.linear_scale),
        _weights(record.after or bytes(size), 0.0, record.after_scale),
    )


def _weights(levels: bytes, low: float, scale: float) -> FloatArray:
    return (low + scale * np.frombuffer(levels, dtype=np.uint8).astype(np.float64) / LEVELS).astype(np.float32)
