"""What reads and writes records at once agrees with fastavro: on what it knows, and by leaving alone what it does not know."""

import dataclasses
import io
import types
import typing
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.privacy.errors import AicacheError
from aicache.schemas import codec
from aicache.schemas.catalog import RECORD_TYPES, Schema, newest, versions
from aicache.schemas.codec import BULK, MARKER, Codec, body_of
from aicache.schemas.convert import to_plain
from aicache.schemas.records import PartitionOffset, Record, Task, UsageBatch, UsageEvent
from aicache.schemas.shortcut import UNUSUAL, reader_of, writer_of
from aicache.schemas.words import WORDS
from support.damage import flipped
from support.sample_records import samples

CODEC = Codec()
SAMPLES = samples()
OLDER = [schema for name in RECORD_TYPES for schema in versions(name)[:-1]]
LONG = 2**63
EDGES = [0, -1, 63, 64, -64, -65, 8_191, -8_193, 2**61, 2**62 - 1, 2**62, -(2**62) - 1, LONG - 1, -LONG]
TEXTS = st.text(max_size=6) | st.sampled_from(["é" * 32, "x" * 63, "x" * 64, "x" * 200, "\x00"])


def values(hint: Any) -> st.SearchStrategy[Any]:
    """What a field may hold."""
    if isinstance(hint, types.UnionType):
        [inner] = [part for part in typing.get_args(hint) if part is not type(None)]
        return st.none() | values(inner)
    if typing.get_origin(hint) is list:
        return st.lists(values(typing.get_args(hint)[0]), max_size=3)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        named = typing.cast(type, hint).__name__
        given_fields = {
            field.name: st.sampled_from(sorted(WORDS[named, field.name]))
            if (named, field.name) in WORDS
            else values(hints[field.name])
            for field in dataclasses.fields(hint)
        }
        return st.builds(typing.cast(type, hint), **given_fields)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        int: st.sampled_from(EDGES) | st.integers(-LONG, LONG - 1),
        float: st.floats(min_value=0, allow_nan=False, allow_infinity=False) | st.just(-0.0),
        str: TEXTS,
        bytes: st.binary(max_size=80),
        bool: st.booleans(),
    }
    return plain[hint]


def verdict(data: bytes, *, whole_way: bool) -> Record | str:
    """The record, or why there is none."""
    with pytest.MonkeyPatch.context() as patch:
        if whole_way:
            patch.setattr(codec, "_shortcut", lambda _fingerprint: unknown)
        try:
            return CODEC.decode(data, *RECORD_TYPES.values()).record
        except AicacheError as error:
            return repr((error.reason, str(error)))  # type: ignore[attr-defined]


def agrees(data: bytes) -> None:
    fast, whole = verdict(data, whole_way=False), verdict(data, whole_way=True)
    assert fast == whole
    assert repr(fast) == repr(whole)  # also tells -0.0 from 0.0 and true from 1


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_what_ours_has_written_is_known(name: str) -> None:
    """Otherwise all of it would still be right, and slow."""
    body = writer_of(RECORD_TYPES[name])(SAMPLES[name])
    assert body == whole_body(SAMPLES[name])
    found = reader_of(RECORD_TYPES[name], newest(name).source)(body)
    assert (type(found), found) == (RECORD_TYPES[name], SAMPLES[name])


def whole_body(record: Record) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "writer_of", lambda _kind: unknown)
        return body_of(record)[1]


def unknown(_: object) -> bytes:
    raise ValueError


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_record_is_written_and_read_as_fastavro_does(data: st.DataObject) -> None:
    kind = RECORD_TYPES[data.draw(st.sampled_from(sorted(RECORD_TYPES)))]
    record = data.draw(values(kind))
    body = body_of(record)[1]
    assert body == whole_body(record)
    agrees(MARKER + newest(kind.__name__).fingerprint + body)


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_a_damaged_record_is_judged_as_before(name: str) -> None:
    data = CODEC.encode(SAMPLES[name])
    for damaged in flipped(data, 5):
        agrees(damaged)
    for length in range(0, len(data), 3):
        agrees(data[:length])


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(RECORD_TYPES)), st.binary(max_size=200))
def test_any_bytes_are_judged_as_before(name: str, body: bytes) -> None:
    agrees(MARKER + newest(name).fingerprint + body)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(set(RECORD_TYPES) - BULK)), st.binary(max_size=60), st.integers(0, 60))
def test_what_is_read_at_once_has_one_encoding(name: str, junk: bytes, at: int) -> None:
    """The codec does not encode it again to see."""
    body = body_of(SAMPLES[name])[1]
    mixed = body[:at] + junk + body[at + len(junk) :]
    try:
        record = reader_of(RECORD_TYPES[name], newest(name).source)(mixed)
    except UNUSUAL:
        return
    assert whole_body(record) == mixed


def event(**changed: Any) -> UsageEvent:
    return dataclasses.replace(UsageEvent("used", 1, ["a:b"], [], "", 1, b"", -1, 0.0), **changed)


@pytest.mark.parametrize(
    "changed",
    [{"count": True}, {"count": 1.0}, {"kind": b"used"}, {"items": ("a:b",)}, {"propensity": 1}, {"sketch": "text"}],
)
def test_a_field_of_another_type_is_left_to_fastavro(changed: dict[str, Any]) -> None:
    batch = UsageBatch("d", b"p", 1, 0, "", "", "", "", "", [event(**changed)])
    with pytest.raises(UNUSUAL):
        writer_of(UsageBatch)(batch)


def test_a_part_of_another_kind_is_left_to_fastavro() -> None:
    batch = UsageBatch("d", b"p", 1, 0, "", "", "", "", "", [PartitionOffset(0, 0)])  # type: ignore[list-item]
    with pytest.raises(UNUSUAL):
        writer_of(UsageBatch)(batch)


@pytest.mark.parametrize("schema", OLDER, ids=lambda schema: f"{schema.record}-{schema.version}")
def test_older_schemas_are_read_as_fastavro_does(schema: Schema) -> None:
    """What they lack has its default; their types are the newest one's."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.parsed, to_plain(RECORD_TYPES[schema.record])(SAMPLES[schema.record]))
    reader_of(RECORD_TYPES[schema.record], schema.source)(out.getvalue())
    data = MARKER + schema.fingerprint + out.getvalue()
    for damaged in flipped(data, 5):
        agrees(damaged)
    agrees(data)
    assert not isinstance(verdict(data, whole_way=False), str)


def test_a_default_that_can_be_changed_is_not_shared() -> None:
    oldest = versions("Task")[0]
    out = io.BytesIO()
    fastavro.schemaless_writer(out, oldest.parsed, to_plain(RECORD_TYPES["Task"])(SAMPLES["Task"]))
    read = reader_of(Task, oldest.source)
    assert read(out.getvalue()).clips == []
    assert read(out.getvalue()).clips is not read(out.getvalue()).clips
