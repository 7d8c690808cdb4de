"""What goes with failures: association, not cause. Judged once a period, over people, from what the partitions of usage counted.

For each operation, every package, release, rule or option that people had is a candidate: Cochran, Mantel and Haenszel's test within
strata (language and operating system), Benjamini and Yekutieli over all candidates of all operations together; see `association`.
Pure.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from aicache.privacy.errors import RemoteError
from aicache.schemas.records import ExposureCount, Incident
from aicache.streams.anomalies import announcing, written
from aicache.streams.anomalies.announcing import ASSOCIATION, GROWTH, name_of
from aicache.streams.anomalies.detectors.association import FDR, Association, Counts, associations
from aicache.streams.anomalies.evidence import Cells, State
from aicache.streams.runtime.contract import Step

PERIOD_GRACE_S = 3_600
"""How long after a period's end partitions may still tell of it."""
CELLS_MAX = 200_000
OUTCOMES_MAX = 500
RISK_MIN = 1.25


def take(state: State, record: ExposureCount, step: Step) -> None:
    """Learn a cell.

    Raises:
        RemoteError: `bad-counts`, `too-many-cells`.
    """
    if record.period_start_s <= state.judged_s:
        return  # what was judged stays judged
    if not 0 <= record.failing <= record.people or record.period_s <= 0:
        raise RemoteError("a cell has impossible counts", reason="bad-counts", got=(record.people, record.failing))
    outcomes = state.periods.setdefault(record.period_start_s, {})
    cells = outcomes.setdefault(record.outcome, {})
    place = (record.candidate, record.stratum)
    is_full = place not in cells and state.cells >= CELLS_MAX
    if is_full or len(outcomes) > OUTCOMES_MAX:
        raise RemoteError("too many cells are open", reason="too-many-cells", needed=f"≤ {CELLS_MAX}")
    state.cells += place not in cells
    cell = cells.setdefault(place, {})
    cell[record.partition] = (record.people, record.failing)
    state.deployment = record.deployment
    key = written.cell_key(record.period_start_s, record.outcome, *place)
    step.changed[key] = written.cell_value(cell)


def judge(state: State, now_s: int, period_s: int, step: Step) -> None:
    """Judge the periods that are over for long enough, oldest first."""
    while state.periods:
        start_s = min(state.periods)
        if start_s + period_s + PERIOD_GRACE_S > now_s:
            return
        outcomes = state.periods.pop(start_s)
        _tell(state, outcomes, start_s, start_s + period_s, step)
        for outcome, cells in outcomes.items():
            state.cells -= len(cells)
            step.changed.update(dict.fromkeys(written.cell_key(start_s, outcome, *place) for place in cells))
        state.judged_s = start_s


def _tell(state: State, outcomes: dict[str, Cells], start_s: int, end_s: int, step: Step) -> None:
    found: set[str] = set()
    for outcome in sorted(outcomes):
        candidates, counts = _counts(outcomes[outcome])
        if counts is None:
            continue
        # Each operation gets its share of the rate: together they stay under it.
        for one in associations(counts, FDR / len(outcomes)):
            if one.relative_risk < RISK_MIN:
                continue
            candidate = candidates[one.candidate]
            people = round(float(counts.exposed[:, one.candidate].sum()))
            incident = _incident(state, outcome, candidate, one, people, (start_s, end_s))
            found.add(incident.incident)
            known = state.open.get(incident.incident)
            if known is None or announcing.size(incident) >= GROWTH * announcing.size(known):
                announcing.publish(state, incident, step)
            else:
                announcing.touch(state, _later(known, end_s), step)
    over = [one for name, one in sorted(state.open.items()) if one.kind == ASSOCIATION and name not in found]
    for incident in over:
        announcing.publish(state, _later(incident, end_s, "resolved"), step)


def _counts(cells: Cells) -> tuple[list[str], Counts | None]:
    """The cells of an outcome as the test wants them: totals are the cells without a candidate."""
    strata = sorted({stratum for candidate, stratum in cells if not candidate})
    candidates = sorted({candidate for candidate, _ in cells if candidate})
    if not strata or not candidates:
        return [], None
    rows = {stratum: row for row, stratum in enumerate(strata)}
    columns = {candidate: column for column, candidate in enumerate(candidates)}
    exposed, bad = np.zeros((2, len(strata), len(candidates)))
    clients, failing = np.zeros((2, len(strata)))
    for (candidate, stratum), cell in cells.items():
        people, failed = _sum(cell.values())
        if stratum not in rows:
            continue
        if candidate:
            exposed[rows[stratum], columns[candidate]], bad[rows[stratum], columns[candidate]] = people, failed
        else:
            clients[rows[stratum]], failing[rows[stratum]] = people, failed
    return candidates, Counts(exposed, bad, clients, failing)


def _sum(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    pairs = list(counts)
    return sum(people for people, _ in pairs), sum(failing for _, failing in pairs)


def _later(incident: Incident, now_s: int, status: str = "") -> Incident:
    return replace(incident, updated_s=now_s, status=status or incident.status)


def _incident(
    state: State, outcome: str, candidate: str, found: Association, people: int, period: tuple[int, int]
) -> Incident:
    name = name_of(outcome, ASSOCIATION, candidate)
    known = state.open.get(name)
    is_release = "@" in candidate.partition(":")[2][1:]
    return Incident(
        deployment=state.deployment,
        incident=name,
        status="opened" if known is None else "growing",
        kind=ASSOCIATION,
        subject=outcome,
        release=candidate if is_release else "",
        versions=[candidate] if is_release else [],
        since_s=period[0] if known is None else known.since_s,
        updated_s=period[1],
        seen=min(found.relative_risk, 1e6),
        expected=1.0,
        unit="times the risk of others",
        severity=announcing.severity(min(found.relative_risk, 1e6), 1.0, 1.0),
        confidence=1.0 - found.p_value,
        explanation=(
            f"{outcome} fails {min(found.relative_risk, 1e6):.2g} times as often for people with {candidate} "
            f"({found.low:.2g} to {min(found.high, 1e6):.2g}, 95%), within language and system: association, not cause"
        ),
        n=people,
        guarantee=None,
    )
