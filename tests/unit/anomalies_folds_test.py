"""The folds of anomalies: the same however the log is cut, bounded, and right about which release is bad."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aicache.privacy.errors import LocalError
from aicache.schemas.records import Incident, SeriesCount, UsageBatch, UsageEvent
from aicache.streams.anomalies import comparing, incidents, logic, people, sketches
from aicache.streams.anomalies.incidents import Incidents
from aicache.streams.anomalies.logic import Anomalies
from aicache.streams.anomalies.trends import Trends
from aicache.streams.runtime.contract import Batch, Message, Step
from support.folds import changelog, play

START_S = 1_700_000_040
COUNTS, CONTROL, TRENDS = Anomalies(), Incidents(), Trends()


def event(
    kind: str, time_s: int, release: str = "pypi:tool@1.0", count: int = 1, durations: Sequence[float] = ()
) -> UsageEvent:
    return UsageEvent(
        kind, time_s, ["op:build"], [], release, count, sketches.pack(sketches.sketch_of(durations)), -1, 0.0
    )


def usage(*events: UsageEvent, pseudonym: int = 0) -> UsageBatch:
    return UsageBatch(
        "test", pseudonym.to_bytes(16, "big"), 1, 0, "python", "", "linux", "build", "tool@1", list(events)
    )


def message(offset: int, record: Any, now_s: int) -> Message:
    return Message("aicache.usage", 0, offset, now_s * 1000, b"", record)


def series(
    window: int,
    release: str,
    events: int,
    failures: int,
    durations: Iterable[float] = (),
    name: str = "op:build",
    partition: int = 0,
) -> SeriesCount:
    sketch = sketches.pack(sketches.sketch_of(durations))
    return SeriesCount("test", name, release, START_S + 60 * window, 60, partition, events, failures, sketch)


def log_of(records: Iterable[SeriesCount]) -> list[Message]:
    return [Message("aicache.series", 0, n, 0, b"", record) for n, record in enumerate(records)]


def newest(steps: Sequence[Step]) -> dict[bytes, object]:
    return {output.key: output.record for step in steps for output in step.outputs}


def published(steps: Sequence[Step]) -> list[Incident]:
    return [output.record for step in steps for output in step.outputs if isinstance(output.record, Incident)]


def usage_log(count: int) -> list[Message]:
    kinds = ("failure", "success", "duration", "finding")
    log = []
    for n in range(count):
        now_s = START_S + 20 * n
        kind = kinds[n % 4]
        durations = [0.1 * (n + 1), 3.0] if kind == "duration" else []
        log.append(
            message(n, usage(event(kind, now_s - 300 * (n % 3), f"pypi:tool@1.{n % 2}", 1 + n % 5, durations)), now_s)
        )
    return log


def control_log(windows: int, seed: int = 1) -> list[Message]:
    """A bad release, a slow one, and failures without a release that rise, in random order within a window."""
    random = np.random.default_rng(seed)
    records: list[SeriesCount] = []
    for window in range(windows):
        bad = 0.2 if window >= 10 else 0.02
        of_window = [
            series(window, "pypi:tool@1.0", 100, int(random.binomial(100, 0.02))),
            series(window, "pypi:tool@1.1", 40, int(random.binomial(40, bad)), partition=1),
            series(window, "pypi:slow@2.0", 50, 0, random.lognormal(0, 0.3, 50), "op:test"),
            series(window, "pypi:slow@2.1", 20, 0, random.lognormal(0.9, 0.3, 20), "op:test", 2),
            series(window, "", (n := int(random.poisson(2 if window < 40 else 12))), n, (), "sig:0123456789abcdef"),
        ]
        random.shuffle(of_window)  # type: ignore[arg-type]
        records += of_window
    return log_of(records)


@pytest.mark.parametrize("cuts", [[1, 2, 3], [7, 40], list(range(1, 60))])
def test_counts_are_the_same_whatever_way_the_log_is_cut(cuts: list[int]) -> None:
    log = usage_log(60)
    whole, pieces = play(COUNTS, [], log), play(COUNTS, cuts, log)
    assert newest(whole[1]) == newest(pieces[1])
    assert changelog(whole[1]) == changelog(pieces[1])
    assert whole[0] == pieces[0]


@pytest.mark.parametrize("cuts", [[1, 2, 3], [7, 140], list(range(1, 300))])
def test_incidents_are_the_same_whatever_way_the_log_is_cut(cuts: list[int]) -> None:
    log = control_log(60)
    whole, pieces = play(CONTROL, [], log), play(CONTROL, cuts, log)
    assert published(whole[1]) == published(pieces[1])
    assert changelog(whole[1]) == changelog(pieces[1])
    assert {incident.kind for incident in published(whole[1])} == {"failure-rate", "latency", "rate-change"}


@pytest.mark.parametrize("cut", [1, 33, 120, 250])
def test_a_control_plane_that_loads_its_changelog_goes_on_as_if_nothing_had_happened(cut: int) -> None:
    log = control_log(60)
    state, steps = play(CONTROL, [], log[:cut])
    again = CONTROL.load(0, reversed(changelog(steps).items()), CONTROL.version)
    assert CONTROL.apply(again, Batch(0, log[cut:])) == CONTROL.apply(state, Batch(0, log[cut:]))
    assert CONTROL.tick(again, (START_S + 90_000) * 1000) == CONTROL.tick(state, (START_S + 90_000) * 1000)


@pytest.mark.parametrize("cut", [1, 13, 40])
def test_a_worker_that_loads_its_changelog_goes_on_as_if_nothing_had_happened(cut: int) -> None:
    log = usage_log(60)
    state, steps = play(COUNTS, [], log[:cut])
    again = COUNTS.load(0, changelog(steps).items(), COUNTS.version)
    assert again == state
    assert COUNTS.apply(again, Batch(0, log[cut:])) == COUNTS.apply(state, Batch(0, log[cut:]))


def test_trends_are_the_same_whatever_way_the_log_is_cut_and_after_loading() -> None:
    log = control_log(130)
    whole, pieces = play(TRENDS, [], log), play(TRENDS, [5, 300], log)
    assert newest(whole[1]) == newest(pieces[1])
    assert TRENDS.load(0, changelog(pieces[1]).items(), TRENDS.version) == whole[0]


@pytest.mark.parametrize("logic_", [COUNTS, CONTROL, TRENDS])
def test_state_of_another_version_is_refused(logic_: Any) -> None:
    with pytest.raises(LocalError, match="version"):
        logic_.load(0, [], 99)


def test_a_late_event_counts_into_the_oldest_open_window() -> None:
    _, (step,) = play(
        COUNTS,
        [],
        [
            message(0, usage(event("failure", START_S)), START_S),
            message(1, usage(event("failure", START_S - 9_000)), START_S),
        ],
    )
    starts = sorted(output.record.window_start_s for output in step.outputs)  # type: ignore[union-attr]
    assert starts == [(START_S - logic.LATENESS_S) // 60 * 60, START_S // 60 * 60]


def test_windows_far_behind_are_forgotten() -> None:
    state, _ = play(
        COUNTS, [], [message(n, usage(event("success", START_S + 60 * n)), START_S + 60 * n) for n in range(100)]
    )
    assert len(state.open) <= logic.LATENESS_S // logic.WINDOW_S + 2


def test_a_clock_that_is_ahead_is_refused_and_leaves_no_trace() -> None:
    state, (step,) = play(COUNTS, [], [message(0, usage(event("failure", START_S + 86_400)), START_S)])
    assert [error.reason for _, error in step.dead] == ["clock-ahead"]
    assert state == COUNTS.empty(0)


def test_a_clock_a_little_ahead_does_not_move_the_windows_of_others() -> None:
    state, _ = play(COUNTS, [], [message(0, usage(event("failure", START_S + 899)), START_S)])
    assert state.newest_s == START_S


def test_one_batch_adds_a_bounded_number_to_a_series() -> None:
    flood = usage(*[event("failure", START_S, count=10**9)] * 50, event("duration", START_S, durations=[1.0] * 5_000))
    _, (step,) = play(COUNTS, [], [message(0, flood, START_S)])
    (output,) = step.outputs
    assert isinstance(output.record, SeriesCount)
    assert output.record.failures == people.PERSON_COUNT_MAX
    assert output.record.heaviest == [people.PERSON_COUNT_MAX]
    assert sum(sketches.unpack(output.record.sketch).values()) == people.PERSON_DURATIONS_MAX
    assert output.record.events == people.PERSON_COUNT_MAX + people.PERSON_DURATIONS_MAX


def test_durations_of_a_flood_are_scaled_down_together() -> None:
    flood = usage(event("duration", START_S, durations=[1.0] * 3_000 + [2.0] * 1_000))
    _, (step,) = play(COUNTS, [], [message(0, flood, START_S)])
    (output,) = step.outputs
    assert isinstance(output.record, SeriesCount)
    assert sorted(sketches.unpack(output.record.sketch).values()) == [1.25, 3.75]


def test_a_batch_that_opens_too_many_series_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logic, "SERIES_MAX", 2)
    many = usage(*[event("failure", START_S, f"pypi:tool@1.{n}") for n in range(3)])
    state, (step,) = play(COUNTS, [], [message(0, many, START_S)])
    assert [error.reason for _, error in step.dead] == ["too-many-series"]
    assert state == COUNTS.empty(0)


@pytest.mark.parametrize(
    "record",
    [
        SeriesCount("test", "op:build", "pypi:tool@1.0", START_S, 60, 0, 3, 4, b""),
        SeriesCount("test", "op:build", "pypi:tool@1.0", START_S, 60, 0, -1, -1, b""),
        SeriesCount("test", "op:build", "pypi:tool@1.0", START_S, 0, 0, 3, 0, b""),
        SeriesCount("test", "op:build", "pypi:tool@1.0", START_S, 60, 0, 3, 0, b"12345"),
        SeriesCount("test", "op:build", "pypi:tool@1.0", START_S, 60, 0, 3, 0, np.array([1e300, 1.0]).tobytes()),
    ],
)
def test_a_count_that_cannot_be_is_a_dead_letter_and_the_next_one_counts(record: SeriesCount) -> None:
    good = series(0, "pypi:tool@1.0", 3, 0)
    state, (step,) = play(CONTROL, [], log_of([record, good]))
    assert len(step.dead) == 1
    assert len(state.windows) == 1


def test_a_bad_release_and_a_slow_operation_are_found_and_named_and_nothing_else() -> None:
    _, steps = play(CONTROL, [], control_log(40))
    found = {(i.kind, i.subject, i.release) for i in published(steps)}
    assert found == {("failure-rate", "op:build", "pypi:tool@1.1"), ("latency", "op:test", "pypi:slow@2.1")}
    bad = next(i for i in published(steps) if i.kind == "failure-rate")
    assert START_S + 600 <= bad.since_s <= START_S + 60 * 20
    assert bad.seen > 2 * bad.expected
    assert bad.confidence > 0.99


def test_200_good_releases_find_nothing() -> None:
    random = np.random.default_rng(3)
    records = [
        series(window, f"pypi:tool@{release}", 100, int(random.binomial(100, 0.02)), name=f"op:{name}")
        for window in range(30)
        for name in "abcdefghij"
        for release in range(20)
    ]
    _, steps = play(CONTROL, [], log_of(records))
    assert published(steps) == []


def test_failures_and_durations_of_one_series_are_judged_apart() -> None:
    random = np.random.default_rng(4)
    records = []
    for window in range(30):
        slow = random.lognormal(0, 0.3, 60)
        records.append(series(window, "pypi:tool@1.0", 160, int(random.binomial(100, 0.02)), slow))
        records.append(series(window, "pypi:tool@1.1", 160, int(random.binomial(100, 0.2)), slow))
    _, steps = play(CONTROL, [], log_of(records))
    assert {(i.kind, i.release) for i in published(steps)} == {("failure-rate", "pypi:tool@1.1")}


def test_an_incident_grows_is_merged_across_versions_and_is_resolved_once_it_is_over() -> None:
    random = np.random.default_rng(5)
    records = []
    for window in range(140):
        bad = 0.25 if 5 <= window < 60 else 0.02
        for release, rate in (("1.0", 0.02), ("1.1", bad), ("1.2", bad if window >= 30 else 0.02)):
            records.append(series(window, f"pypi:tool@{release}", 60, int(random.binomial(60, rate))))
    _, steps = play(CONTROL, [], log_of(records))
    told = published(steps)
    assert told[0].status == "opened"
    assert told[-1].status == "resolved"
    assert [i.status for i in told].count("opened") == 1
    assert {i.incident for i in told} == {told[0].incident}
    assert told[-1].versions == ["pypi:tool@1.1", "pypi:tool@1.2"]
    assert len(told) <= 12, "an incident is published when it has grown, not every minute"


def test_an_incident_whose_series_stops_is_resolved_by_the_clock() -> None:
    state, _ = play(CONTROL, [], control_log(20))
    assert state.open
    last = CONTROL.tick(state, (START_S + 20 * 60 + incidents.QUIET_S + incidents.CLOCK_GRACE_S + 60) * 1000)
    assert {i.status for i in published([last])} == {"resolved"}
    assert not state.open


def test_windows_close_by_the_clock_when_nothing_newer_comes() -> None:
    state, _ = play(CONTROL, [], control_log(1))
    assert state.windows
    CONTROL.tick(state, (START_S + incidents.CLOCK_GRACE_S + 61) * 1000)
    assert not state.windows


def test_a_window_that_was_judged_is_not_judged_again() -> None:
    log = control_log(30)
    state, _ = play(CONTROL, [], log)
    again = CONTROL.apply(state, Batch(0, log[:100]))
    assert again.outputs == []
    assert again.changed == {}


def test_the_comparisons_seen_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "TESTS_MAX", 10)
    records = [series(window, f"pypi:tool@{window}.{r}", 10, 0) for window in range(30) for r in range(2)]
    state, steps = play(CONTROL, [], log_of(records))
    assert len(state.comparisons) <= 10
    assert len([key for key in changelog(steps) if key[:1] == b"c"]) == len(state.comparisons)


def test_a_series_that_never_varies_is_no_incident() -> None:
    _, steps = play(CONTROL, [], log_of(series(window, "", 5, 5) for window in range(600)))
    assert published(steps) == []


def sketched(*pairs: float) -> bytes:
    return np.array(pairs, dtype="<f8").tobytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"count": 0}, "bad-count"),
        ({"count": -5}, "bad-count"),
        ({"kind": "duration", "sketch": sketched(1.0, -3.0)}, "bad-sketch"),
        ({"kind": "duration", "sketch": sketched(1e9, 1.0)}, "bad-sketch"),
        ({"kind": "duration", "sketch": sketched(1.0, 1e300)}, "bad-sketch"),
        ({"kind": "duration", "sketch": sketched(1.0, float("nan"))}, "bad-sketch"),
        ({"kind": "duration", "sketch": b"123"}, "bad-sketch"),
        ({"release": "pypi:tool"}, "bad-name"),
        ({"release": "pypi:tool@latest"}, "bad-name"),
        ({"release": "pypi:tool@1.2.3.4.5"}, "bad-name"),
        ({"release": "pypi:tool@"}, "bad-name"),
        ({"release": "@1.0"}, "bad-name"),
        ({"release": "pypi:" + "a" * 9_000 + "@1.0"}, "bad-name"),
        ({"items": ["no namespace"]}, "bad-name"),
        ({"items": ["op:build", "path:/home/ada/secret"]}, "bad-name"),
        ({"items": ["op:" + "a" * 9_000]}, "bad-name"),
    ],
)
def test_what_cannot_be_is_a_dead_letter_leaves_no_trace_and_the_next_one_counts(
    change: dict[str, Any], reason: str
) -> None:
    bad = replace(event("failure", START_S), **change)
    state, (step,) = play(COUNTS, [], [message(0, usage(bad), START_S)])
    assert [error.reason for _, error in step.dead] == [reason]
    assert state == COUNTS.empty(0)
    assert "secret" not in str(step.dead[0][1])
    assert len(COUNTS.apply(state, Batch(0, [message(1, usage(event("failure", START_S)), START_S)])).outputs) == 1


@pytest.mark.parametrize("time_s", [-(10**15), -1, 0, 1])
def test_a_clock_that_is_far_behind_counts_into_the_oldest_open_window(time_s: int) -> None:
    log = [message(0, usage(event("success", START_S)), START_S), message(1, usage(event("failure", time_s)), START_S)]
    state, _ = play(COUNTS, [], log)
    assert min(start_s for _, _, start_s in state.open) == (START_S - logic.LATENESS_S) // 60 * 60


def test_releases_of_scoped_packages_are_compared_within_their_package() -> None:
    log = [message(0, usage(event("failure", START_S, "npm:@scope/tool@1.2")), START_S)]
    _, (step,) = play(COUNTS, [], log)
    assert not step.dead


def test_a_series_that_stops_is_forgotten_and_one_that_returns_is_judged_again() -> None:
    random = np.random.default_rng(11)
    records = [
        series(window, f"pypi:tool@{release}", 60, int(random.binomial(60, rate)))
        for window in [*range(40), *range(5_000, 5_040)]
        for release, rate in (("1.0", 0.02), ("1.1", 0.3 if window < 40 else 0.02))
    ]
    state, steps = play(CONTROL, [], log_of(records))
    assert [i.status for i in published(steps)][-1] == "resolved"
    assert not state.open
    assert len(state.windows) <= 6
