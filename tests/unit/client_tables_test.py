"""Tables on the client: whatever order and pieces they come in, the same answers, computed here."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.privacy.errors import RemoteError
from aicache.producers import tables as client_tables
from aicache.producers.tables import Tables
from aicache.schemas.codec import Codec
from aicache.schemas.records import ItemTable
from aicache.schemas.topics import TABLES
from aicache.streams.recommendations.tables import encode_row, key_of

NAMES = [f"pypi:{n}" for n in range(8)]


def row(item: str, weights: dict[str, float], version: int = 1, popularity: float = 0.1, task: str = "") -> ItemTable:
    return encode_row("d", item, version, popularity, weights, task=task)


def read(*records: ItemTable) -> Tables:
    tables = Tables("d")
    for record in records:
        tables.apply(record)
    return tables


def test_what_goes_with_the_items_at_hand_comes_first_and_says_why() -> None:
    tables = read(
        row("pypi:numpy", {"pypi:scipy": 0.5, "pypi:pandas": 0.3, "npm:react": 0.2}),
        row("pypi:pytest", {"pypi:scipy": 0.1, "pypi:coverage": 0.6}),
        row("pypi:scipy", {"pypi:numpy": 0.9}),
        row("pypi:pandas", {"pypi:numpy": 0.9}),
    )
    best = tables.rank(["pypi:numpy", "pypi:unknown"], "pypi")
    assert [found.item for found in best] == ["pypi:scipy", "pypi:pandas", "pypi:pytest"]
    assert best[0].reasons[0].item == "pypi:numpy"
    assert best[0].reasons[0].weight == pytest.approx(0.5, abs=0.01)
    assert [found.item for found in tables.rank(["pypi:numpy"], "npm")] == ["npm:react"]


def test_nothing_is_said_where_nothing_is_known_and_popular_items_where_the_context_says_nothing() -> None:
    assert Tables("d").rank(["pypi:a"], "pypi") == []
    tables = read(
        row("pypi:a", {}, popularity=0.2), row("pypi:b", {}, popularity=0.5), row("npm:c", {}, popularity=0.9)
    )
    assert [found.item for found in tables.rank([], "pypi")] == ["pypi:b", "pypi:a"]
    assert [found.item for found in tables.rank(["pypi:unknown"], "pypi", 1)] == ["pypi:b"]
    assert tables.rank([], "cargo") == []
    assert all(not found.reasons for found in tables.rank([], "pypi"))


def test_weights_of_a_private_task_add_up_below_zero_too() -> None:
    tables = read(
        row("pypi:a", {"pypi:b": 0.5, "pypi:c": 0.4}, task="together"),
        row("pypi:d", {"pypi:b": -0.4, "pypi:e": 0.2}, task="together"),
    )
    best = tables.rank(["pypi:a", "pypi:d"], "pypi", task="together")
    assert [found.item for found in best] == ["pypi:c", "pypi:e", "pypi:b"]
    assert [reason.item for reason in best[2].reasons] == ["pypi:a"]
    assert tables.rank(["pypi:a"], "pypi") == []
    assert tables.rank(["pypi:a"], "pypi", task="another") == []


ROWS = st.builds(
    lambda item, weights, version: row(item, {name: w for name, w in weights.items() if name != item}, version),
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(NAMES), st.floats(0.01, 1)),
    st.integers(1, 5),
)


@given(st.lists(st.one_of(ROWS, st.sampled_from(NAMES)), max_size=30), st.integers(0, 30))
def test_what_is_applied_piece_by_piece_is_what_a_reader_of_the_whole_has(log: list[ItemTable | str], cut: int) -> None:
    """A compacted topic keeps the last record of each key, so a late reader sees less of the history than one that was there."""
    ordered, newest = [], dict[str, int]()
    for entry in log:
        if isinstance(entry, ItemTable):
            newest[entry.item] = newest.get(entry.item, 0) + 1
            ordered.append(replace(entry, version=newest[entry.item]))
        else:
            ordered.append(entry)
    compacted = {entry if isinstance(entry, str) else entry.item: entry for entry in ordered[:cut]}
    whole, late = Tables("d"), Tables("d")
    for tables, entries in ((whole, ordered), (late, [*compacted.values(), *ordered[cut:]])):
        for entry in entries:
            if isinstance(entry, str):
                tables.remove(key_of(entry))
            else:
                tables.apply(entry)
    assert whole.rows() == late.rows()


def test_an_older_version_is_refused_and_the_same_one_again_changes_nothing() -> None:
    tables = read(row("pypi:a", {"pypi:b": 0.5}, version=7))
    before = tables.rows()
    with pytest.raises(RemoteError) as refused:
        tables.apply(row("pypi:a", {"pypi:c": 0.5}, version=6))
    assert refused.value.reason == "old-version"
    tables.apply(row("pypi:a", {"pypi:b": 0.5}, version=7))
    assert tables.rows() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": b"1"},
        {"deployment": "other"},
        {"neighbours": ["pypi:b", "pypi:b"]},
        {"neighbours": ["pypi:b", "pypi:a"]},
        {"popularity": -0.1},
        {"popularity": float("nan")},
        {"scale": float("inf")},
        {"low": -0.5},
        {"neighbours": [f"pypi:{n}" for n in range(1_000)], "weights": bytes(1_000)},
    ],
)
def test_a_row_that_makes_no_sense_is_refused_and_nothing_has_changed(changes: dict[str, object]) -> None:
    tables = read(row("pypi:a", {"pypi:b": 0.5, "pypi:c": 0.2}))
    before = tables.rows()
    with pytest.raises(RemoteError):
        tables.apply(replace(row("pypi:a", {"pypi:b": 0.5, "pypi:c": 0.2}, version=2), **changes))
    assert tables.rows() == before


def test_rows_and_tasks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_tables, "ROWS_MAX", 2)
    tables = read(row("pypi:a", {}), row("pypi:b", {}))
    with pytest.raises(RemoteError, match="too many"):
        tables.apply(row("pypi:c", {}))
    tables.apply(row("pypi:a", {"pypi:x": 0.1}, version=2))
    tables.remove(b"pypi:b")
    tables.apply(row("pypi:c", {}))


def test_a_record_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    codec = Codec()
    data = codec.encode(row("pypi:a", {"pypi:b": 0.5}))
    with pytest.raises(RemoteError) as refused:
        codec.decode(data + bytes(TABLES.record_bytes_max), ItemTable)
    assert refused.value.reason == "too-large"


def test_a_row_of_the_first_schema_version_is_read() -> None:
    first = ItemTable("d", "pypi:a", 1, 0.1, ["pypi:b"], bytes([255]), 0.5, None)
    (found,) = [read(first).rank(["pypi:a"], "pypi")]
    assert (first.low, first.task, found[0].item) == (0.0, "", "pypi:b")


def test_thousands_of_items_are_ranked_within_a_millisecond_or_so() -> None:
    rng = np.random.default_rng(1)
    tables = Tables("d")
    for item in range(1_500):
        others = rng.choice(1_500, size=64, replace=False)
        tables.apply(
            row(
                f"pypi:{item}",
                {f"pypi:{n}": float(w) for n, w in zip(others, rng.random(64), strict=True) if n != item},
            )
        )
    items = [f"pypi:{n}" for n in range(20)]
    took = []
    for _ in range(50):
        began = time.perf_counter()
        assert len(tables.rank(items, "pypi")) == 10
        took.append(time.perf_counter() - began)
    assert min(took) < 0.005
