"""A new template is an alarm where news are rare, and only there; memory is bounded, the past fades."""

import random

import pytest

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors import newcomer
from aicache.streams.anomalies.detectors.newcomer import ALARM, Newcomer


def test_the_first_of_its_kind_is_an_alarm_once() -> None:
    detector, alarms = Newcomer(), []
    for place in range(3_000):
        x = {"template": "disk failed" if place in (2_000, 2_500) else f"request {place % 20}"}
        if detector.score_one(x) > ALARM:
            alarms.append(place)
        detector.learn_one(x)
    assert alarms == [2_000]


def test_where_new_templates_come_all_the_time_one_more_is_nothing() -> None:
    detector = Newcomer()
    source = random.Random(1)
    for place in range(5_000):
        detector.learn_one({"template": f"job {place}" if source.random() < 0.02 else "tick"})
    assert detector.score_one({"template": "job of today"}) < ALARM
    assert detector.chance == pytest.approx(0.02, abs=0.006)


def test_the_chance_of_something_new_is_as_stated() -> None:
    source, detector = random.Random(2), Newcomer(warm_up=1)
    new = expected = 0.0
    for place in range(20_000):
        name = {"template": str(int(source.paretovariate(0.7)))}
        if place >= 5_000:
            expected += detector.chance
            new += detector.score_one(name) > 0
        detector.learn_one(name)
    assert new == pytest.approx(expected, rel=0.1)


def test_names_without_end_are_forgotten_and_new_again() -> None:
    detector = Newcomer(warm_up=10, names_max=50)
    for place in range(5_000):
        detector.learn_one({"template": f"name {place}"})
    assert len(detector._names) == detector._events == detector._once == 50
    assert len(detector.to_bytes()) < 2_000
    assert detector.score_one({"template": "name 4999"}) == 0.0
    assert detector.score_one({"template": "name 1"}) > 0.0


def test_counts_are_halved_before_they_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomer, "EVENTS_MAX", 1_000)
    detector = Newcomer(warm_up=10)
    for place in range(10_000):
        detector.learn_one({"template": f"name {place % 30}"})
        assert detector._events < 1_000
        assert detector._events == sum(detector._names.values())
        assert detector._once == sum(count == 1 for count in detector._names.values())
    assert detector.score_one({"template": "name 7"}) == 0.0
    assert detector.score_one({"template": "another"}) > ALARM


@pytest.mark.parametrize("bad", [{}, {"a": "x", "b": "y"}, {"a": "x" * 1_001}])
def test_what_is_no_name_is_refused(bad: dict[str, str]) -> None:
    detector = Newcomer()
    for call in (detector.score_one, detector.learn_one):
        with pytest.raises(LocalError):
            call(bad)
    for arguments in ((0, 0.1, 10), (1, 1.0, 10), (1, 0.1, 0)):
        with pytest.raises(LocalError):
            Newcomer(*arguments)
