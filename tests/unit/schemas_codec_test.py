"""Hostile bytes are refused with a reason, in bounded time and memory; equal records give equal bytes."""

import copy
import dataclasses
import io
import math
import time
import tracemalloc
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import records
from aicache.schemas.catalog import RECORD_TYPES, newest, versions
from aicache.schemas.codec import HEADER_BYTES, MARKER, Codec, body_of
from aicache.schemas.convert import to_plain
from aicache.schemas.records import (
    Approval,
    Budget,
    Endorsed,
    Endorsement,
    Model,
    Opening,
    Record,
    RoundClosed,
    UpdateChunk,
    UsageBatch,
    Vote,
)
from aicache.schemas.topics import largest_record_bytes
from aicache.schemas.words import INFINITE, WORDS
from support.damage import flipped
from support.sample_records import samples

CODEC = Codec()
SAMPLES = samples()
CLOSED = CODEC.encode(SAMPLES["RoundClosed"])
MEBIBYTE = 1 << 20
REASONS = ("bad-framing", "unknown-schema", "malformed", "not-canonical", "not-finite", "unknown-word")
REFUSED = ("bad-framing", "unknown-schema", "malformed", "not-canonical", "not-finite", "unknown-word")
DECODE_S_MAX = 2.0  # generous: the machine may be busy, and what is refused takes microseconds


def reason_of(data: bytes, *allowed: type[Any]) -> str:
    with pytest.raises(RemoteError) as caught:
        CODEC.decode(data, *allowed)
    assert caught.value.reason
    return caught.value.reason


def head(name: str) -> bytes:
    return MARKER + newest(name).fingerprint


def zigzag(value: int) -> bytes:
    """An Avro long."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_a_record_comes_back_as_it_was(name: str) -> None:
    decoded = CODEC.decode(CODEC.encode(SAMPLES[name]), RECORD_TYPES[name])
    assert decoded.record == SAMPLES[name]
    assert (decoded.fingerprint, decoded.body) == body_of(SAMPLES[name])


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_equal_records_give_equal_bytes(name: str) -> None:
    assert CODEC.encode(copy.deepcopy(SAMPLES[name])) == CODEC.encode(SAMPLES[name])


def test_a_schema_that_is_not_ours_is_refused_whatever_it_would_decode_to() -> None:
    """A schema that nests in itself could be arbitrarily deep; it has no fingerprint of this package's."""
    nested = {
        "type": "record",
        "name": "Deep",
        "fields": [{"name": "next", "type": ["null", "Deep"]}],
    }
    mark = bytes.fromhex(fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(nested), "CRC-64-AVRO"))
    assert reason_of(MARKER + mark + b"\x02" * 100_000 + b"\x00", *RECORD_TYPES.values()) == "unknown-schema"
    assert reason_of(MARKER + bytes(8) + b"body", RoundClosed) == "unknown-schema"


@pytest.mark.parametrize("data", [b"", b"\xc3", MARKER, MARKER + bytes(7), b"\x00\x00\x00\x00\x01rest", b"{}" * 20])
def test_what_is_not_single_object_encoding_is_refused(data: bytes) -> None:
    assert reason_of(data, RoundClosed) == "bad-framing"


def test_a_record_of_another_topic_is_refused() -> None:
    assert reason_of(CLOSED, Vote, Approval) == "wrong-record"
    with pytest.raises(RemoteError) as caught:
        CODEC.decode_raw(CLOSED, Vote)
    assert caught.value.reason == "wrong-record"


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_every_truncation_is_refused(name: str) -> None:
    data = CODEC.encode(SAMPLES[name])
    for length in range(len(data)):
        assert reason_of(data[:length], RECORD_TYPES[name]) in ("bad-framing", "malformed")


def test_bytes_that_are_left_over_are_refused() -> None:
    assert reason_of(CLOSED + b"\x00", RoundClosed) == "malformed"


def test_a_record_larger_than_its_topic_allows_is_refused_before_it_is_decoded() -> None:
    assert reason_of(head("Vote") + bytes(largest_record_bytes("Vote")), Vote) == "too-large"
    # Beside a record that may be large, too: the cap is that of its own kind.
    assert reason_of(head("Vote") + bytes(largest_record_bytes("Vote")), Vote, UpdateChunk) == "too-large"


