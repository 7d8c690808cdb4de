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
from aicache.schemas.records import ItemTable, ItemVectors, TableWeights
from aicache.schemas.tables import FEATURES, LENGTHS, PARTITIONS_MAX, quantized
from aicache.schemas.topics import TABLES
from aicache.streams.recommendations.tables import encode_row, key_of

NAMES = [f"pypi:{n}" for n in range(8)]


def row(item: str, weights: dict[str, float], version: int = 1, popularity: float = 0.1, task: str = "") -> ItemTable:
    return encode_row("d", item, version, popularity, weights, task=task)


def vectors(directions: dict[str, list[float]], clock: int = 1, partition: int = 0, piece: int = 0) -> ItemVectors:
    """Items that speak for those that look the same way."""
    levels, steps = quantized(np.array([*directions.values()], dtype=np.float32))
    floats = [np.stack([steps, steps, 0 * steps], axis=1), np.zeros(len(steps)), np.ones((len(steps), 4))]
    scales, bias, came = (array.astype("<f4").tobytes() for array in floats)
    return ItemVectors("d", partition, piece, clock, [*directions], levels, levels, scales, bias, came)


def weights(feature: str, clock: int = 1, partition: int = 0, head: bool = False) -> TableWeights:
    """All weight on one feature."""
    chosen = np.zeros((len(LENGTHS), len(FEATURES)), "<f4")
    chosen[:, FEATURES.index(feature)] = 1.0
    return TableWeights("d", partition, clock, 1.0, head, chosen.tobytes())


AXES = {"pypi:a": [1.0, 0.0], "pypi:b": [0.9, 0.2], "pypi:c": [-1.0, 0.1], "pypi:d": [0.0, -1.0]}


def read(*records: ItemTable | ItemVectors | TableWeights) -> Tables:
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


def test_vectors_speak_for_what_looks_the_same_way_and_need_no_row() -> None:
    tables = read(vectors(AXES), weights("vectors"))
    assert [found.item for found in tables.rank(["pypi:a"], "pypi")] == ["pypi:b", "pypi:d", "pypi:c"]
    # The mean over two partitions: in the other, what is like it is another.
    other = {**AXES, "pypi:b": [0.0, 0.0], "pypi:c": [3.0, 0.0]}
    tables.apply(vectors(other, partition=1))
    assert [found.item for found in tables.rank(["pypi:a"], "pypi")] == ["pypi:c", "pypi:b", "pypi:d"]


def test_pieces_may_come_in_any_order_and_a_partition_may_not_know_all_items() -> None:
    first, second = dict(list(AXES.items())[:2]), dict(list(AXES.items())[2:])
    pieces = [
        vectors(first, piece=0),
        vectors(second, 7, piece=1),
        weights("vectors"),
        row("pypi:e", {}, popularity=0.1),
    ]
    one, other = read(*pieces), read(*reversed(pieces))
    for tables in (one, other):
        tables.apply(vectors({"pypi:a": [0.0, 1.0]}, partition=3))
    scores = [{found.item: found.score for found in tables.rank(["pypi:a"], "pypi")} for tables in (one, other)]
    assert set(scores[0]) == {"pypi:b", "pypi:c", "pypi:d", "pypi:e"}
    assert scores[0] == pytest.approx(scores[1])


def test_weights_are_those_of_all_partitions_by_what_they_have_learned() -> None:
    rows = (row("pypi:a", {"pypi:b": 0.9, "pypi:c": 0.1}), row("pypi:b", {}), row("pypi:c", {}, popularity=0.3))
    tables = read(*rows, weights("near", 10), weights("fast", 30, 1))
    assert [found.item for found in tables.rank(["pypi:a"], "pypi")] == ["pypi:c", "pypi:b"]
    tables.apply(weights("near", 90))
    assert [found.item for found in tables.rank(["pypi:a"], "pypi")] == ["pypi:b", "pypi:c"]


def test_base_rates_make_up_for_what_one_partition_knows_too_little_of_but_not_for_what_several_know() -> None:
    rows = (row("pypi:a", {"pypi:b": 0.9, "pypi:c": 0.1}), row("pypi:b", {}), row("pypi:c", {}, popularity=0.3))
    tables = read(*rows, weights("slow", 90), row("pypi:d", {}, popularity=0.5))
    assert [found.item for found in tables.rank(["pypi:a"], "pypi")] == ["pypi:d", "pypi:c", "pypi:b"]
    tables.apply(weights("near", 10, 1))
    assert [found.item for found in tables.rank(["pypi:a"], "pypi")] == ["pypi:b", "pypi:c", "pypi:d"]


def test_where_the_head_names_more_linear_weights_rank_alone() -> None:
    told = encode_row("d", "pypi:a", 1, 0.1, {"pypi:b": 0.9}, linear={"pypi:c": 0.2})
    assert [found.item for found in read(told, weights("near")).rank(["pypi:a"], "pypi")] == ["pypi:b", "pypi:c"]
    led = read(told, weights("near", head=True))
    assert [found.item for found in led.rank(["pypi:a"], "pypi")] == ["pypi:c", "pypi:b"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (vectors(AXES, 4), "old-version"),
        (weights("near", 4), "old-version"),
        (vectors(AXES, 9, PARTITIONS_MAX), "too-many-rows"),
        (replace(vectors(AXES, 9), deployment="other"), "deployment"),
        (replace(vectors(AXES, 9), bias=b""), "bad-vectors"),
        (replace(weights("near", 9), weights=b""), "bad-weights"),
    ],
)
def test_vectors_or_weights_that_make_no_sense_are_refused_and_nothing_has_changed(
    bad: ItemVectors | TableWeights, reason: str
) -> None:
    tables = read(vectors(AXES, 5), weights("vectors", 5))
    before = tables.rank(["pypi:a"], "pypi")
    with pytest.raises(RemoteError) as refused:
        tables.apply(bad)
    assert refused.value.reason == reason
    assert tables.rank(["pypi:a"], "pypi") == before


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
