"""Counts of failures and durations a series, release and window: the data plane of anomaly detection, as a fold over usage.

A series is a public name: an operation (`op:build`), a stack signature (`sig:…`), a rule. Every window's count is published anew
whenever it changes, under a key of its own, so that a repeated count overwrites itself and the control plane can add up the
partitions. Event time decides the window; windows older than `LATENESS_S` behind the newest event are closed, and later events
count into the oldest open one. What one person adds is bounded (see `people`), and who had what when it failed is counted over
people (see `exposures`).
State: the open windows, and the people in them. Pure.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from aicache.privacy.anonymize import NAME_CHARS_MAX, NAMESPACES
from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import SeriesCount, UsageBatch, UsageEvent
from aicache.streams.anomalies import sketches
from aicache.streams.anomalies.exposures import PERIOD_S, Exposures
from aicache.streams.anomalies.people import HEAVIEST, NAME_BYTES, PERSON_SERIES_MAX, People, durations_of, failures_of
from aicache.streams.runtime.contract import Batch, Output, Step

WINDOW_S = 60
LATENESS_S = 600
AHEAD_MAX_S = 900
"""An event this far ahead of the log's own time is refused: its clock is wrong. Nearer ones count, but move no window."""
SERIES_MAX = 50_000
"""Open (series, release, window) counts a partition; beyond it new ones are refused until windows close."""
COUNTED = frozenset({"failure", "success", "duration", "finding"})
FAILING = frozenset({"failure", "finding"})

NAMES_CACHED = 65_536

_OPEN, _TIME = b"w", b"t"
_VERSION = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,5}){0,2}")
Key = tuple[str, str, int]


@dataclass(slots=True)
class Count:
    """One open window."""

    events: int = 0
    failures: int = 0
    sketch: dict[float, float] = field(default_factory=dict)
    heaviest: dict[str, int] = field(default_factory=dict)

    def fail(self, name: str, failures: int) -> None:
        """A person has had so many failures in this window; the people with most are remembered."""
        self.heaviest[name] = failures
        if len(self.heaviest) > HEAVIEST:
            del self.heaviest[min(self.heaviest, key=lambda one: (self.heaviest[one], one))]


@dataclass(slots=True)
class State:
    """What one partition counts.

    Attributes:
        partition: of usage.
        newest_s: the newest event time seen, in Unix seconds.
        open: counts of open windows.
        people: what each person has added to them.
        exposures: who had what, in the current period.
    """

    partition: int
    newest_s: int = 0
    open: dict[Key, Count] = field(default_factory=dict)
    people: People = field(default_factory=People)
    exposures: Exposures = field(default_factory=Exposures)


