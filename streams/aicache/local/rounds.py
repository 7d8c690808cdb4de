"""What the log says about rounds: one row each, from its proposal to its result.

Pure: records in, rows out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from aicache.schemas.records import Aggregate, Manifest, Proposal, Record, RoundAborted, RoundClosed


@dataclass(slots=True)
class RoundRow:
    """A round as a person wants to see it.

    Args:
        round_id: its name.
        task: its task.
        number: of the task, from 1.
        state: "open", "closed", "voting", "done" or "aborted".
        opened_ms: Unix milliseconds.
        n: clients in the manifest; 0 before there is one.
        n_min: the fewest.
        n_max: the most.
        groups_left_out: groups that were under n_min.
        epsilon: of this round, once it is done.
        delta: of the same.
        noise: standard deviation of all noise in each number of the result, in the task's unit; 0: not told.
        reason: why it closed or was aborted.
    """

    round_id: str
    task: str
    number: int
    state: str
    opened_ms: int
    n: int
    n_min: int
    n_max: int
    groups_left_out: int
    epsilon: float
    delta: float
    noise: float
    reason: str


class RoundLog:
    """Rounds as their records come, from the topics `rounds` and `insights.aggregates`, in any order between the two."""

    def __init__(self) -> None:
        self.rows: dict[str, RoundRow] = {}
        self._early: dict[str, Aggregate] = {}

    def take(self, record: Record) -> RoundRow | None:
        """Note a record; returns the row that it changed, if any."""
        if isinstance(record, Proposal):
            return self._open(record)
        if isinstance(record, Aggregate):
            row = self.rows.get(record.round_id)
            if row is None:
                self._early[record.round_id] = record
            else:
                _finish(row, record)
            return row
        if isinstance(record, RoundClosed | Manifest | RoundAborted):
            row = self.rows.get(record.round_id)
            if row is None or row.state == "done":
                return None
            _advance(row, record)
            return row
        return None

    def _open(self, proposal: Proposal) -> RoundRow | None:
        if proposal.round_id in self.rows:
            return None  # a restarted coordinator may say again what it has said
        row = RoundRow(
            round_id=proposal.round_id,
            task=proposal.task,
            number=proposal.number,
            state="open",
            opened_ms=proposal.opened_ms,
            n=0,
            n_min=proposal.n_min,
            n_max=proposal.n_max,
            groups_left_out=0,
            epsilon=0.0,
            delta=0.0,
            noise=0.0,
            reason="",
        )
        self.rows[proposal.round_id] = row
        early = self._early.pop(proposal.round_id, None)
        if early is not None:
            _finish(row, early)
        return row


def rows(records: Iterable[Record]) -> list[RoundRow]:
    """One row a round, in the order of opening."""
    log = RoundLog()
    for record in records:
        log.take(record)
    return list(log.rows.values())


def _finish(row: RoundRow, result: Aggregate) -> None:
    row.state, row.n, row.reason = "done", result.n, ""
    row.epsilon, row.delta = result.guarantee.epsilon, result.guarantee.delta
    row.noise = result.sigma / result.scale


def _advance(row: RoundRow, record: RoundClosed | Manifest | RoundAborted) -> None:
    if isinstance(record, RoundClosed):
        row.state, row.reason = "closed", record.reason
    elif isinstance(record, Manifest):
        row.state = "voting"
        row.n = sum(len(group.clients) for group in record.groups)
        row.groups_left_out = len(record.left_out)
    else:
        row.state, row.reason = "aborted", record.reason
