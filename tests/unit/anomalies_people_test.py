"""What one person adds is bounded whatever they send, and who had what when it failed is counted over people."""

from collections.abc import Iterator

import pytest

from aicache.schemas.records import ExposureCount, SeriesCount, UsageBatch, UsageEvent
from aicache.streams.anomalies import exposures, logic, people
from aicache.streams.anomalies.logic import Anomalies
from aicache.streams.runtime.contract import Batch, Message, Step
from support.folds import changelog, play

START_S = 1_700_000_040
COUNTS = Anomalies()
SIGNATURE = "sig:0123456789abcdef"


def usage(person: int, *events: UsageEvent, os_family: str = "linux", sequence: int = 0) -> UsageBatch:
    name = person.to_bytes(4, "big") + bytes(12)
    return UsageBatch("test", name, 1, sequence, "python", "", os_family, "build", "tool@1", list(events))


def event(
    kind: str, item: str = "op:build", time_s: int = START_S, release: str = "pypi:tool@1.0", count: int = 1
) -> UsageEvent:
    return UsageEvent(kind, time_s, [item], [], release, count, b"", -1, 0.0)


def log_of(records: list[UsageBatch], now_s: int = START_S) -> list[Message]:
    return [Message("aicache.usage", 0, n, now_s * 1000, b"", record) for n, record in enumerate(records)]


def counts(steps: list[Step]) -> dict[tuple[str, str, int], SeriesCount]:
    found = [output.record for step in steps for output in step.outputs if isinstance(output.record, SeriesCount)]
    return {(record.series, record.release, record.window_start_s): record for record in found}


def test_a_client_that_floods_a_signature_counts_as_one_heavy_user_however_many_batches_and_releases_it_sends() -> None:
    """Ten thousand failures by one of a hundred people: a hundred of them count, beside one of each of the others."""
    releases = [f"pypi:tool@1.{n % 10}" for n in range(100)]
    flood = [usage(0, event("failure", SIGNATURE, release=r, count=100), sequence=n) for n, r in enumerate(releases)]
    others = [usage(person, event("failure", SIGNATURE)) for person in range(1, 100)]
    _, steps = play(COUNTS, [30, 31, 90], log_of(flood + others))
    assert sum(count.failures for count in counts(steps).values()) == people.PERSON_COUNT_MAX + 99


def test_a_person_may_add_again_in_the_next_window_and_the_bound_holds_over_a_restart() -> None:
    first = log_of([usage(0, event("failure", count=90))])
    state, steps = play(COUNTS, [], first)
    again = COUNTS.load(0, reversed(changelog(steps).items()), COUNTS.version)
    assert again == state
    step = COUNTS.apply(again, Batch(0, log_of([usage(0, event("failure", count=90))])))
    assert [output.record.failures for output in step.outputs] == [people.PERSON_COUNT_MAX]  # type: ignore[union-attr]
    later = usage(0, event("failure", count=90, time_s=START_S + 60))
    step = COUNTS.apply(again, Batch(0, log_of([later], START_S + 60)))
    assert [output.record.failures for output in step.outputs] == [90]  # type: ignore[union-attr]


def test_a_person_that_opens_too_many_series_is_refused_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "PERSON_SERIES_MAX", 6)  # three series, a release each
    many = [usage(0, event("failure", f"op:a{n}")) for n in range(5)]
    state, (step,) = play(COUNTS, [], log_of([*many, usage(1, event("failure", "op:a4"))]))
    assert [error.reason for _, error in step.dead] == ["too-many-people"] * 2
    assert {series for series, _, _ in state.open} == {"op:a0", "op:a1", "op:a2", "op:a4"}


def test_people_beyond_the_bound_are_refused_until_windows_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "PEOPLE_MAX", 2)
    state, (step,) = play(COUNTS, [], log_of([usage(n, event("failure")) for n in range(3)]))
    assert [error.reason for _, error in step.dead] == ["too-many-people"]
    later = usage(9, event("failure", time_s=START_S + 900))
    step = COUNTS.apply(state, Batch(0, log_of([later], START_S + 900)))
    assert not step.dead, "whoever moves time on finds room"
    assert len(state.open) == 1


def test_series_beyond_the_bound_are_refused_until_windows_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logic, "SERIES_MAX", 2)
    state, (step,) = play(COUNTS, [], log_of([usage(n, event("failure", f"op:a{n}")) for n in range(3)]))
    assert [error.reason for _, error in step.dead] == ["too-many-series"]
    later = usage(9, event("failure", time_s=START_S + 900))
    assert not COUNTS.apply(state, Batch(0, log_of([later], START_S + 900))).dead


