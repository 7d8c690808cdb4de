"""What a client tells of answers: it names them under their own pseudonym alone."""

from collections.abc import Sequence
from typing import Any

import pytest

from aicache.privacy.errors import LocalError
from aicache.producers.answers import Answering
from aicache.producers.usage import Rules, Situation, UsageQueue, make_event
from aicache.schemas.records import PartitionOffset, Recommendation, Recommended

RULES = Rules()
NOW_MS = 1_700_000_000_000


class Application(Answering):
    """A client whose events stay here."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, list[str], dict[str, Any]]] = []
        self.pseudonym = bytes(16)
        names = [Recommended(f"pypi:{name}", 1.0, [], propensity) for name, propensity in (("a", 0.9), ("b", 0.06))]
        self.answer = Recommendation("test", bytes(16), "pypi", 0, PartitionOffset(3, 4711), names)

    def record(self, kind: str, items: Sequence[str], *, time_s: int | None = None, **more: Any) -> None:
        make_event(kind, items, time_s=time_s or 0, rules=RULES, **more)
        self.told.append((kind, list(items), more))

    def _newest(self, namespace: str) -> Recommendation | None:
        return self.answer if namespace == "pypi" else None

    def _pseudonym(self) -> bytes:
        return self.pseudonym


def test_what_was_shown_and_taken_names_the_answer_with_places_and_propensities() -> None:
    app = Application()
    assert [found.item for found in app.recommend("pypi")] == ["pypi:a", "pypi:b"]
    app.shown("pypi")
    app.taken("pypi:b")
    app.dismissed("pypi:a")
    assert app.told == [
        ("shown", ["pypi:a", "pypi:b"], {"position": 0, "propensity": 0.06, "answer": "3/4711"}),
        ("taken", ["pypi:b"], {"position": 1, "propensity": 0.06, "answer": "3/4711"}),
        ("dismissed", ["pypi:a"], {"position": 0, "propensity": 0.9, "answer": "3/4711"}),
    ]


def test_what_was_not_recommended_is_told_as_used_without_an_answer() -> None:
    app = Application()
    app.recommend("pypi")
    app.taken("pypi:c")
    app.taken("npm:react")
    assert app.told == [("taken", ["pypi:c"], {}), ("taken", ["npm:react"], {})]


def test_nothing_is_shown_where_nothing_was_recommended() -> None:
    app = Application()
    assert app.recommend("npm") == []
    for namespace in ("npm", "pypi"):
        with pytest.raises(LocalError):
            app.shown(namespace)


def test_under_another_pseudonym_the_answer_is_not_named() -> None:
    app = Application()
    app.recommend("pypi")
    app.pseudonym = bytes([1]) * 16
    app.taken("pypi:b")
    assert app.told[0][2]["answer"] == ""


def test_names_of_answers_do_not_wait_in_the_queue_for_the_next_pseudonym() -> None:
    queue = UsageQueue("test", bytes(32), Situation(), RULES)
    event = make_event("taken", ["pypi:a"], time_s=0, rules=RULES, answer="3/4711")
    queue.put([event], NOW_MS)
    same = queue.batch(NOW_MS)
    queue.put([event], NOW_MS)
    later = queue.batch(NOW_MS + RULES.period_ms)
    assert same is not None and later is not None
    assert same.pseudonym != later.pseudonym
    assert (same.events[0].answer, later.events[0].answer) == ("3/4711", "")


def test_two_periods_are_erased_the_newest_first() -> None:
    queue = UsageQueue("test", bytes(32), Situation(), RULES)
    assert queue.pseudonyms(NOW_MS) == [queue.pseudonym(NOW_MS), queue.pseudonym(NOW_MS - RULES.period_ms)]
    assert len(queue.pseudonyms(0)) == 1


@pytest.mark.parametrize("wrong", ["3", "3/", "/1", "a/b", "3/4711 ", "3/4711/1", "9" * 40])
def test_an_answer_has_no_other_name_than_a_place(wrong: str) -> None:
    with pytest.raises(LocalError) as caught:
        make_event("taken", ["pypi:a"], time_s=0, rules=RULES, answer=wrong)
    assert wrong not in str(caught.value)
