"""Incidents: what the detectors find, opened, growing, resolved; a timed fold over the counts of all partitions.

A window closes when the newest one is `GRACE_S` past its end, or the clock is. Then each release in it is compared with the others
(`comparing`), series without releases and durations are watched by themselves (`watching`), and signatures are met (`novel`). Opened
sums are compared as they come (`opened`), and people by what they had once a period (`patterns`). One incident a series, kind and
family of releases; `announcing` tells them, and hears who knows of them.
Invariant: what is told is a function of the log, window by window, however it is cut. Pure: the time comes with `tick`.
"""

from collections.abc import Iterable
from dataclasses import replace

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import Acknowledgement, Aggregate, ExposureCount, Incident, SeriesCount, Task
from aicache.streams.anomalies import announcing, comparing, novel, opened, patterns, sketches, watching, written
from aicache.streams.anomalies.announcing import ASSOCIATION, DRIFT, FAILURES, LATENCY, RATE, SIGNATURE
from aicache.streams.anomalies.comparing import Counts
from aicache.streams.anomalies.evidence import State
from aicache.streams.anomalies.exposures import PERIOD_S
from aicache.streams.runtime.contract import Batch, Message, Step

GRACE_S = 60
CLOCK_GRACE_S = 900
"""When nothing newer comes, a window closes by the clock after this long."""
WINDOWS_MAX = 200_000
QUIET_S = 1_800
"""An incident none of whose releases has been worse for this long is resolved."""
QUIET_OF = {ASSOCIATION: 3 * PERIOD_S}
"""Of kinds that are judged seldom."""
ROUNDS_QUIET_S = 7 * 86_400
"""An incident of opened sums is over after a few good rounds, or when there are no rounds for so long."""

__all__ = ["CLOCK_GRACE_S", "GRACE_S", "QUIET_S", "Incidents"]


class Incidents:
    """The fold."""

    name = "incidents"
    version = 4
    inputs = (topics.SERIES, topics.ACKNOWLEDGEMENTS, topics.TASKS, topics.AGGREGATES)

    def empty(self, partition: int) -> State:
        """See `Fold.empty`."""
        del partition
        return State()

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> State:
        """See `Fold.load`."""
        del partition
        if version not in (2, 3, self.version):  # `written` knows how the earlier ones wrote what they knew
            raise LocalError("the incidents' state is of another version", got=version, needed=self.version)
        return written.load(entries)

    def apply(self, state: State, batch: Batch) -> Step:
        """See `Fold.apply`."""
        step = Step()
        before = written.meta_entry(state)
        touched: set[tuple[int, str]] = set()
        # Tasks first, since the order between topics is not given: they say what must not be told of signatures.
        for message in sorted(batch.messages, key=lambda message: message.topic != topics.TASKS.name):
            try:
                self._take(state, message, touched, step)
            except RemoteError as error:
                step.dead.append((message, error))
        for window in touched & state.windows.keys():
            step.changed[written.window_key(window)] = written.window_value(state.windows[window])
        _write_meta(state, before, step)
        return step

    def tick(self, state: State, now_ms: int) -> Step:
        """See `TimedFold.tick`."""
        step = Step()
        before = written.meta_entry(state)
        now_s = now_ms // 1000
        if now_s - state.newest_s > CLOCK_GRACE_S:
            if state.windows:
                self._close(state, state.newest_s, step)
            patterns.judge(state, now_s - CLOCK_GRACE_S, PERIOD_S, step)
            if state.open:
                self._resolve(state, now_s - CLOCK_GRACE_S, step)
            announcing.release_held(state, now_s - CLOCK_GRACE_S, step)
        _write_meta(state, before, step)
        return step

    def _take(self, state: State, message: Message, touched: set[tuple[int, str]], step: Step) -> None:
        record = message.record
        if isinstance(record, SeriesCount):
            self._count(state, record, touched, step)
        elif isinstance(record, ExposureCount):
            patterns.take(state, record, step)
        elif isinstance(record, Task):
            opened.take_task(state, record, step)
        elif isinstance(record, Aggregate):
            opened.take_aggregate(state, record, step)
        elif message.topic == topics.ACKNOWLEDGEMENTS.name and (record is None or isinstance(record, Acknowledgement)):
            name = message.key.decode("ascii", "replace") if record is None else record.incident
            announcing.acknowledge(state, name, record, step)

    def _count(self, state: State, record: SeriesCount, touched: set[tuple[int, str]], step: Step) -> None:
        if record.window_start_s <= state.closed_s:
            return  # a window that has been judged stays judged: replays give the same incidents
        window = (record.window_start_s, record.series)
        counts = _counts(record)
        if window not in state.windows and len(state.windows) >= WINDOWS_MAX:
            raise RemoteError("too many windows are open", reason="too-many-windows", needed=f"≤ {WINDOWS_MAX}")
        state.deployment = record.deployment
        state.began_s = state.began_s or record.window_start_s
        state.newest_s = max(state.newest_s, record.window_start_s)
        state.windows.setdefault(window, {})[record.release, record.partition] = (
            *counts,
            record.people,
            tuple(record.heaviest),
        )
        touched.add(window)
        self._close(state, state.newest_s - record.window_s - GRACE_S, step)

    # ------------------------------------------------------------ judging

    def _close(self, state: State, up_to_s: int, step: Step) -> None:
        """Judge all windows that start at or before `up_to_s`, oldest first."""
        if up_to_s <= state.closed_s:
            return
        now_s = 0
        for window in sorted(window for window in state.windows if window[0] <= up_to_s):
            if window[0] > now_s:
                now_s = window[0]
                self._resolve(state, now_s, step)
                announcing.release_held(state, now_s, step)
            self._judge(state, window, step)
            del state.windows[window]
            step.changed[written.window_key(window)] = None
        state.closed_s = up_to_s
        patterns.judge(state, up_to_s, PERIOD_S, step)

    def _judge(self, state: State, window: tuple[int, str], step: Step) -> None:
        start_s, series = window
        by_release: dict[str, Counts] = {}
        people: dict[str, dict[int, int]] = {}
        heaviest: dict[str, list[int]] = {}
        for (release, partition), (events, failures, sketch, told, most) in sorted(state.windows[window].items()):
            before = by_release.get(release, (0, 0, {}))
            by_release[release] = (before[0] + events, before[1] + failures, sketches.merge((before[2], sketch)))
            people.setdefault(release, {})[partition] = told
            heaviest.setdefault(release, []).extend(most)
        if novel.is_signature(series):
            novel.meet(state, series, people, start_s, step)
            if not novel.may_be_told(state, series):
                return
        for release, counts in by_release.items():
            if not release:
                watching.watch_rate(
                    state, series, counts[1] - comparing.excess(heaviest[release]), people[release], start_s, step
                )
                continue
            timed = round(sum(counts[2].values()))
            if counts[0] > timed:
                excess = comparing.excess(heaviest[release])
                less = {**by_release, release: (counts[0] - excess, counts[1] - excess, counts[2])}
                comparing.compare(state, (series, release, FAILURES), less, people[release], start_s, step)
            if timed:
                comparing.compare(state, (series, release, LATENCY), by_release, people[release], start_s, step)
        durations = [counts[2] for counts in by_release.values() if counts[2]]
        some = dict(enumerate(count for counts in people.values() for count in counts.values()))
        if durations and comparing.enough({}, some):
            watching.watch_durations(state, series, durations, start_s, step)

    def _resolve(self, state: State, now_s: int, step: Step) -> None:
        """Resolve what has not been worse for long, also where its series has stopped, and begin its comparisons anew."""
        for name in sorted(state.open):
            incident = state.open[name]
            if now_s - max(incident.since_s, _worse_s(state, incident)) < _quiet_s(incident):
                continue
            announcing.publish(state, replace(incident, status="resolved", updated_s=now_s), step)
            if _is_of_rounds(incident):
                opened.begin_anew(state, incident, step)
            elif incident.kind in (FAILURES, LATENCY):
                for release in incident.versions:
                    comparing.begin_anew(state, (incident.subject, release, incident.kind), step)


