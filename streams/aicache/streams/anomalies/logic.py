"""Counts of failures and durations a series, release and window: the data plane of anomaly detection, as a fold over usage.

A series is a public name: an operation (`op:build`), a stack signature (`sig:…`), a rule. Every window's count is published anew
whenever it changes, under a key of its own, so that a repeated count overwrites itself and the control plane can add up the
partitions. Event time decides the window; windows older than `LATENESS_S` behind the newest event are closed, and later events
count into the oldest open one. One batch adds at most `BATCH_COUNT_MAX` to a series, whoever sends it.
State: the open windows. Pure.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import SeriesCount, UsageBatch, UsageEvent
from aicache.streams.anomalies import sketches
from aicache.streams.runtime.contract import Batch, Output, Step

WINDOW_S = 60
LATENESS_S = 600
AHEAD_MAX_S = 900
"""An event this far ahead of the log's own time is refused: its clock is wrong. Nearer ones count, but move no window."""
SERIES_MAX = 50_000
"""Open (series, release, window) counts a partition; beyond it new ones are refused until windows close."""
EVENT_COUNT_MAX = 100
BATCH_COUNT_MAX = 1_000
"""One batch adds at most this to a series, and one event of it at most `EVENT_COUNT_MAX`, whatever it says."""
COUNTED = frozenset({"failure", "success", "duration", "finding"})

_OPEN, _TIME = b"w", b"t"
Key = tuple[str, str, int]


@dataclass(slots=True)
class Count:
    """One open window."""

    events: int = 0
    failures: int = 0
    sketch: dict[float, float] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """What one partition counts.

    Attributes:
        partition: of usage.
        newest_s: the newest event time seen, in Unix seconds.
        open: counts of open windows.
    """

    partition: int
    newest_s: int = 0
    open: dict[Key, Count] = field(default_factory=dict)


class Anomalies:
    """The fold."""

    name = "anomalies"
    version = 1
    inputs = (topics.USAGE,)

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        return State(partition)

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        if version != self.version:
            raise LocalError("the anomalies' state is of another version", got=version, needed=self.version)
        state = State(partition)
        for key, value in entries:
            if key == _TIME:
                state.newest_s = int(value)
            else:
                series, release, start_s = json.loads(key[1:])
                events, failures, sketch = json.loads(value)
                state.open[series, release, start_s] = Count(events, failures, {float(b): c for b, c in sketch.items()})
        return state

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        step = Step()
        changed: dict[Key, str] = {}
        newest_s = state.newest_s
        for message in batch.messages:
            if not isinstance(message.record, UsageBatch):
                continue
            try:
                self._count(state, message.record, message.timestamp_ms // 1000, changed)
            except RemoteError as error:
                step.dead.append((message, error))
        for key in sorted(changed):
            step.outputs.append(_output(state, key, changed[key]))
            step.changed[_state_key(key)] = _state_value(state.open[key])
        if state.newest_s != newest_s:
            step.changed[_TIME] = str(state.newest_s).encode()
            for key in [key for key in state.open if key[2] < state.newest_s - LATENESS_S - WINDOW_S]:
                del state.open[key]
                step.changed[_state_key(key)] = None
        return step

    def _count(self, state: State, usage: UsageBatch, logged_s: int, changed: dict[Key, str]) -> None:
        events = [event for event in usage.events if event.kind in COUNTED]
        durations = [sketches.unpack(event.sketch) if event.kind == "duration" else {} for event in events]
        for event in events:
            if event.time_s > logged_s + AHEAD_MAX_S:
                raise RemoteError("an event is from the future", reason="clock-ahead", got=event.time_s - logged_s)
            if event.count < 1:
                raise RemoteError("an event happens at least once", reason="bad-count", got=event.count)
        newest_s = max([state.newest_s, *(min(event.time_s, logged_s) for event in events)])
        places = [max(event.time_s, newest_s - LATENESS_S) // WINDOW_S * WINDOW_S for event in events]
        keys = {(name, e.release, start_s) for e, start_s in zip(events, places, strict=True) for name in e.items}
        if len(state.open) + len(keys - state.open.keys()) > SERIES_MAX:
            raise RemoteError("too many series are open", reason="too-many-series", needed=f"≤ {SERIES_MAX}")
        state.newest_s = newest_s
        room = dict.fromkeys((name for event in events for name in event.items), float(BATCH_COUNT_MAX))
        for event, sketch, start_s in zip(events, durations, places, strict=True):
            for name in dict.fromkeys(event.items):
                key = (name, event.release, start_s)
                room[name] -= _add(state.open.setdefault(key, Count()), event, sketch, min(room[name], EVENT_COUNT_MAX))
                changed[key] = usage.deployment


def _add(count: Count, event: UsageEvent, sketch: dict[float, float], room: float) -> float:
    """Count one event, at most `room` of it; tells how much that was."""
    if event.kind == "duration":
        total = sum(sketch.values())
        share = min(1.0, room / total) if total else 0.0
        for bucket, weight in sketch.items():
            if share:
                count.sketch[bucket] = count.sketch.get(bucket, 0.0) + weight * share
        number = math.floor(total * share)
    else:
        number = min(event.count, math.floor(room))
        if event.kind != "success":
            count.failures += number
    count.events += number
    return float(number)


def _output(state: State, key: Key, deployment: str) -> Output:
    series, release, start_s = key
    count = state.open[key]
    record = SeriesCount(
        deployment=deployment,
        series=series,
        release=release,
        window_start_s=start_s,
        window_s=WINDOW_S,
        partition=state.partition,
        events=count.events,
        failures=count.failures,
        sketch=sketches.pack(count.sketch),
    )
    name = json.dumps([series, release, start_s, state.partition]).encode()
    return Output(topics.SERIES.name, name, record)


def _state_key(key: Key) -> bytes:
    return _OPEN + json.dumps(key).encode()


def _state_value(count: Count) -> bytes:
    return json.dumps([count.events, count.failures, count.sketch]).encode()
