"""What describes a situation reaches the ranking, and times that cannot be are bounded."""

from collections.abc import Sequence

from aicache.schemas.records import Recommendation, UsageBatch, UsageEvent
from aicache.streams.recommendations.logic import Recommendations
from aicache.streams.recommendations.person import Person
from aicache.streams.recommendations.state import State
from aicache.streams.runtime.contract import Batch, Message
from support.folds import play

FOLD = Recommendations()
NOW_S = 1_700_000_000


def message(
    offset: int,
    items: Sequence[str],
    *,
    language: str = "",
    task: str = "",
    daytime: str = "",
    time_s: int = NOW_S,
    pseudonym: int = -1,
) -> Message:
    usage = UsageBatch(
        deployment="test",
        pseudonym=(offset if pseudonym < 0 else pseudonym).to_bytes(16, "big"),
        period=1,
        sequence=offset,
        language=language,
        framework="",
        os_family="linux",
        task=task,
        tool="pytest@9",
        events=[UsageEvent("used", time_s, list(items), [], "", 1, b"", -1, 0.0)],
        daytime=daytime,
    )
    return Message("aicache.usage", 0, offset, NOW_S * 1_000, b"", usage)


def best(log: list[Message], question: Message) -> list[str]:
    state, _ = play(FOLD, [], log)
    (output,) = FOLD.apply(state, Batch(0, [question])).outputs[-1:]
    assert isinstance(output.record, Recommendation)
    return [found.item for found in output.record.items]


def kept(state: State, pseudonym: int) -> Person:
    return Person.unpack(state.people[pseudonym.to_bytes(16, "big")])


def test_language_and_task_decide_where_the_items_at_hand_say_nothing() -> None:
    log = [
        message(n, ["tag:ci", ("tag:cargo", "tag:pip")[n % 2]], language=("rust", "python")[n % 2], task="build")
        for n in range(60)
    ]
    assert best(log, message(60, ["tag:fresh"], language="rust"))[:2] == ["tag:ci", "tag:cargo"]
    assert best(log, message(60, ["tag:fresh"], language="python"))[:2] == ["tag:ci", "tag:pip"]


def test_the_time_of_day_decides_where_it_matters_and_can_be_left_away() -> None:
    """The same language and task: in the morning one looks at what failed in the night, in the evening one deploys."""
    log = [
        message(
            n,
            ["tag:ci", ("tag:logs", "tag:deploy")[n % 2]],
            language="rust",
            daytime=("morning", "evening")[n % 2],
        )
        for n in range(80)
    ]
    assert best(log, message(80, ["tag:fresh"], language="rust", daytime="morning"))[:2] == ["tag:ci", "tag:logs"]
    assert best(log, message(80, ["tag:fresh"], language="rust", daytime="evening"))[:2] == ["tag:ci", "tag:deploy"]
    assert best(log, message(80, ["tag:fresh"], language="rust"))[0] == "tag:ci"
    assert best(log, message(80, ["tag:fresh"], language="rust", daytime="weekend"))[0] == "tag:ci"


def test_an_unknown_language_falls_back_on_what_is_popular() -> None:
    log = [
        message(n, ["tag:ci", "tag:docker"] if n % 3 else ["tag:ci", "tag:rare"], language="rust") for n in range(60)
    ]
    assert set(best(log, message(60, ["tag:fresh"], language="fortran"))[:2]) == {"tag:ci", "tag:docker"}


def test_an_empty_situation_is_answered_too() -> None:
    log = [message(n, ["tag:ci", "tag:docker"]) for n in range(30)]
    assert best(log, message(30, ["tag:ci"]))[0] == "tag:docker"


def test_what_a_pseudonym_used_lately_is_at_hand_and_after_a_pause_it_is_not() -> None:
    log = [message(n, ["tag:a", "tag:b"] if n % 2 else ["tag:c", "tag:d"], time_s=NOW_S - 9_000) for n in range(60)]
    log.append(message(60, ["tag:a"], pseudonym=7_000, time_s=NOW_S - 8_000))
    state, _ = play(FOLD, [], log)
    assert kept(state, 7_000).recent == ["tag:a"]
    FOLD.apply(state, Batch(0, [message(61, ["tag:c"], pseudonym=7_000, time_s=NOW_S - 7_900)]))
    assert kept(state, 7_000).recent == ["tag:a", "tag:c"]
    FOLD.apply(state, Batch(0, [message(62, ["tag:d"], pseudonym=7_000, time_s=NOW_S - 100)]))
    assert kept(state, 7_000).recent == ["tag:d"]


def test_a_time_in_the_future_neither_stops_the_fold_nor_keeps_a_session_open() -> None:
    far = message(0, ["tag:a"], pseudonym=1, time_s=NOW_S + 10**9)
    state, (step,) = play(FOLD, [], [far])
    assert step.dead == []
    assert kept(state, 1).newest_s <= NOW_S