def _write_meta(state: State, before: tuple[bytes, bytes], step: Step) -> None:
    key, value = written.meta_entry(state)
    if (key, value) != before:
        step.changed[key] = value


def _is_of_rounds(incident: Incident) -> bool:
    return incident.subject.startswith(opened.SUBJECT)


def _quiet_s(incident: Incident) -> int:
    return ROUNDS_QUIET_S if _is_of_rounds(incident) else QUIET_OF.get(incident.kind, QUIET_S)


def _worse_s(state: State, incident: Incident) -> int:
    """The newest time at which there was a reason for an incident."""
    if incident.kind == RATE and incident.subject in state.rates:
        return state.rates[incident.subject].worse_s
    if incident.kind == DRIFT and incident.subject in state.drifts:
        return state.drifts[incident.subject].worse_s
    if incident.kind == SIGNATURE and incident.subject in state.signatures:
        return state.signatures[incident.subject].seen_s
    if incident.kind == ASSOCIATION or _is_of_rounds(incident):
        return incident.updated_s
    tests = [(incident.subject, release, incident.kind) for release in incident.versions]
    return max((state.comparisons[test].worse_s for test in tests if test in state.comparisons), default=0)


def _counts(record: SeriesCount) -> Counts:
    """What a record counted.

    Raises:
        RemoteError: `bad-counts`, `bad-sketch`: it cannot have been counted.
    """
    may_be = sum(record.heaviest) <= record.failures and min(record.heaviest, default=0) >= 0 and record.people >= 0
    if not 0 <= record.failures <= record.events or record.window_s <= 0 or not may_be:
        raise RemoteError(
            "a window has impossible counts",
            reason="bad-counts",
            got=(record.events, record.failures, record.window_s),
            needed="0 ≤ failures ≤ events, a length above 0",
        )
    return record.events, record.failures, sketches.unpack(record.sketch)
