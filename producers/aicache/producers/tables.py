"""Recommendations on the client itself: tables come in as anybody reads them, and what is asked stays here.

Rows of one item each arrive in any number and order; a later version replaces an earlier one and a tombstone removes it, so what was
applied piece by piece is what a reader of the whole topic has. Rows that were learned from usage hold probabilities: how likely a
neighbour comes next where the item is at hand. Rows that were solved from a private task hold weights that add up.
Bounds: `ROWS_MAX` rows a task, `TASKS_MAX` tasks, `NEIGHBOURS_MAX` neighbours a row. Cost of a question: the rows of the `WINDOW`
newest items at hand, and a few passes over all items. Pure but for a lock: one thread may apply while others ask.
"""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import RemoteError
from aicache.schemas.records import ItemTable, Reason, Recommended

ROWS_MAX = 65_536
TASKS_MAX = 64
NEIGHBOURS_MAX = 512
WINDOW = 32
"""Items at hand that count: the newest."""
REASONS = 3
LEVELS = 255
FADE = 0.8
"""How much less an item at hand counts than the one after it, in what depends on the order."""
FEW: tuple[float, ...] = (0.35, 0.35, 0.15, 0.15, 0.0, 0.0, 0.0)
MANY: tuple[float, ...] = (0.15, 0.2, 0.15, 0.0, 0.45, 0.4, 0.0)
"""Weights where up to `FEW_ITEMS` are at hand, and where `MANY_ITEMS` or more are, of: the log mean probability; the same with the
newest items foremost; how far above its base rate each is, with the newest foremost, and the mean of it; the linear weights added up,
and their logarithm; the log base rate."""
FEW_ITEMS, MANY_ITEMS = 4, 8
BASE = 0.02
"""How much of the base rate is mixed into each mean probability."""
LINEAR_UNIT, LINEAR_MIN = 5.0, 1e-3
"""Linear weights are brought to the size of logarithms; below this they are all alike."""
UNSEEN = 1e-4
"""Added to shares and probabilities before they are divided: what is known of very few says little."""
POPULARITY = 1e-3
"""What popularity adds to weights that add up: it decides where they say nothing."""

FloatVector: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One item's row, decoded."""

    version: int
    popularity: float
    neighbours: NDArray[np.int32]
    weights: FloatVector
    linear: FloatVector


@dataclass(slots=True)
class Table:
    """All rows of one task, over numbers in the order of first sight."""

    names: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    popularity: FloatVector = field(default_factory=lambda: np.zeros(64, dtype=np.float32))

    def number(self, name: str) -> int:
        """The number of a name, a new one where it has none."""
        number = self.numbers.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
            if number == len(self.popularity):
                self.popularity = np.concatenate([self.popularity, np.zeros_like(self.popularity)])
        return number


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

    def apply(self, record: ItemTable) -> None:
        """Take a row in.

        Raises:
            RemoteError: it is not a row of this deployment, is older than the one that is known, or there are too many. Nothing
                has changed.
        """
        if record.deployment != self.deployment:
            raise RemoteError("a table of another deployment", reason="deployment", got=record.deployment)
        weights, linear = _decoded(record)
        with self._lock:
            table = self._tables.get(record.task) or Table()
            at = table.numbers.get(record.item)
            known = None if at is None else table.rows.get(at)
            if known is not None and record.version < known.version:
                raise RemoteError(
                    "the row is older than the known one",
                    reason="old-version",
                    got=record.version,
                    needed=known.version,
                )
            if known is None and (len(table.rows) >= ROWS_MAX or len(self._tables.keys() | {record.task}) > TASKS_MAX):
                raise RemoteError("too many rows or tasks", reason="too-many-rows", needed=(ROWS_MAX, TASKS_MAX))
            self._tables[record.task] = table
            number = table.number(record.item)
            neighbours = np.array([table.number(name) for name in record.neighbours], dtype=np.int32)
            table.popularity[number] = record.popularity
            table.rows[number] = Row(record.version, record.popularity, neighbours, weights, linear)

    def remove(self, key: bytes) -> None:
        """Take a row out: a tombstone has come for its key."""
        task, _, item = key.decode(errors="replace").rpartition("\0")
        with self._lock:
            table = self._tables.get(task)
            number = None if table is None else table.numbers.get(item)
            if table is not None and number is not None and table.rows.pop(number, None) is not None:
                table.popularity[number] = 0.0

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
            if table is None or not table.rows:
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


