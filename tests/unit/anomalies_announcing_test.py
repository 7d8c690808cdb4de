"""How incidents are told: seldom, with headers of CloudEvents, and quietly once a person knows of them."""

from dataclasses import replace

import pytest

from aicache.schemas import topics
from aicache.schemas.records import Acknowledgement, Incident
from aicache.streams.anomalies import announcing, written
from aicache.streams.anomalies.announcing import FAILURES, LATENCY, publish
from aicache.streams.anomalies.evidence import State
from aicache.streams.anomalies.incidents import Incidents
from aicache.streams.runtime.contract import Batch, Message, Step
from support.folds import changelog

START_S = 1_700_000_000
CONTROL = Incidents()


def incident(
    name: str = "a" * 16, status: str = "opened", n: int = 100, kind: str = FAILURES, at_s: int = 0
) -> Incident:
    where = ("op:build", "pypi:tool@1.1", ["pypi:tool@1.1"])
    seen = (0.2, 0.02, "share of uses", 0.5, 0.99, "It fails.")
    return Incident("test", name, status, kind, *where, START_S, START_S + at_s, *seen, n, None)


def acknowledgement(of: Incident, who: str = "ada", at_ms: int = 5_000) -> Acknowledgement:
    return Acknowledgement("test", of.incident, of.since_s, who, "known: 1.2 is on its way", at_ms, of.seen, of.n)


def heard(state: State, offset: int, record: Acknowledgement | None, key: str = "a" * 16) -> Step:
    return CONTROL.apply(state, Batch(0, [Message(topics.ACKNOWLEDGEMENTS.name, 0, offset, 0, key.encode(), record)]))


def told(step: Step) -> list[Incident]:
    return [output.record for output in step.outputs if isinstance(output.record, Incident)]


def known(n: int = 100) -> tuple[State, Step]:
    state, step = State(deployment="test"), Step()
    publish(state, incident(n=n), step)
    return state, step


def test_an_acknowledged_incident_is_told_once_more_and_then_quiet_until_it_is_three_times_as_large() -> None:
    state, _ = known()
    step = heard(state, 0, acknowledgement(incident()))
    assert [(i.acknowledged_by, i.acknowledged_ms, i.note) for i in told(step)] == [
        ("ada", 5_000, "known: 1.2 is on its way")
    ]
    quiet = Step()
    for n in (150, 225, 299):
        publish(state, incident(status="growing", n=n, at_s=n), quiet)
    assert told(quiet) == []
    assert state.open["a" * 16].n == 299, "it is known how large it is all the same"
    loud = Step()
    publish(state, incident(status="growing", n=300, at_s=300), loud)
    assert [(i.n, i.acknowledged_by, i.note) for i in told(loud)] == [(300, "", "")]
    assert not state.acknowledged


def test_the_end_of_an_acknowledged_incident_is_told_and_the_next_one_is_loud() -> None:
    state, _ = known()
    heard(state, 0, acknowledgement(incident()))
    step = Step()
    publish(state, incident(status="resolved", at_s=60), step)
    assert [(i.status, i.acknowledged_by) for i in told(step)] == [("resolved", "ada")]
    step = Step()
    publish(state, replace(incident(), since_s=START_S + 900, updated_s=START_S + 900), step)
    assert [i.acknowledged_by for i in told(step)] == [""]


def test_an_acknowledgement_of_an_earlier_incident_of_the_same_name_does_not_count() -> None:
    state, _ = known()
    step = heard(state, 0, replace(acknowledgement(incident()), since_s=START_S - 7_200))
    assert told(step) == []
    step = Step()
    publish(state, incident(status="growing", n=150), step)
    assert [i.acknowledged_by for i in told(step)] == [""]


def test_an_acknowledgement_that_is_read_before_its_incident_holds_once_that_comes() -> None:
    """When state is built anew, the order between topics is not that of the first time."""
    state = State(deployment="test")
    heard(state, 0, acknowledgement(incident()))
    step = Step()
    publish(state, incident(), step)
    publish(state, incident(status="growing", n=150), step)
    assert [(i.status, i.acknowledged_by) for i in told(step)] == [("opened", "ada")]


def test_an_acknowledgement_can_be_taken_back() -> None:
    state, _ = known()
    heard(state, 0, acknowledgement(incident()))
    assert [i.acknowledged_by for i in told(heard(state, 1, None))] == [""]
    step = Step()
    publish(state, incident(status="growing", n=150), step)
    assert len(told(step)) == 1


