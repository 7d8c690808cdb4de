"""What becomes an incident besides a worse release: new signatures, opened sums, slower durations, associations; bounded, and the
same after a restart."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aicache.privacy import accounting, quantize
from aicache.privacy.errors import LocalError
from aicache.producers.vectors import count_sketch
from aicache.schemas import topics
from aicache.schemas.records import Aggregate, ExposureCount, GroupSum, Guarantee, Incident, Record, SeriesCount, Task
from aicache.streams.anomalies import incidents, novel, opened, patterns, sketches, written
from aicache.streams.anomalies.evidence import Plan
from aicache.streams.anomalies.exposures import PERIOD_S
from aicache.streams.anomalies.incidents import Incidents
from aicache.streams.anomalies.opened import release_labels
from aicache.streams.anomalies.trends import Trends
from aicache.streams.rounds import task as tasks
from aicache.streams.runtime.contract import Batch, Message, Step
from support.folds import changelog, play

START_S = 1_700_006_400 // PERIOD_S * PERIOD_S
CONTROL = Incidents()
SIGNATURE = "sig:0123456789abcdef"
TOPIC = {Task: topics.TASKS, Aggregate: topics.AGGREGATES}


def log_of(records: Sequence[Record]) -> list[Message]:
    return [
        Message(TOPIC.get(type(record), topics.SERIES).name, 0, n, 0, b"", record)  # type: ignore[call-overload]
        for n, record in enumerate(records)
    ]


def series(
    window: int, name: str, release: str = "", events: int = 10, failures: int = 0, people: int = 0, **more: Any
) -> SeriesCount:
    durations = more.get("durations", ())
    sketch = sketches.pack(sketches.sketch_of(durations))
    start_s, partition = START_S + 60 * window, more.get("partition", 0)
    return SeriesCount("test", name, release, start_s, 60, partition, events, failures, sketch, people)


def published(steps: Sequence[Step]) -> list[Incident]:
    return [output.record for step in steps for output in step.outputs if isinstance(output.record, Incident)]


def of(kind: str, steps: Sequence[Step]) -> list[Incident]:
    return [incident for incident in published(steps) if incident.kind == kind]


# ---------------------------------------------------------------- new signatures


def signature_log(first: int = 100, people: int = 12, windows: int = 3) -> list[SeriesCount]:
    """An old signature, and one that comes with release 1.1, seen by people in two partitions."""
    usual = [series(n, "sig:00000000000000aa", "pypi:tool@1.0", 1, 1, 30) for n in range(first + windows)]
    new = [
        series(first + n, SIGNATURE, "pypi:tool@1.1", 5, 5, people // 2, partition=partition)
        for n in range(windows)
        for partition in (0, 1)
    ]
    end = [series(first + windows + n, "op:build", "pypi:tool@1.0") for n in range(5)]
    return sorted(usual + new, key=lambda record: record.window_start_s) + end


def test_a_signature_that_came_with_a_release_is_told_once_ten_people_have_it() -> None:
    _, steps = play(CONTROL, [], log_of(signature_log()))
    (found,) = of("new-signature", steps)
    assert (found.subject, found.release, found.n, found.unit) == (SIGNATURE, "pypi:tool@1.1", 12, "people")
    assert found.since_s == START_S + 6_000
    assert found.guarantee is None


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (signature_log(people=8), "too few people"),
        (signature_log(first=30), "everything is new in the first hour"),
        ([replace(one, release="") for one in signature_log()], "no release came with it"),
    ],
)
def test_other_signatures_are_not_told(log: list[SeriesCount], why: str) -> None:
    _, steps = play(CONTROL, [], log_of(log))
    assert of("new-signature", steps) == [], why


def test_a_new_signature_is_over_when_nobody_tells_it_any_more_and_is_not_new_again() -> None:
    log = signature_log()
    log += [series(200 + n, SIGNATURE, "pypi:tool@1.1", 5, 5, 12) for n in range(3)]
    log += [series(206, "op:build", "pypi:tool@1.0")]
    _, steps = play(CONTROL, [], log_of(log))
    assert [found.status for found in of("new-signature", steps)] == ["opened", "resolved"]


def test_signatures_are_bounded_and_those_seen_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novel, "SIGNATURES_MAX", 10)
    log = log_of([series(n, f"sig:{n:016x}", "pypi:tool@1.0", 1, 1, 1) for n in range(40)])
    state, steps = play(CONTROL, [7], log)
    assert len(state.signatures) <= 10
    assert CONTROL.load(0, changelog(steps).items(), CONTROL.version).signatures == state.signatures


def test_trends_tell_nothing_of_a_signature_that_few_people_have() -> None:
    trends = Trends()
    few = [series(n, SIGNATURE, "pypi:tool@1.0", 5, 5, 4, partition=n % 2) for n in range(9)]
    state, steps = play(trends, [4], log_of([*few, series(9, "op:build", "pypi:tool@1.0")]))
    assert {output.record.series for step in steps for output in step.outputs} == {"op:build"}  # type: ignore[union-attr]
    again = trends.load(0, changelog(steps).items(), trends.version)
    assert again == state
    step = trends.apply(again, Batch(0, log_of([series(10, SIGNATURE, "pypi:tool@1.0", 5, 5, 6)])))
    assert [(output.record.series, output.record.value) for output in step.outputs] == [(SIGNATURE, 50.0)]  # type: ignore[union-attr]
    late = trends.apply(again, Batch(0, log_of([series(9_000, "op:build")])))
    assert again.people == {}
    assert None in late.changed.values()


# ---------------------------------------------------------------- signatures counted over people


def task_of(**fields: Any) -> Task:
    return tasks.from_mapping({"scale": 64.0, "n_min": 10, "epsilon": 1.0, "rounds": 1, **fields}, "test")


def aggregate(task: Task, number: int, counts: np.ndarray[Any, Any], n: int, seed: int = 1) -> Aggregate:
    """The sum as it is opened, with the noise of the whole committee."""
    promised = tasks.guarantee_of(task)
    sigma = tasks.present_sigma(task, n)
    noise = np.rint(np.random.default_rng(seed + number).normal(0, sigma, task.length))
    total = (np.rint(counts * task.scale) + noise).astype("<i8").tobytes()
    guarantee = Guarantee(**{name: getattr(promised, name) for name in Guarantee.__dataclass_fields__})
    groups = [GroupSum(0, n, "opened", "", total)]
    closed_ms = (START_S + 3_600 * number) * 1000
    name = (task.deployment, task.task, task.version, f"{task.task}-{number}", number, task.kind)
    return Aggregate(
        *name, bytes(32), closed_ms, n, task.length, task.scale, task.labels, total, groups, guarantee, sigma
    )


SKETCH = task_of(task="signatures", kind="count-sketch", sketch_depth=5, sketch_width=512, clip=math.sqrt(5))


def sketch_of(people: int, others: int = 200) -> np.ndarray[Any, Any]:
    names = [SIGNATURE] * people + [f"sig:{n:016x}" for n in range(others)]
    return count_sketch(names, 5, 512)


def test_where_a_task_counts_signatures_one_is_public_only_after_an_opened_sum_has_passed_the_threshold() -> None:
    few, many = aggregate(SKETCH, 1, sketch_of(60), 300), aggregate(SKETCH, 2, sketch_of(400), 700)
    log = signature_log(windows=10, people=40)
    at = next(n for n, one in enumerate(log) if one.window_start_s == START_S + 6_300)
    _, steps = play(CONTROL, [], log_of([SKETCH, few, *log]))
    assert of("new-signature", steps) == [], "60 people are not beyond doubt 50"
    _, steps = play(CONTROL, [], log_of([SKETCH, few, *log[:at], many, *log[at:]]))
    (found,) = of("new-signature", steps)
    assert abs(found.seen - 400) < 100
    assert found.n == round(found.seen), "the exact count, which the guarantee says nothing about, is not told"
    assert found.guarantee == many.guarantee
    assert "counted with noise" in found.explanation


def test_a_signature_that_is_not_public_is_no_other_incident_either() -> None:
    rising = [series(n, SIGNATURE, "", 4 if n < 60 else 90, 4 if n < 60 else 90, 30) for n in range(100)]
    _, steps = play(CONTROL, [], log_of(rising))
    assert {found.kind for found in published(steps)} == {"rate-change"}
    _, steps = play(CONTROL, [], log_of([SKETCH, aggregate(SKETCH, 1, sketch_of(20), 300), *rising]))
    assert published(steps) == []


def test_a_signature_of_one_company_stays_there_whatever_the_noise() -> None:
    """Thirty people of one company have it: no opened sum, whatever its noise, makes it public."""
    passed = 0
    for seed in range(300):
        opened_sum = aggregate(SKETCH, 1, sketch_of(30), 300, seed)
        state, _ = play(CONTROL, [], log_of([SKETCH, opened_sum]))
        passed += opened.people_of(state.tables["signatures"], SIGNATURE).at_least >= novel.PEOPLE_PUBLIC
    assert passed == 0


@pytest.mark.parametrize(
    "bad",
    [
        replace(aggregate(SKETCH, 1, sketch_of(60), 300), sum=b"123"),
        replace(aggregate(SKETCH, 1, sketch_of(60), 300), scale=-1.0),
    ],
)
def test_a_sum_that_does_not_fit_its_task_is_a_dead_letter(bad: Aggregate) -> None:
    state, (step,) = play(CONTROL, [], log_of([SKETCH, bad]))
    assert [error.reason for _, error in step.dead] == ["bad-sum"]
    assert not state.tables


def test_a_sketch_too_large_to_keep_and_sums_of_other_tasks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "TABLE_MAX", 100)
    other = task_of(task="tags", kind="histogram", labels=["tag:a", "tag:b"])
    log = log_of([SKETCH, aggregate(SKETCH, 1, sketch_of(60), 300), other, aggregate(other, 1, np.zeros(2), 20)])
    state, steps = play(CONTROL, [], log)
    assert not state.tables
    assert list(state.plans) == ["signatures"]
    assert not [letter for step in steps for letter in step.dead]


# ---------------------------------------------------------------- releases by opened sums


RELEASES = task_of(
    task="crashes", kind="histogram", labels=release_labels(["pypi:tool@1.0", "pypi:tool@1.1", "pypi:tool@1.2"])
)


def rounds(bad: float, count: int, seed: int = 1) -> list[Record]:
    random = np.random.default_rng(seed)
    log: list[Record] = [RELEASES]
    for number in range(1, count + 1):
        counts = []
        for clients, rate in ((2_500, 0.02), (500, bad), (2_000, 0.02)):
            failed = int(random.binomial(clients, rate))
            counts += [clients - failed, failed]
        log.append(aggregate(RELEASES, number, np.array(counts, dtype=float), 5_000, seed))
    return log


def test_a_bad_release_is_found_from_opened_sums_with_the_guarantee_of_all_rounds_it_took() -> None:
    log = rounds(0.08, 3)
    _, steps = play(CONTROL, [], log_of(log))
    found = published(steps)
    assert found[0].status == "opened"
    assert (found[0].subject, found[0].release, found[0].kind) == ("task:crashes", "pypi:tool@1.1", "failure-rate")
    assert found[0].seen == pytest.approx(0.08, abs=0.03)
    assert found[0].guarantee is not None
    taken = round((found[0].updated_s - START_S) / 3_600)
    assert taken <= 3
    one = tasks.guarantee_of(RELEASES)
    assert found[0].guarantee.rdp == pytest.approx([taken * value for value in one.rdp])
    assert found[0].guarantee.epsilon == pytest.approx(
        accounting.epsilon_from_rdp(np.array(found[0].guarantee.rdp), one.delta)
    )
    assert found[0].guarantee.window == "task:crashes"


@pytest.mark.parametrize("sketch", [aggregate(SKETCH, 1, sketch_of(60), 300), aggregate(SKETCH, 2, sketch_of(9), 300)])
def test_a_sketch_that_is_read_before_its_task_waits_for_it_also_over_a_restart(sketch: Aggregate) -> None:
    told = play(CONTROL, [], log_of([SKETCH, sketch]))[0].tables
    late, (first,) = play(CONTROL, [], log_of([sketch]))
    assert not late.tables
    again = CONTROL.load(0, changelog([first]).items(), CONTROL.version)
    assert again == late
    second = CONTROL.apply(again, Batch(0, log_of([SKETCH])))
    assert again.tables == told
    assert not again.early
    assert not [key for key in changelog([first, second]) if key[:1] == b"e"]


def test_a_sketch_is_read_as_its_own_version_of_the_task_says_whichever_topic_was_read_first() -> None:
    """Ending a task makes a new version, too: the last sum of the one before must not be lost to it."""
    one = aggregate(SKETCH, 1, sketch_of(60), 300)
    ended = replace(SKETCH, version=2, state="ended", sketch_depth=10, sketch_width=256)
    expected = play(CONTROL, [1, 2], log_of([SKETCH, one, ended]))[0]
    state, steps = play(CONTROL, [1, 2], log_of([SKETCH, ended, one]))
    assert state == expected
    assert (state.tables["signatures"].depth, state.plans["signatures"].active) == (5, False)
    assert CONTROL.load(0, changelog(steps).items(), CONTROL.version) == state
    state, steps = play(CONTROL, [1], log_of([one, ended]))
    assert not state.tables and not state.early, "its own version is not in the log any more: it waits for nothing"


def test_versions_of_a_task_are_bounded() -> None:
    state, _ = play(CONTROL, [], log_of([replace(SKETCH, version=n) for n in range(1, 40)]))
    assert sorted(state.plans["signatures"].shapes) == list(range(40 - opened.VERSIONS_MAX, 40))


def test_a_task_that_is_read_in_one_batch_with_windows_says_first_what_must_not_be_told() -> None:
    few = aggregate(SKETCH, 1, sketch_of(20), 300)
    _, steps = play(CONTROL, [], log_of([few, *signature_log(windows=10, people=40), SKETCH]))
    assert of("new-signature", steps) == []


def test_releases_are_compared_whether_or_not_their_task_was_read_and_each_round_once() -> None:
    log = rounds(0.15, 3)
    _, steps = play(CONTROL, [], log_of(log))
    assert published(steps)
    for other in (log[1:], [*log[1:], log[0]], [log[1], log[1], log[2], log[1], log[2], log[3]]):
        _, found = play(CONTROL, [], log_of(other))
        assert published(found) == published(steps)
        assert changelog(found) == changelog(steps)


def test_sums_that_do_not_tell_their_noise_are_not_compared() -> None:
    log = [replace(one, sigma=0.0) if isinstance(one, Aggregate) else one for one in rounds(0.15, 3)]
    state, (step,) = play(CONTROL, [], log_of(log))
    assert not state.rounds
    assert not step.dead


def test_what_a_clip_that_adapts_adds_to_a_sum_is_not_taken_for_a_count() -> None:
    """Its bits are summed in a coordinate of their own, behind the others."""
    log = rounds(0.15, 3)
    more = [replace(one, length=one.length + 1, sum=one.sum + bytes(8)) for one in log if isinstance(one, Aggregate)]
    _, steps = play(CONTROL, [], log_of(log))
    _, found = play(CONTROL, [], log_of(more))
    assert (published(found), changelog(found)) == (published(steps), changelog(steps))
    one = aggregate(SKETCH, 1, sketch_of(60), 300)
    tables = [
        play(CONTROL, [], log_of([SKETCH, sketch]))[0].tables
        for sketch in (one, replace(one, length=one.length + 1, sum=one.sum + bytes(8)))
    ]
    assert tables[0] == tables[1] != {}
    _, (step,) = play(CONTROL, [], log_of([replace(log[1], labels=log[1].labels[:2])]))  # type: ignore[type-var, union-attr, list-item]
    assert [error.reason for _, error in step.dead] == ["bad-sum"]


def test_the_state_of_the_third_version_is_read() -> None:
    """It kept one version of a task alone, histograms, too; those needed their task, and waited for it."""
    plan = {"members": 5, "threshold": 3, "honest": 0, "noise": "committee", "active": True, "version": 2}
    sketch, histogram = aggregate(SKETCH, 1, sketch_of(60), 300), rounds(0.15, 1)[1]
    entries = {
        b"psignatures": json.dumps({**plan, "kind": "count-sketch", "depth": 5, "width": 512}).encode(),
        b"pcrashes": json.dumps({**plan, "kind": "histogram", "depth": 0, "width": 0}).encode(),
        written.early_key("signatures-1"): written.CODEC.encode(sketch),
        written.early_key("crashes-1"): written.CODEC.encode(histogram),
    }
    state = CONTROL.load(0, entries.items(), 3)
    assert state.plans == {"signatures": Plan(2, True, {2: (5, 512)})}
    assert list(state.early) == ["signatures-1"]
    with pytest.raises(LocalError, match="another version"):
        CONTROL.load(0, entries.items(), 5)


def test_good_releases_are_not_found_from_opened_sums() -> None:
    for seed in range(15):
        _, steps = play(CONTROL, [], log_of(rounds(0.02, 6, seed)))
        assert published(steps) == [], seed


def test_an_incident_of_opened_sums_is_over_after_good_rounds_or_when_there_are_none() -> None:
    bad, good = rounds(0.15, 2), rounds(0.02, 7)[3:]
    state, steps = play(CONTROL, [], log_of([*bad, *good]))
    assert [found.status for found in published(steps)][-1] == "resolved"
    assert not [release for _, release in state.rounds if release == "pypi:tool@1.1" and state.open]
    state, steps = play(CONTROL, [], log_of(bad))
    assert state.open
    last = CONTROL.tick(state, (START_S + incidents.ROUNDS_QUIET_S + 10_000) * 1000)
    assert {found.status for found in published([last])} == {"resolved"}


# ---------------------------------------------------------------- durations


def slow_log(windows: int = 200, at: int = 120, factor: float = 2.0, release: str = "") -> list[SeriesCount]:
    random = np.random.default_rng(7)
    return [
        series(n, "op:test", release, 40, 0, durations=(factor if n >= at else 1.0) * random.lognormal(0, 0.4, 40))
        for n in range(windows)
    ]


def test_durations_that_become_longer_everywhere_are_an_incident_with_the_size_of_the_effect() -> None:
    _, steps = play(CONTROL, [], log_of(slow_log()))
    (found,) = of("duration-shift", steps)
    assert START_S + 60 * 120 <= found.since_s <= START_S + 60 * 126
    assert found.seen / found.expected == pytest.approx(2.0, rel=0.25)
    assert "95%" in found.explanation


@pytest.mark.parametrize(
    "log",
    [
        slow_log(factor=1.0),
        slow_log(factor=1.1),
        slow_log(factor=0.3),
        [series(n, "op:test", "", 5, 0, durations=[1.0] * 5) for n in range(200)],
        [series(n, "op:test", "", 40, 0, durations=[1.0] * 40) for n in range(300)],
    ],
    ids=["the same", "a little longer", "shorter", "few", "never varying"],
)
def test_other_durations_are_none(log: list[SeriesCount]) -> None:
    state, steps = play(CONTROL, [], log_of(log))
    assert of("duration-shift", steps) == []
    assert len(state.drifts) <= 1


def test_a_slow_release_is_told_once_not_also_as_a_shift_of_its_series() -> None:
    random = np.random.default_rng(8)
    log = []
    for n in range(200):
        bad = 4.0 if n >= 100 else 1.0
        log.append(series(n, "op:test", "pypi:tool@1.0", 40, 0, durations=random.lognormal(0, 0.3, 40)))
        log.append(series(n, "op:test", "pypi:tool@1.1", 90, 0, durations=bad * random.lognormal(0, 0.3, 90)))
    _, steps = play(CONTROL, [], log_of(log))
    assert {found.kind for found in published(steps)} == {"latency"}


# ---------------------------------------------------------------- associations


def cells(day: int, risk: float, seed: int = 1, candidates: int = 40) -> list[ExposureCount]:
    """Two strata of 4,000 people; half use `pypi:left`, which multiplies the risk of failure; others have no effect."""
    random = np.random.default_rng(seed)
    found = []
    for stratum, base in (("python/linux", 0.05), ("python/macos", 0.15)):
        had = random.random((4_000, candidates)) < 0.2
        failed = random.random(4_000) < base * np.where(had[:, 0], risk, 1.0)
        rows = [("", 4_000, int(failed.sum()))]
        rows += [
            (f"pypi:p{n}@1.{n}" if n else "pypi:left", int(had[:, n].sum()), int((had[:, n] & failed).sum()))
            for n in range(candidates)
        ]
        found += [
            ExposureCount("test", "op:build", name, stratum, START_S + day * PERIOD_S, PERIOD_S, part, *half)
            for name, people, failing in rows
            for part, half in enumerate(((people // 2, failing // 2), (people - people // 2, failing - failing // 2)))
        ]
    return found


def after(day: int) -> SeriesCount:
    """A window late enough for a day to be judged."""
    return series((day + 1) * PERIOD_S // 60 + 70, "op:other", "pypi:tool@1.0")


def test_what_goes_with_failures_is_told_as_an_association_and_is_over_when_it_does_so_no_more() -> None:
    log = [*cells(0, 2.5), after(0), after(0), *cells(1, 2.5, 2), after(1), *cells(2, 1.0, 3), after(2), after(2)]
    log.insert(len(log) - 1, series(3 * PERIOD_S // 60 + 80, "op:other", "pypi:tool@1.0"))
    _, steps = play(CONTROL, [], log_of(log))
    found = of("association", steps)
    assert [(one.status, one.subject) for one in found] == [("opened", "op:build"), ("resolved", "op:build")]
    assert "pypi:left" in found[0].explanation
    assert "association, not cause" in found[0].explanation
    assert found[0].seen == pytest.approx(2.5, rel=0.25)


def test_a_period_is_judged_once_and_by_the_clock_when_nothing_newer_comes() -> None:
    state, _ = play(CONTROL, [], log_of(cells(0, 2.5)))
    step = CONTROL.tick(state, (START_S + PERIOD_S + 2 * patterns.PERIOD_GRACE_S) * 1000)
    assert len(of("association", [step])) == 1
    assert (state.periods, state.cells) == ({}, 0)
    again = CONTROL.apply(state, Batch(0, log_of(cells(0, 2.5))))
    assert (again.outputs, state.periods) == ([], {})


def test_impossible_and_too_many_cells_are_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "CELLS_MAX", 3)
    good = [ExposureCount("test", "op:a", f"pypi:{n}", "", START_S, PERIOD_S, 0, 9, 1) for n in range(5)]
    bad = ExposureCount("test", "op:a", "pypi:x", "", START_S, PERIOD_S, 0, 1, 2)
    state, (step,) = play(CONTROL, [], log_of([bad, *good]))
    assert sorted(error.reason for _, error in step.dead) == ["bad-counts", "too-many-cells", "too-many-cells"]
    assert state.cells == 3


# ---------------------------------------------------------------- all of it


def mixed_log() -> list[Message]:
    windows: list[Record] = [*signature_log(windows=60, people=40)]
    windows += slow_log()
    windows.sort(key=lambda record: record.window_start_s)  # type: ignore[union-attr]
    log: list[Record] = [SKETCH, *rounds(0.15, 2), *cells(-1, 2.5), *windows[:150]]
    log += [aggregate(SKETCH, 1, sketch_of(400), 700), *windows[150:]]
    return log_of(log)


@pytest.mark.parametrize("cuts", [[1, 5, 170, 171], [100, 300], list(range(1, 400, 7))])
def test_all_kinds_are_the_same_whatever_way_the_log_is_cut(cuts: list[int]) -> None:
    log = mixed_log()
    whole, pieces = play(CONTROL, [], log), play(CONTROL, cuts, log)
    assert published(whole[1]) == published(pieces[1])
    assert changelog(whole[1]) == changelog(pieces[1])
    kinds = {found.kind for found in published(whole[1])}
    assert kinds == {"new-signature", "failure-rate", "duration-shift", "association"}


@pytest.mark.parametrize("cut", [3, 120, 250, 380])
def test_a_control_plane_that_loads_its_changelog_goes_on_bit_for_bit(cut: int) -> None:
    log = mixed_log()
    state, steps = play(CONTROL, [], log[:cut])
    again = CONTROL.load(0, reversed(changelog(steps).items()), CONTROL.version)
    assert CONTROL.apply(again, Batch(0, log[cut:])) == CONTROL.apply(state, Batch(0, log[cut:]))
    late_ms = (START_S + 9 * PERIOD_S) * 1000
    assert CONTROL.tick(again, late_ms) == CONTROL.tick(state, late_ms)


def test_the_sensitivity_of_a_place_is_that_of_one_client() -> None:
    assert quantize.sensitivity(1.0, 64.0, 6) < 64 + math.sqrt(6)