def table_scores(table: Table, at_hand: Sequence[int], *, probabilities: bool) -> FloatVector:
    """A score for each number; -∞ for what was neither seen nor is a neighbour of what is at hand."""
    popularity = table.popularity[: len(table.names)]
    rows = [row for number in at_hand[-WINDOW:] if (row := table.rows.get(number)) is not None]
    if not rows:
        scores = popularity.copy()
        scores[popularity <= 0] = -np.inf
        return scores
    if probabilities:
        return _pooled(rows, popularity)
    summed = np.zeros(len(popularity), dtype=np.float32)
    for row in rows:
        summed[row.neighbours] += row.weights
    scores = summed + np.float32(POPULARITY) * popularity
    scores[(popularity <= 0) & (summed == 0)] = -np.inf
    return scores


def _pooled(rows: Sequence[Row], popularity: FloatVector) -> FloatVector:
    """What rows of single items say together, oldest first."""
    base = popularity + np.float32(UNSEEN)
    together, newest, lift, lifts, linear = np.zeros((5, len(popularity)), dtype=np.float32)
    fades = (FADE ** np.arange(len(rows) - 1, -1, -1.0)).astype(np.float32)
    for row, fade in zip(rows, fades, strict=True):
        at = row.neighbours
        above = np.log((row.weights + np.float32(UNSEEN)) / base[at])
        together[at] += row.weights
        newest[at] += row.weights * fade
        lift[at] += above * fade
        lifts[at] += above
        linear[at] += row.linear
    mixed = np.float32(BASE) * base
    faded = np.float32(fades.sum())
    features = (
        np.log(together / np.float32(len(rows)) + mixed),
        np.log(newest / faded + mixed),
        lift / np.sqrt(faded),
        lifts / np.float32(math.sqrt(len(rows))),
        linear * np.float32(LINEAR_UNIT),
        np.log(np.maximum(linear, np.float32(LINEAR_MIN))),
        np.log(base),
    )
    share = min(max(math.log(len(rows) / FEW_ITEMS) / math.log(MANY_ITEMS / FEW_ITEMS), 0.0), 1.0)
    scores = np.zeros(len(popularity), dtype=np.float32)
    for few, many, feature in zip(FEW, MANY, features, strict=True):
        scores += np.float32((1 - share) * few + share * many) * feature
    scores[(popularity <= 0) & (together == 0) & (linear == 0)] = -np.inf
    return scores


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


def _decoded(record: ItemTable) -> tuple[FloatVector, FloatVector]:
    if len(record.neighbours) != len(record.weights) or len(record.neighbours) > NEIGHBOURS_MAX:
        raise RemoteError(
            "a row has a byte a neighbour, and not too many", reason="bad-row", got=len(record.neighbours)
        )
    if len(record.linear) not in (0, len(record.weights)):
        raise RemoteError("a row has a linear weight a neighbour, or none", reason="bad-row", got=len(record.linear))
    if len(set(record.neighbours)) != len(record.neighbours) or record.item in record.neighbours:
        raise RemoteError("neighbours differ from each other and from the item", reason="bad-row", got=record.item[:80])
    numbers = (record.low, record.scale, record.linear_low, record.linear_scale)
    if not (0 <= record.popularity <= 1 and all(map(math.isfinite, numbers)) and min(numbers[1::2]) >= 0):
        raise RemoteError("a row's numbers make no sense", reason="bad-row", got=record.popularity)
    if not record.task and record.low < 0:
        raise RemoteError("probabilities are not below zero", reason="bad-row", got=record.low)
    linear = record.linear or bytes(len(record.weights))
    return _weights(record.weights, record.low, record.scale), _weights(linear, record.linear_low, record.linear_scale)


def _weights(levels: bytes, low: float, scale: float) -> FloatVector:
    return (low + scale * np.frombuffer(levels, dtype=np.uint8).astype(np.float64) / LEVELS).astype(np.float32)