def test_a_record_larger_than_its_topic_allows_is_not_written() -> None:
    with pytest.raises(LocalError, match="larger than its topic allows"):
        CODEC.encode(UpdateChunk("r", bytes(32), 0, 1, bytes(largest_record_bytes("UpdateChunk"))))


def test_text_that_is_not_utf_8_is_refused() -> None:
    assert reason_of(CLOSED.replace("täxt-1".encode(), b"t\xff\xfext-1", 1), RoundClosed) == "malformed"


@pytest.mark.parametrize("length", [-1, -(2**31), -(2**63), 2**31, 2**40, 2**63 - 1])
def test_a_length_that_cannot_be_is_refused(length: int) -> None:
    assert reason_of(head("RoundClosed") + zigzag(length) + b"d", RoundClosed) == "malformed"


@pytest.mark.parametrize("digits", [10, 11, 1_000])
def test_a_number_that_does_not_end_is_refused(digits: int) -> None:
    assert reason_of(head("RoundClosed") + b"\xff" * digits, RoundClosed) == "malformed"


def arrays_of(name: str) -> list[bytes]:
    """The bytes of a sample up to each place where an array's block count (two items, then an end) stands."""
    data = CODEC.encode(SAMPLES[name])
    return [data[:at] for at in range(HEADER_BYTES, len(data)) if data[at] == 4]


@pytest.mark.parametrize("name", ["Manifest", "Envelope", "Task", "UsageBatch", "Endorsement", "Aggregate", "Model"])
@pytest.mark.parametrize("count", [10**6, 10**9, 2**62, -(10**9), -(2**62)])
def test_a_count_that_promises_more_than_was_sent_costs_nothing(name: str, count: int) -> None:
    """Wherever an array's count stands, a bomb in its place ends at the end of the bytes."""
    tracemalloc.start()
    began = time.perf_counter()
    for before in arrays_of(name):
        block = zigzag(count) + (zigzag(2**40) if count < 0 else b"")
        try:
            CODEC.decode(before + block + bytes(64), RECORD_TYPES[name])
        except RemoteError as error:
            assert error.reason in REFUSED
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.perf_counter() - began < DECODE_S_MAX * max(1, len(arrays_of(name)))
    assert peak < 4 * MEBIBYTE


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_a_flipped_bit_gives_a_refusal_or_a_record(name: str) -> None:
    data = CODEC.encode(SAMPLES[name])
    for damaged in flipped(data, 3):
        survives(damaged)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(RECORD_TYPES)), st.binary(max_size=300))
def test_any_bytes_give_a_refusal_or_a_record(name: str, body: bytes) -> None:
    survives(head(name) + body)


def survives(data: bytes) -> None:
    try:
        decoded: Record = CODEC.decode(data, *RECORD_TYPES.values()).record
    except RemoteError as error:
        assert error.reason in REFUSED
    else:
        assert type(decoded) in RECORD_TYPES.values()


@pytest.mark.parametrize("wrong", [None, "text", b"bytes", 2**63])
def test_a_field_of_the_wrong_type_is_not_written(wrong: Any) -> None:
    with pytest.raises(LocalError, match="RoundClosed has the wrong type"):
        CODEC.encode(RoundClosed("d", "t", "r", bytes(32), wrong, "full"))


def body_with(name: str, **changed: Any) -> bytes:
    """A sample with fields that the codec itself would not write."""
    schema = newest(name)
    fields = to_plain(RECORD_TYPES[name])(SAMPLES[name]) | changed
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.parsed, fields)
    return MARKER + schema.fingerprint + out.getvalue()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "field"), [("Task", "clip"), ("Proposal", "sigma"), ("ItemTable", "scale"), ("Trend", "value")]
)
def test_a_number_that_is_not_finite_is_neither_read_nor_written(name: str, field: str, value: float) -> None:
    assert reason_of(body_with(name, **{field: value}), RECORD_TYPES[name]) == "not-finite"
    with pytest.raises(LocalError, match=f"{name}.{field} is not a finite number"):
        CODEC.encode(dataclasses.replace(SAMPLES[name], **{field: value}))  # type: ignore[type-var]


