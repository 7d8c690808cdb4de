"""From usage to incidents: floods that make none, what goes with failures, and signatures that many people have."""

from collections.abc import Iterator

import numpy as np
import pytest

from aicache.privacy.sketches import pack, sketch_of
from aicache.schemas.records import UsageBatch, UsageEvent
from aicache.streams.anomalies.exposures import PERIOD_S
from support.radar import Radar

START_S = 1_700_006_400
SIGNATURE = "sig:0123456789abcdef"


def event(kind: str, time_s: int, item: str, release: str = "", count: int = 1, sketch: bytes = b"") -> UsageEvent:
    return UsageEvent(kind, time_s, [item], [], release, count, sketch, -1, 0.0)


def usage(person: int, *events: UsageEvent, language: str = "python", os_family: str = "linux") -> UsageBatch:
    name = person.to_bytes(4, "big") + bytes(12)
    return UsageBatch("test", name, 1, 0, language, "", os_family, "build", "tool@1", list(events))


def honest(random: np.random.Generator, minute: int, people: int = 200) -> Iterator[UsageBatch]:
    """Two hundred people, five runs each a minute, of two releases that fail alike and take as long."""
    time_s = START_S + 60 * minute
    for person in range(people):
        release = f"pypi:tool@1.{person % 2}"
        failed = int(random.binomial(5, 0.04))
        events = [event("success", time_s, "op:build", release, 5 - failed)] if failed < 5 else []
        if failed:
            events.append(event("failure", time_s, "op:build", release, failed))
        sketch = pack(sketch_of(random.lognormal(0, 0.4, 5)))
        yield usage(person, *events, event("duration", time_s, "op:build", release, 5, sketch))


def flood(person: int, minute: int) -> Iterator[UsageBatch]:
    """One client: 30,000 failures of a release, as many of a signature, and absurdly slow runs, in 300 batches a minute."""
    time_s = START_S + 60 * minute
    slow = pack(sketch_of([900.0] * 1_000))
    for _ in range(100):
        yield usage(person, event("failure", time_s, "op:build", "pypi:tool@1.1", 100))
        yield usage(person, event("failure", time_s, SIGNATURE, "", 300))
        yield usage(person, event("duration", time_s, "op:build", "pypi:tool@1.1", 1_000, slow))


@pytest.mark.parametrize("flooders", [0, 1, 2])
def test_a_client_or_two_that_flood_make_no_incident(flooders: int) -> None:
    random, radar = np.random.default_rng(1), Radar()
    for minute in range(30):
        batches = list(honest(random, minute))
        if minute >= 15:
            for attacker in range(flooders):
                batches += flood(1_000 + attacker, minute)
        radar.usage(batches, START_S + 60 * minute)
    radar.tick(START_S + 86_400)
    assert radar.kinds() == set()
    assert not radar.dead


def test_three_people_with_the_same_failure_make_one() -> None:
    """The bound is on what one pseudonym does; who has three is three people here, and that is said."""
    random, radar = np.random.default_rng(1), Radar()
    for minute in range(45):
        batches = list(honest(random, minute, people=40))
        if minute >= 30:
            batches += [
                usage(n, event("failure", START_S + 60 * minute, "op:build", "pypi:tool@1.1", 9)) for n in range(3)
            ]
        radar.usage(batches, START_S + 60 * minute)
    assert radar.kinds() == {("failure-rate", "op:build", "pypi:tool@1.1")}


def test_what_people_have_for_whom_an_operation_fails_is_told_the_day_after() -> None:
    """A library multiplies the risk by four on both systems; another one is merely popular where failures are common."""
    random, radar = np.random.default_rng(2), Radar()
    batches = []
    for person in range(1_600):
        is_mac = person % 2 == 0
        items = ["pypi:numpy"]
        if random.random() < 0.2:
            items.append("pypi:left-pad")
        if random.random() < (0.6 if is_mac else 0.1):
            items.append("pypi:mac-helper")
        risk = (0.12 if is_mac else 0.03) * (4.0 if "pypi:left-pad" in items else 1.0)
        kind = "failure" if random.random() < risk else "success"
        used = [event("used", START_S, item) for item in items]
        tried = event(kind, START_S, "op:build", "pypi:tool@1.0")
        batches.append(usage(person, *used, tried, os_family="macos" if is_mac else "linux"))
    radar.usage(batches, START_S)
    next_day_s = START_S - START_S % PERIOD_S + PERIOD_S
    radar.usage([usage(n, event("success", next_day_s, "op:build", "pypi:tool@1.0")) for n in range(4)], next_day_s)
    assert radar.told == []
    radar.tick(next_day_s + 7_200)
    found = [one for one in radar.told if one.kind == "association"]
    assert [one.subject for one in found] == ["op:build"]
    assert "pypi:left-pad" in found[0].explanation
    assert "association, not cause" in found[0].explanation
    assert 2.5 < found[0].seen < 6.0


def test_a_crash_that_comes_with_a_release_is_new_once_ten_people_have_had_it() -> None:
    radar = Radar()
    for minute in range(90):
        time_s = START_S + 60 * minute
        batches = [usage(n, event("failure", time_s, "sig:" + "a" * 16, "pypi:tool@1.0")) for n in range(3)]
        if minute >= 70:
            batches += [usage(n, event("failure", time_s, SIGNATURE, "pypi:tool@1.1")) for n in range(minute - 69)]
        radar.usage(batches, time_s)
    found = [one for one in radar.told if one.kind == "new-signature"]
    assert [(one.subject, one.release, one.status) for one in found[:1]] == [(SIGNATURE, "pypi:tool@1.1", "opened")]
    assert found[0].n >= 10
    assert found[0].since_s == START_S + 60 * 70
