"""Recommendations that were learned from sums alone: what a private round costs, and tables from what it opened.

Each client gives the triangle of its baskets' Gram matrix (`producers.vectors.pairs`), shortened to an L2 norm of `CLIP`, once. The
clip is small on purpose: nearly every client's triangle is longer, so all weigh the same, the noise is as small as it can be for that,
and a long basket loses weight a pair, never labels. A list of labels that is too long for one triangle is cut by a histogram round
first, for `VOCABULARY_SHARE` of the budget: labels that stand out of its noise are the vocabulary. Both rounds are Gaussian sums,
whose Rényi divergences add up to that of one round with the whole budget.
The fold reads aggregates, which say themselves how much noise is in them, and writes the rows that have changed to the tables.
Pure: a replay gives the same bytes.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import accounting
from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import Aggregate, ItemTable
from aicache.streams.recommendations import gram
from aicache.streams.recommendations.tables import encode_row, key_of
from aicache.streams.runtime.contract import Batch, Message, Output, Step

KIND = "pairs"
CLIP = 2.0
SCALE = 2_000.0
"""Integers a unit: rounding at random then adds less than 1% to the sensitivity, up to a thousand labels."""
LABELS_ROUND = 1_000
"""Labels of one round of pairs: half a million coordinates, three megabytes a client."""
VOCABULARY_SHARE = 0.15
HEAVY_SIGMAS = 3.0
"""A label is in the vocabulary if its count is so many standard deviations of the noise above zero: one of 700 others gets in by luck."""

_ROW = b"r"


def multipliers(epsilon: float, delta: float) -> tuple[float, float]:
    """σ in units of the sensitivity, of a vocabulary round and of the round of pairs after it, so that both cost (epsilon, delta).

    Raises:
        LocalError: epsilon or delta out of range.
    """
    whole = accounting.noise_multiplier(epsilon, delta)
    return whole / math.sqrt(VOCABULARY_SHARE), whole / math.sqrt(1 - VOCABULARY_SHARE)


def vocabulary(labels: Sequence[str], counts: NDArray[np.float64], sigma: float) -> list[str]:
    """The labels that stand out of the noise, most frequent first, at most `LABELS_ROUND`.

    Args:
        labels: of the histogram.
        counts: the opened sum divided by the scale, one each.
        sigma: standard deviation of the noise in it.

    Raises:
        LocalError: counts and labels are not of one length.
    """
    if counts.shape != (len(labels),):
        raise LocalError("a histogram has a count a label", got=counts.shape, needed=len(labels))
    order = np.argsort(-counts, kind="stable")[:LABELS_ROUND]
    return [labels[place] for place in order if counts[place] > HEAVY_SIGMAS * sigma]


def solve_aggregate(aggregate: Aggregate) -> gram.Solved:
    """Weights from an opened sum.

    An older aggregate does not tell its noise: of that, what the guarantee counts on is in it at least. Then the sum is trusted a
    little more than it should be, which is better than no tables.

    Args:
        aggregate: of a task of pairs, with n > 0.

    Raises:
        RemoteError: the sum is no triangle over its labels (reason `length`), or its scale and noise are no numbers to divide by
            (reason `bad-sum`).
    """
    labels = len(aggregate.labels)
    if aggregate.length != labels * (labels + 1) // 2 or len(aggregate.sum) != 8 * aggregate.length:
        raise RemoteError("not a triangle over its labels", reason="length", got=aggregate.length, needed=labels)
    if not 2 <= labels <= gram.LABELS_MAX:
        raise RemoteError("too few or too many labels to solve", reason="length", got=labels, needed=gram.LABELS_MAX)
    sigma = aggregate.sigma or aggregate.guarantee.sigma
    if not (aggregate.scale > 0 and sigma >= 0):
        raise RemoteError("not a sum with noise", reason="bad-sum", got=(aggregate.scale, sigma), needed="above 0")
    triangle = np.frombuffer(aggregate.sum, dtype="<i8").astype(np.float64) / aggregate.scale
    return gram.solve(triangle, labels, sigma / aggregate.scale)


def rows_of(aggregate: Aggregate, solved: gram.Solved) -> list[ItemTable]:
    """A row a label, with the guarantee of the round."""
    labels = aggregate.labels
    return [
        encode_row(
            aggregate.deployment,
            label,
            aggregate.number,
            float(solved.popularity[place]),
            dict(zip(labels, solved.weights[place].tolist(), strict=True)),
            task=aggregate.task,
            guarantee=aggregate.guarantee,
        )
        for place, label in enumerate(labels)
    ]


@dataclass(slots=True)
class State:
    """What is known.

    Attributes:
        rows: for each task the digest of each published row, its version apart.
    """

    rows: dict[str, dict[str, bytes]] = field(default_factory=dict)


class PrivateTables:
    """The fold."""

    name = "private-tables"
    version = 2
    inputs = (topics.AGGREGATES,)

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        del partition
        return State()

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        if version not in (1, self.version):  # the first one kept tasks, too, which nothing needs any more
            raise LocalError("the private tables' state is of another version", got=version, needed=self.version)
        state = self.empty(partition)
        for key, value in entries:
            if key[:1] == _ROW:
                task, _, label = key[1:].decode().partition("\0")
                state.rows.setdefault(task, {})[label] = value
        return state

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        step = Step()
        for message in batch.messages:
            record = message.record
            if isinstance(record, Aggregate) and record.kind == KIND and record.n > 0:
                self._solve(state, message, record, step)
        return step

    def tick(self, state: State, now_ms: int) -> Step:
        """See `TimedFold.tick`: time changes nothing here."""
        del state, now_ms
        return Step()

    def _solve(self, state: State, message: Message, aggregate: Aggregate, step: Step) -> None:
        try:
            rows = rows_of(aggregate, solve_aggregate(aggregate))
        except RemoteError as error:
            step.dead.append((message, error))
            return
        known = state.rows.setdefault(aggregate.task, {})
        for gone in sorted(known.keys() - set(aggregate.labels)):
            del known[gone]
            self._publish(step, aggregate.task, gone, None, None)
        for row in rows:
            digest = _digest(row)
            if known.get(row.item) != digest:
                known[row.item] = digest
                self._publish(step, aggregate.task, row.item, row, digest)

    @staticmethod
    def _publish(step: Step, task: str, item: str, row: ItemTable | None, digest: bytes | None) -> None:
        step.outputs.append(Output(topics.TABLES.name, key_of(item, task), row))
        step.changed[_ROW + f"{task}\0{item}".encode()] = digest


def _digest(row: ItemTable) -> bytes:
    """Of what a client scores with."""
    hashed = hashlib.sha256(row.weights)
    for part in (repr((row.popularity, row.low, row.scale)), *row.neighbours):
        hashed.update(len(part).to_bytes(4, "big") + part.encode())
    return hashed.digest()[:16]