def test_acknowledgements_survive_a_restart_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    state, first = known()
    steps = [first, heard(state, 0, acknowledgement(incident()))]
    again = CONTROL.load(0, changelog(steps).items(), CONTROL.version)
    assert again.acknowledged == state.acknowledged
    assert again.open == state.open
    monkeypatch.setattr(announcing, "ACKNOWLEDGED_MAX", 3)
    names = [f"{number:016x}" for number in range(9)]
    steps += [heard(state, n, acknowledgement(incident(name), at_ms=6_000 + n)) for n, name in enumerate(names)]
    assert sorted(state.acknowledged) == names[6:]
    assert written.load(changelog(steps).items()).acknowledged == state.acknowledged


def test_a_storm_is_told_in_turn_the_most_severe_first_and_what_is_over_by_then_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcing, "HOURLY_MAX", 5)
    state, step = State(deployment="test"), Step()
    for number in range(20):
        publish(state, replace(incident(f"{number:016x}", at_s=number), severity=number / 20), step)
    assert len(told(step)) == 5
    publish(state, incident(f"{19:016x}", "resolved", at_s=30), step)
    publish(state, incident(f"{1:016x}", "resolved", at_s=30), step)
    assert [i.status for i in told(step)[5:]] == ["resolved"], "of the one that was told"
    again = CONTROL.load(0, changelog([step]).items(), CONTROL.version)
    assert again.held == state.held
    assert len(state.held) == 14
    later = Step()
    announcing.release_held(state, START_S + 30, later)
    assert told(later) == []
    announcing.release_held(state, START_S + 3_600, later)
    assert [i.incident for i in told(later)] == [f"{number:016x}" for number in (18, 17, 16, 15, 14)]
    assert {i.status for i in told(later)} == {"opened"}


def test_what_has_grown_while_it_waited_is_told_as_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "HOURLY_MAX", 0)
    state, step = known()
    publish(state, incident(status="growing", n=400, at_s=10), step)
    assert told(step) == []
    monkeypatch.setattr(announcing, "HOURLY_MAX", 5)
    announcing.release_held(state, START_S + 3_600, step)
    assert [(i.status, i.n) for i in told(step)] == [("opened", 400)]
    assert not state.held


def test_incidents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "OPEN_MAX", 3)
    state, step = State(deployment="test"), Step()
    for number in range(9):
        publish(state, incident(f"{number:016x}"), step)
    assert len(state.open) == len(told(step)) == 3


def test_headers_are_those_of_cloudevents_and_no_two_records_share_an_id() -> None:
    state, step = known()
    publish(state, incident(status="growing", n=150, at_s=60), step)
    acknowledged = heard(state, 0, acknowledgement(incident()))
    publish(state, incident(status="resolved", n=150, at_s=120), step)
    outputs = [*step.outputs, *acknowledged.outputs]
    headers = [dict(output.headers) for output in outputs]
    for one, output in zip(headers, outputs, strict=True):
        assert one["ce_specversion"] == b"1.0"
        assert one["ce_source"] == b"aicache/test/incidents"
        assert one["ce_subject"] == output.key == output.record.incident.encode()  # type: ignore[union-attr]
        assert one["ce_time"].startswith(b"2023-11-14T22:1")
        assert one["content-type"] == b"avro/binary"
    assert [one["ce_type"].rpartition(b".")[2] for one in headers] == [
        b"opened",
        b"growing",
        b"resolved",
        b"acknowledged",
    ]
    assert len({one["ce_id"] for one in headers}) == 4


def test_severity_and_size_follow_what_was_seen() -> None:
    assert [announcing.severity(seen, 1.0, 0.1) for seen in (0.5, 1.0, 32.0, 1e9)] == [0.0, 0.0, 1.0, 1.0]
    assert announcing.severity(0.0, 0.0, 0.1) == 0.0
    assert announcing.size(incident(n=7)) == 7.0
    assert announcing.size(replace(incident(), kind="rate-change")) == 0.2
    assert announcing.name_of("op:a", FAILURES, "pypi:b") != announcing.name_of("op:a", LATENCY, "pypi:b")


def test_the_levels_of_all_comparisons_without_a_discovery_add_up_to_less_than_the_rate() -> None:
    assert sum(announcing.level(number, 0) for number in range(1, 200_000)) < announcing.FDR