class Anomalies:
    """The fold."""

    name = "anomalies"
    version = 2
    inputs = (topics.USAGE,)

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        return State(partition)

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        if version not in (1, self.version):  # the first one knew no people
            raise LocalError("the anomalies' state is of another version", got=version, needed=self.version)
        state = State(partition)
        for key, value in entries:
            if key == _TIME:
                state.newest_s = int(value)
            elif key[:1] == _OPEN:
                series, release, start_s = json.loads(key[1:])
                events, failures, sketch, *heaviest = json.loads(value)
                count = Count(events, failures, {float(b): c for b, c in sketch.items()}, *heaviest)
                state.open[series, release, start_s] = count
            else:
                assert state.people.load(key, value) or state.exposures.load(key, value), "every entry has a reader"
        return state

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        work = _Work(state)
        newest_s = state.newest_s
        for message in batch.messages:
            if message.record is None:  # the owner of a pseudonym wishes to be forgotten
                name = message.key[:NAME_BYTES].hex()
                state.exposures.forget(name, work.step.changed)
                state.people.forget(name, work.step.changed)
            if not isinstance(message.record, UsageBatch):
                continue
            try:
                _count(work, message.record, message.timestamp_ms // 1000)
            except RemoteError as error:
                work.step.dead.append((message, error))
        work.tell(work.changed)
        for name, start_s in sorted(work.told):
            key, value = state.people.told_entry(name, start_s)
            work.step.changed[key] = value
        if state.newest_s != newest_s:
            work.step.changed[_TIME] = str(state.newest_s).encode()
        return work.step


class _Work:
    """A batch on its way: what it has changed so far."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.step = Step()
        self.changed: dict[Key, tuple[str, int]] = {}
        """With the deployment, and how many people were known when the count changed: not later, for a batch may be cut anywhere."""
        self.told: set[tuple[str, int]] = set()

    def tell(self, keys: Iterable[Key]) -> None:
        """Publish and write down these counts as they are."""
        for key in sorted(keys):
            self.step.outputs.append(_output(self.state, key, *self.changed[key]))
            self.step.changed[_state_key(key)] = _state_value(self.state.open[key])

    def advance(self, newest_s: int, deployment: str) -> None:
        """Move event time: windows that are over for good are forgotten, and a period that is over is published."""
        state = self.state
        before_s, state.newest_s = state.newest_s, newest_s
        if before_s and newest_s // PERIOD_S > before_s // PERIOD_S:
            start_s = before_s // PERIOD_S * PERIOD_S
            self.step.outputs += state.exposures.close(deployment, state.partition, start_s, self.step.changed)
        oldest_s = _oldest(newest_s)
        if oldest_s == _oldest(before_s):
            return
        gone = [key for key in state.open if key[2] < oldest_s]
        self.tell(key for key in gone if key in self.changed)
        for key in gone:
            del state.open[key]
            self.changed.pop(key, None)
            self.step.changed[_state_key(key)] = None
        self.told = {one for one in self.told if one[1] >= oldest_s}
        state.people.drop(oldest_s, self.step.changed)


@lru_cache(NAMES_CACHED)
def _is_public(name: str) -> bool:
    """Whether a name has the form of a public one; an owner's list may allow more than a client without a list does."""
    namespace, _, local = name.partition(":")
    pattern = NAMESPACES.get(namespace)
    return pattern is not None and len(local) <= NAME_CHARS_MAX and pattern.fullmatch(local) is not None


@lru_cache(NAMES_CACHED)
def _is_release(release: str) -> bool:
    """Whether it is a public name and a generalised version, or nothing."""
    name, _, version = release.rpartition("@")
    return not release or (_is_public(name) and _VERSION.fullmatch(version) is not None)


def _oldest(newest_s: int) -> int:
    """Start of the oldest open window."""
    return max(0, newest_s - LATENESS_S) // WINDOW_S * WINDOW_S


def _still_open(state: State, oldest_s: int) -> int:
    """Counts that are open once windows before a time are closed: what is full makes room when time goes on."""
    if len(state.open) < SERIES_MAX - PERSON_SERIES_MAX or oldest_s == _oldest(state.newest_s):
        return len(state.open)
    return sum(key[2] >= oldest_s for key in state.open)


def _count(work: _Work, usage: UsageBatch, logged_s: int) -> None:
    state = work.state
    events = [event for event in usage.events if event.kind in COUNTED]
    durations = [sketches.unpack(event.sketch) if event.kind == "duration" else {} for event in events]
    for event in events:
        if event.time_s > logged_s + AHEAD_MAX_S:
            raise RemoteError("an event is from the future", reason="clock-ahead", got=event.time_s - logged_s)
        if event.count < 1:
            raise RemoteError("an event happens at least once", reason="bad-count", got=event.count)
        if not _is_release(event.release) or not all(map(_is_public, event.items)):
            raise RemoteError("an event names what is no public name", reason="bad-name", got=len(event.items))
    newest_s = max([state.newest_s, *(min(event.time_s, logged_s) for event in events)])
    places = [max(event.time_s, newest_s - LATENESS_S) // WINDOW_S * WINDOW_S for event in events]
    keys = {(name, e.release, start_s) for e, start_s in zip(events, places, strict=True) for name in e.items}
    oldest_s = _oldest(newest_s)
    if _still_open(state, oldest_s) + len(keys - state.open.keys()) > SERIES_MAX:
        raise RemoteError("too many series are open", reason="too-many-series", needed=f"≤ {SERIES_MAX}")
    person = usage.pseudonym[:NAME_BYTES].hex()
    wanted = {(start_s, name) for name, _, start_s in keys} | {
        (start_s, failures_of(name, r)) for name, r, start_s in keys
    }
    if not state.people.fits(person, wanted, oldest_s):
        raise RemoteError("a person tells of too many series, or too many people do", reason="too-many-people")
    if newest_s > state.newest_s:
        work.advance(newest_s, usage.deployment)
    state.exposures.learn(person, usage, work.step.changed)
    for event, sketch, start_s in zip(events, durations, places, strict=True):
        for name in dict.fromkeys(event.items):
            key = (name, event.release, start_s)
            count, timed = state.open.setdefault(key, Count()), event.kind == "duration"
            what = durations_of(name, event.release) if timed else name
            number = _add(count, event, sketch, state.people.room(person, start_s, what))
            state.people.add(person, start_s, what, number)
            if event.kind in FAILING and number:
                failures = state.people.add(person, start_s, failures_of(name, event.release), number)
                count.fail(person, round(failures))
            if event.kind != "success":
                state.people.see(person, name, event.release, newest_s, work.step.changed)
            work.changed[key] = (usage.deployment, state.people.known(name, event.release))
            work.told.add((person, start_s))


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


def _output(state: State, key: Key, deployment: str, people: int) -> Output:
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
        people=people,
        heaviest=sorted(count.heaviest.values(), reverse=True),
    )
    name = json.dumps([series, release, start_s, state.partition]).encode()
    return Output(topics.SERIES.name, name, record)


def _state_key(key: Key) -> bytes:
    return _OPEN + json.dumps(key).encode()


def _state_value(count: Count) -> bytes:
    return json.dumps([count.events, count.failures, count.sketch, count.heaviest]).encode()
