"""The recommendations fold: the same whatever way the log is cut, and from its changelog."""

from collections.abc import Sequence

import numpy as np
import pytest

from aicache.privacy.errors import LocalError
from aicache.schemas.records import Recommendation, UsageBatch, UsageEvent
from aicache.streams.recommendations import logic
from aicache.streams.recommendations import state as state_module
from aicache.streams.recommendations.logic import Recommendations
from aicache.streams.recommendations.snapshot import pack, unpack
from aicache.streams.runtime.contract import Batch, Message, Step
from support.folds import changelog, play

FOLD = Recommendations()


def usage(pseudonym: int, *events: Sequence[str], language: str = "python") -> UsageBatch:
    return UsageBatch(
        deployment="test",
        pseudonym=pseudonym.to_bytes(16, "big"),
        period=1,
        sequence=0,
        language=language,
        framework="",
        os_family="linux",
        task="build",
        tool="pytest@9",
        events=[UsageEvent("used", 1_700_000_000, list(items), [], "", 1, b"", -1, 0.0) for items in events],
    )


def messages(count: int) -> list[Message]:
    tags = [f"tag:{name}" for name in ("wifi", "driver", "boot", "grub", "sound", "usb")]
    return [
        Message("aicache.usage", 0, n, 0, b"", usage(n % 7, [tags[n % 6], tags[(n * n + 1) % 6]], [tags[(n * 5) % 6]]))
        for n in range(count)
    ]


def outputs(steps: Sequence[Step]) -> list[object]:
    return [output for step in steps for output in step.outputs]


def test_batches_cut_in_other_places_give_the_same_outputs_and_changelog() -> None:
    log = messages(60)
    _, whole = play(FOLD, [], log)
    _, pieces = play(FOLD, [1, 2, 17, 40], log)
    assert outputs(whole) == outputs(pieces)
    assert changelog(whole) == changelog(pieces)


@pytest.mark.parametrize("snapshot_every", [7, 1_000])
def test_a_worker_that_loads_the_changelog_goes_on_as_if_nothing_had_happened(
    monkeypatch: pytest.MonkeyPatch, snapshot_every: int
) -> None:
    monkeypatch.setattr(state_module, "SNAPSHOT_EVERY", snapshot_every)
    log = messages(50)
    state, steps = play(FOLD, [10, 20], log)
    again = FOLD.load(0, changelog(steps).items(), FOLD.version)
    later = [Message("aicache.usage", 0, 50 + n, 0, b"", message.record) for n, message in enumerate(messages(20))]
    assert FOLD.apply(again, Batch(0, later)) == FOLD.apply(state, Batch(0, later))


def test_a_snapshot_comes_after_fewer_examples_where_they_come_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "SNAPSHOT_EVERY", 40)
    monkeypatch.setattr(state_module, "SNAPSHOT_LEAST", 10)
    for pause_ms, kept in ((100, [10, 50, 90]), (3_500, [10, 46, 82]), (20_000, list(range(10, 101, 10)))):
        log = [message._replace(timestamp_ms=10**9 + n * pause_ms) for n, message in enumerate(messages(50))]
        state, seen = FOLD.empty(0), []
        for message in log:
            FOLD.apply(state, Batch(0, [message]))
            seen.append(state.kept)
        assert sorted({*seen} - {0}) == kept


def test_what_goes_together_is_recommended_with_its_reason() -> None:
    pairs = (["tag:wifi", "tag:driver"], ["tag:boot", "tag:grub"])
    log = [Message("aicache.usage", 0, n, 0, b"", usage(n, pairs[n % 2])) for n in range(40)]
    log.append(Message("aicache.usage", 0, 40, 0, b"", usage(99, ["tag:wifi"])))
    _, steps = play(FOLD, [], log)
    last = outputs(steps)[-1].record  # type: ignore[attr-defined]
    assert isinstance(last, Recommendation)
    assert last.items[0].item == "tag:driver"
    assert last.items[0].reasons[0].item == "tag:wifi"
    assert last.items[0].reasons[0].weight > 0.5


def test_what_was_just_used_is_not_recommended() -> None:
    _, steps = play(FOLD, [], messages(30))
    for output in outputs(steps):
        record = output.record  # type: ignore[attr-defined]
        if not isinstance(record, Recommendation):
            continue
        used = {item for event in messages(30)[record.source.offset].record.events for item in event.items}  # type: ignore[union-attr]
        assert not used & {item.item for item in record.items}


def test_items_are_recommended_only_in_the_namespace_that_was_used() -> None:
    log = [Message("aicache.usage", 0, n, 0, b"", usage(n, ["tag:wifi", "pypi:scapy"])) for n in range(10)]
    _, steps = play(FOLD, [], log)
    for output in outputs(steps):
        record = output.record  # type: ignore[attr-defined]
        assert all(item.item.startswith(record.namespace + ":") for item in record.items)


def test_an_item_without_a_namespace_is_dead_lettered_and_teaches_nothing() -> None:
    state, (step,) = play(FOLD, [], [Message("aicache.usage", 0, 0, 0, b"", usage(1, ["no namespace"]))])
    assert [error.reason for _, error in step.dead] == ["bad-item"]
    assert state.examples == 0
    assert step.changed == {}


def test_a_changelog_of_another_version_is_refused() -> None:
    with pytest.raises(LocalError, match="version"):
        FOLD.load(0, [], FOLD.version + 1)


def test_one_event_teaches_no_more_than_its_bound() -> None:
    flood = [f"tag:t{n}" for n in range(10_000)]
    state, (step,) = play(FOLD, [], [Message("aicache.usage", 0, 0, 0, b"", usage(1, flood))])
    assert state.examples == 1
    assert len(state.model.vocabulary) <= logic.BASKET_MAX + 5
    assert len(step.outputs) == 1


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), dtype=np.float32),
        np.array([-0.0, np.nan, 0.0, 1.0]),
        np.concatenate([np.zeros(1_000), [-0.0, np.nan, 5.0]]).astype(np.float32),
        np.full((100, 3), -1, dtype=np.int32),
        np.array([-1] * 50 + [300, -1]),
        np.arange(100) * 2**40 - 5,
        np.array([0] * 77 + [255], dtype=np.int32),
        np.array([0] * 500 + [-128]),
        np.array([0] * 500 + [-129], dtype=np.int32),
        np.array([0, 1, 1], dtype=np.uint8),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_a_snapshot_leaves_out_what_says_nothing_and_nothing_else(array: np.ndarray) -> None:
    packed = pack({"one": array, "other": array})
    for found in unpack(packed).values():
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    with pytest.raises(LocalError):
        unpack(packed + b"\0")
