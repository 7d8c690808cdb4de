"""Trends: how often each series happens, a period after the other; a timed fold over the counts of all partitions.

Of a signature nothing is told until at least `novel.PEOPLE_MIN` people have told it with one release. Pure.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from aicache.privacy.errors import LocalError
from aicache.schemas import topics
from aicache.schemas.records import SeriesCount, Trend
from aicache.streams.anomalies.novel import PEOPLE_MIN, is_signature
from aicache.streams.runtime.contract import Batch, Output, Step

PERIOD_S = 3_600
PERIODS_KEPT = 3
SERIES_MAX = 50_000

_PEOPLE = b"p"


@dataclass(slots=True)
class State:
    """Counts by (series, period start), then by (release, window, partition); people by signature, release and partition."""

    deployment: str = ""
    newest_s: int = 0
    counts: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)
    people: dict[str, dict[str, dict[int, int]]] = field(default_factory=dict)


class Trends:
    """The fold: publishes a period's value whenever it changes, beside that of the period before."""

    name = "trends"
    version = 2
    inputs = (topics.SERIES,)

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        del partition
        return State()

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        del partition
        if version not in (1, self.version):  # the first one knew no people
            raise LocalError("the trends' state is of another version", got=version, needed=self.version)
        state = State()
        for key, value in entries:
            if key[:1] == _PEOPLE:
                of_release = json.loads(value)
                state.people[key[1:].decode()] = {
                    release: {int(partition): count for partition, count in counts.items()}
                    for release, counts in of_release.items()
                }
                continue
            series, start_s = json.loads(key)
            state.deployment, state.counts[series, start_s] = json.loads(value)
            state.newest_s = max(state.newest_s, start_s)
        return state

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        step = Step()
        changed: set[tuple[str, int]] = set()
        for message in batch.messages:
            record = message.record
            if not isinstance(record, SeriesCount):
                continue
            key = (record.series, record.window_start_s // PERIOD_S * PERIOD_S)
            if key not in state.counts and len(state.counts) >= SERIES_MAX:
                continue
            state.deployment = record.deployment
            state.newest_s = max(state.newest_s, key[1])
            place = json.dumps([record.release, record.window_start_s, record.partition])
            state.counts.setdefault(key, {})[place] = record.events
            _meet(state, record, step)
            changed.add(key)
        for key in sorted(changed):
            if _may_be_told(state, key[0]):
                step.outputs.append(_output(state, key))
            step.changed[json.dumps(key).encode()] = json.dumps([state.deployment, state.counts[key]]).encode()
        over = [key for key in state.counts if key[1] < state.newest_s - PERIODS_KEPT * PERIOD_S]
        for key in over:
            del state.counts[key]
            step.changed[json.dumps(key).encode()] = None
        kept = {series for series, _ in state.counts} if over else set()
        for series in {series for series, _ in over} & state.people.keys() - kept:
            del state.people[series]
            step.changed[_PEOPLE + series.encode()] = None
        return step

    def tick(self, state: State, now_ms: int) -> Step:
        """See `TimedFold.tick`: nothing follows from time alone."""
        del state, now_ms
        return Step()


def _meet(state: State, record: SeriesCount, step: Step) -> None:
    """Learn how many people have told a signature."""
    if not is_signature(record.series) or not record.people:
        return
    counts = state.people.setdefault(record.series, {}).setdefault(record.release, {})
    if record.people > counts.get(record.partition, 0):
        counts[record.partition] = record.people
        step.changed[_PEOPLE + record.series.encode()] = json.dumps(state.people[record.series]).encode()


def _may_be_told(state: State, series: str) -> bool:
    if not is_signature(series):
        return True
    return any(sum(counts.values()) >= PEOPLE_MIN for counts in state.people.get(series, {}).values())


def _output(state: State, key: tuple[str, int]) -> Output:
    series, start_s = key
    before = state.counts.get((series, start_s - PERIOD_S), {})
    record = Trend(
        deployment=state.deployment,
        series=series,
        period_start_s=start_s,
        period_s=PERIOD_S,
        value=float(sum(state.counts[key].values())),
        previous=float(sum(before.values())),
        unit="events",
        guarantee=None,
    )
    return Output(topics.TRENDS.name, json.dumps(key).encode(), record)
