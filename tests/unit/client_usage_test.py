"""Usage events leave anonymized or not at all; none is lost without a word; and the SDK's import stays small."""

import subprocess
import sys

import pytest

from aicache.privacy.errors import LocalError
from aicache.producers import usage
from aicache.producers.usage import BATCH_EVENTS_MAX, Rules, Situation, UsageQueue, make_event
from aicache.schemas.records import UsageEvent

WEEK_MS = 7 * 86_400_000
RULES = Rules()
SECRET = "/home/alice/acme-payroll"


def event(items: tuple[str, ...] = ("pypi:numpy",), **changes: object) -> UsageEvent:
    return make_event("used", items, **{"time_s": 1_700_000_123, "rules": RULES, **changes})  # type: ignore[arg-type]


@pytest.fixture
def queue() -> UsageQueue:
    return UsageQueue("test", bytes(32), Situation(language="python", tool="editor@1.2.3.4"), RULES)


def test_times_and_versions_are_coarse_and_names_are_public(queue: UsageQueue) -> None:
    made = event(release="pypi:numpy@2.4.1rc1", context=("tag:python",))
    assert made.time_s == 1_700_000_100
    assert made.release == "pypi:numpy@2.4"
    queue.put([made])
    batch = queue.batch(0)
    assert batch is not None
    assert batch.tool == "editor@1.2"


@pytest.mark.parametrize(
    "wrong",
    [
        {"items": (SECRET,)},
        {"items": ("pypi:" + SECRET,)},
        {"items": ("alice@acme.example",)},
        {"items": ()},
        {"items": ("pypi:a",) * 65},
        {"context": ("def payroll(): pass",)},
        {"release": SECRET},
        {"count": 0},
        {"propensity": 1.5},
        {"propensity": float("nan")},
    ],
    ids=str,
)
def test_what_is_not_of_the_form_is_refused_without_being_quoted(wrong: dict[str, object]) -> None:
    with pytest.raises(LocalError) as caught:
        event(**wrong)  # type: ignore[arg-type]
    told = f"{caught.value} {caught.value.got} {caught.value.needed}"
    assert "acme" not in told
    assert "payroll" not in told
    with pytest.raises(LocalError) as caught:
        make_event(SECRET, ["pypi:numpy"], time_s=0, rules=RULES)
    assert "acme" not in f"{caught.value} {caught.value.got}"


def test_only_listed_names_leave_where_there_is_a_list() -> None:
    rules = Rules(allowed=frozenset({"pypi:numpy"}))
    event(rules=rules)
    with pytest.raises(LocalError):
        event(("pypi:acme-internal",), rules=rules)


def test_a_situation_has_words_of_closed_vocabularies() -> None:
    for wrong in ({"language": "acme-script"}, {"os_family": SECRET}, {"task": "payroll"}, {"framework": "acme"}):
        with pytest.raises(LocalError):
            Situation(**wrong)


NOON_S = 1_700_049_600
"""Wednesday, 15 November 2023, 12:00 UTC."""


@pytest.mark.parametrize(
    ("hours", "offset_h", "word"),
    [
        (0, 0, "afternoon"),
        (-1, 0, "morning"),
        (-1, 1, "afternoon"),
        (-6, 0, "morning"),
        (-7, 0, "night"),
        (6, 0, "evening"),
        (12, 0, "night"),
        (59, 0, "evening"),
        (60, 0, "weekend"),
        (60, -5, "evening"),
        (107, 0, "weekend"),
        (108, 0, "night"),
        (0, 12.75, "night"),
    ],
)
def test_the_time_of_day_is_a_word_where_the_client_is(hours: int, offset_h: float, word: str) -> None:
    assert Situation(utc_offset_s=round(offset_h * 3_600)).daytime(NOON_S + hours * 3_600) == word


def test_the_time_of_day_stays_unless_it_is_allowed_and_then_a_batch_has_one() -> None:
    events = [event(time_s=NOON_S + minutes * 60) for minutes in (-20, -10, 0, 10)]
    kept = UsageQueue("test", bytes(32), Situation(), RULES)
    kept.put(events)
    whole = kept.batch(0)
    assert whole is not None
    assert (whole.daytime, len(whole.events)) == ("", 4)
    told = UsageQueue("test", bytes(32), Situation(utc_offset_s=0), RULES)
    told.put(events)
    batches = [told.batch(0), told.batch(0)]
    assert [(batch.daytime, len(batch.events)) for batch in batches if batch] == [("morning", 2), ("afternoon", 2)]
    assert told.batch(0) is None
    with pytest.raises(LocalError, match="UTC"):
        Situation(utc_offset_s=15 * 3_600)


def test_a_full_queue_is_an_error_and_takes_none_of_the_events(
    queue: UsageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "QUEUE_EVENTS_MAX", 10)
    queue.put([event()] * 9)
    with pytest.raises(LocalError, match="full"):
        queue.put([event()] * 2)
    assert len(queue) == 9
    batch = queue.batch(0)
    assert batch is not None
    with pytest.raises(LocalError, match="full"):
        queue.put([event()] * 2)  # what is on its way is not there yet
    queue.delivered(batch)
    queue.put([event()] * 10)


def test_a_batch_that_failed_comes_again_as_the_same_record_before_newer_events(queue: UsageQueue) -> None:
    queue.put([event()] * (BATCH_EVENTS_MAX + 1))
    first = queue.batch(0)
    assert first is not None
    queue.failed(first)
    assert len(queue) == BATCH_EVENTS_MAX + 1
    assert queue.batch(2 * WEEK_MS) == first
    second = queue.batch(0)
    assert second is not None
    assert (second.sequence, len(second.events)) == (first.sequence + 1, 1)
    assert queue.batch(0) is None


def test_pseudonyms_rotate_with_the_period_and_differ_between_clients(queue: UsageQueue) -> None:
    other = UsageQueue("test", bytes([1]) * 32, Situation(), RULES)
    names = {queue.pseudonym(0), queue.pseudonym(WEEK_MS), other.pseudonym(0), other.pseudonym(WEEK_MS)}
    assert len(names) == 4
    assert queue.pseudonym(0) == queue.pseudonym(WEEK_MS - 1)


IMPORTED = """
import sys
from aicache.producers import Client
heavy = {"faust", "river", "scipy", "pydantic", "pydantic_settings", "dp_accounting", "typer", "rich", "httpx", "jgo"}
print(sorted(heavy & set(sys.modules)))
"""


def test_importing_the_client_brings_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