@pytest.mark.parametrize("version", [1, 2])
def test_usage_that_tells_no_time_of_day_is_read_as_usage_that_keeps_it(version: int) -> None:
    batch = SAMPLES["UsageBatch"]
    assert isinstance(batch, UsageBatch)
    schema, body = versions("UsageBatch")[version - 1], io.BytesIO()
    fastavro.schemaless_writer(body, schema.parsed, to_plain(UsageBatch)(batch))
    read = CODEC.decode(MARKER + schema.fingerprint + body.getvalue(), UsageBatch).record
    assert read.daytime == ""
    assert read.language == batch.language


def test_a_number_inside_a_batch_of_events_is_looked_at_too() -> None:
    batch = SAMPLES["UsageBatch"]
    assert isinstance(batch, UsageBatch)
    events = [*batch.events, dataclasses.replace(batch.events[0], propensity=math.nan)]
    with pytest.raises(LocalError, match="propensity is not a finite number"):
        CODEC.encode(dataclasses.replace(batch, events=events))


def test_a_divergence_may_be_infinite_but_must_be_a_number() -> None:
    budget = SAMPLES["Budget"]
    assert isinstance(budget, Budget)
    unbounded = dataclasses.replace(budget, rdp=[0.5, math.inf], epsilon=math.inf)
    assert CODEC.decode(CODEC.encode(unbounded), Budget).record == unbounded
    for wrong in (math.nan, -math.inf):
        assert reason_of(body_with("Budget", rdp=[0.5, wrong]), Budget) == "not-finite"


@pytest.mark.parametrize(("name", "field"), sorted(place for place in WORDS if place[0] in RECORD_TYPES))
def test_a_word_outside_a_closed_vocabulary_is_neither_read_nor_written(name: str, field: str) -> None:
    assert reason_of(body_with(name, **{field: "other"}), RECORD_TYPES[name]) == "unknown-word"
    with pytest.raises(LocalError, match=f"{name}.{field} is none of"):
        CODEC.encode(dataclasses.replace(SAMPLES[name], **{field: "other"}))  # type: ignore[type-var]


def test_the_vocabularies_are_of_fields_that_exist() -> None:
    for kind, field in (*WORDS, *INFINITE):
        assert field in {item.name for item in dataclasses.fields(getattr(records, kind))}


def test_a_record_has_one_encoding_only() -> None:
    """Two encodings of one proposal would have two digests, and members could be made to speak of different rounds."""
    entries = CODEC.encode(SAMPLES["Opening"])
    number = zigzag(SAMPLES["Opening"].group)  # type: ignore[union-attr]
    longer = number[:-1] + bytes([number[-1] | 0x80, 0])  # the same number with a digit of zero after it
    assert reason_of(entries.replace(number, longer, 1), Opening) == "not-canonical"
    endorsement = SAMPLES["Endorsement"]
    assert isinstance(endorsement, Endorsement)
    [one] = entries_of(endorsement.entries[:1])
    [two] = entries_of(endorsement.entries[1:])
    whole = CODEC.encode(endorsement)
    at_once = zigzag(2) + one + two + zigzag(0)
    assert at_once in whole
    for other in (
        zigzag(1) + one + zigzag(1) + two + zigzag(0),
        zigzag(-2) + zigzag(len(one + two)) + one + two + zigzag(0),
    ):
        assert reason_of(whole.replace(at_once, other), Endorsement) == "not-canonical"


def entries_of(endorsed: list[Endorsed]) -> list[bytes]:
    out = []
    for entry in endorsed:
        item = io.BytesIO()
        fastavro.schemaless_writer(item, "bytes", entry.sender)
        fastavro.schemaless_writer(item, "bytes", entry.digest)
        out.append(item.getvalue())
    return out


def test_a_branch_counted_from_the_end_is_refused() -> None:
    """fastavro takes the branch -1 of a union for its last one, as Python does with lists."""
    model = dataclasses.replace(SAMPLES["Model"], guarantee=None, metrics=[])  # type: ignore[type-var]
    data = CODEC.encode(model)
    assert data.endswith(zigzag(0) + zigzag(0))  # no guarantee, no metrics
    assert reason_of(data[:-2] + zigzag(-2) + zigzag(0), Model) in ("not-canonical", "malformed")


def test_a_record_goes_over_to_single_object_encoding_and_back() -> None:
    assert CODEC.standard(CLOSED) == CLOSED == CODEC.framed(CLOSED)