def test_people_who_tell_a_signature_are_counted_once_each_up_to_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "PEOPLE_TOLD", 7)
    records = [usage(n % 5, event("failure", SIGNATURE), sequence=n) for n in range(40)]
    _, steps = play(COUNTS, [3, 17], log_of(records))
    (count,) = counts(steps).values()
    assert (count.failures, count.people) == (40, 5)
    _, steps = play(COUNTS, [], log_of([usage(n, event("failure", SIGNATURE)) for n in range(20)]))
    assert {count.people for count in counts(steps).values()} == {7}
    _, steps = play(COUNTS, [], log_of([usage(0, event("failure"))]))
    assert {count.people for count in counts(steps).values()} == {1}
    _, steps = play(COUNTS, [], log_of([usage(n, event("failure")) for n in range(20)]))
    assert {count.people for count in counts(steps).values()} == {people.PEOPLE_FEW}
    _, steps = play(COUNTS, [], log_of([usage(0, event("success"))]))
    assert {count.people for count in counts(steps).values()} == {0}, "who has no failure is not counted"


def test_signatures_told_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "SEEN_MAX", 10)
    records = [usage(n, event("failure", f"sig:{n:016x}", START_S + 3_600 * n), sequence=n) for n in range(30)]
    log = [
        Message("aicache.usage", 0, n, (START_S + 3_600 * n) * 1000, b"", record) for n, record in enumerate(records)
    ]
    state, steps = play(COUNTS, [4, 11], log)
    assert len(state.people.seen) <= 10
    assert COUNTS.load(0, changelog(steps).items(), COUNTS.version) == state


def crowd() -> Iterator[UsageBatch]:
    """Forty people; those with `pypi:left` fail, on both systems."""
    for person in range(40):
        had = "pypi:left" if person % 2 else "pypi:right"
        kind = "failure" if person % 2 else "success"
        yield usage(
            person, event("used", had), event(kind), os_family=("linux", "macos")[person // 2 % 2], sequence=person
        )


@pytest.mark.parametrize("cuts", [[], [1, 20, 39]])
def test_people_are_counted_by_what_they_had_when_their_period_is_over(cuts: list[int]) -> None:
    records = [*crowd(), usage(99, event("success", time_s=START_S + exposures.PERIOD_S))]
    log = [Message("aicache.usage", 0, n, r.events[-1].time_s * 1000, b"", r) for n, r in enumerate(records)]
    state, steps = play(COUNTS, cuts, log)
    found = [output.record for step in steps for output in step.outputs if isinstance(output.record, ExposureCount)]
    told = {(r.candidate, r.stratum): (r.people, r.failing) for r in found if r.outcome == "op:build"}
    assert told == {
        ("", "python/linux"): (20, 10),
        ("", "python/macos"): (20, 10),
        ("pypi:left", "python/linux"): (10, 10),
        ("pypi:left", "python/macos"): (10, 10),
        ("pypi:right", "python/linux"): (10, 0),
        ("pypi:right", "python/macos"): (10, 0),
        ("pypi:tool@1.0", "python/linux"): (20, 10),
        ("pypi:tool@1.0", "python/macos"): (20, 10),
    }
    assert list(state.exposures.people) == [usage(99).pseudonym.hex()]
    assert COUNTS.load(0, changelog(steps).items(), COUNTS.version) == state


def test_what_few_people_had_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposures, "HAD_MAX", 3)
    rare = [usage(n, *[event("used", f"pypi:p{n}x{k}") for k in range(9)], event("failure")) for n in range(6)]
    state, _ = play(COUNTS, [], log_of(rare))
    assert max(len(person.had) for person in state.exposures.people.values()) == 3
    outputs = state.exposures.close("test", 0, 0, {})
    assert [output.record.candidate for output in outputs] == ["", "pypi:tool@1.0"]  # type: ignore[union-attr]
    assert not state.exposures.people


def test_a_tombstone_makes_what_a_person_had_and_told_forgotten() -> None:
    records = [usage(n, event("failure", SIGNATURE), event("failure")) for n in range(3)]
    log = log_of(records)
    log.append(Message("aicache.usage", 0, 3, START_S * 1000, records[1].pseudonym, None))
    state, steps = play(COUNTS, [2], log)
    gone = records[1].pseudonym[: people.NAME_BYTES].hex()
    assert gone not in state.exposures.people
    assert state.people.known(SIGNATURE, "pypi:tool@1.0") == 2
    kept = changelog(steps)
    named = {key[:1] for key, value in kept.items() if gone.encode() in key + value}
    assert named == {b"u", b"w"}, "for minutes: bounds"
    assert COUNTS.load(0, kept.items(), COUNTS.version) == state
