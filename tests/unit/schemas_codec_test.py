"""Hostile bytes are refused with a reason, in bounded time and memory; equal records give equal bytes."""

import copy
import io
import time
import tracemalloc
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas.catalog import RECORD_TYPES, newest
from aicache.schemas.codec import HEADER_BYTES, MARKER, Codec, body_of
from aicache.schemas.records import Approval, Record, RoundClosed, UpdateChunk, Vote
from aicache.schemas.topics import largest_record_bytes
from support.sample_records import samples

CODEC = Codec()
SAMPLES = samples()
CLOSED = CODEC.encode(SAMPLES["RoundClosed"])
MEBIBYTE = 1 << 20
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
            assert error.reason == "malformed"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.perf_counter() - began < DECODE_S_MAX * max(1, len(arrays_of(name)))
    assert peak < 4 * MEBIBYTE


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_a_flipped_bit_gives_a_refusal_or_a_record(name: str) -> None:
    data = CODEC.encode(SAMPLES[name])
    for bit in range(0, 8 * len(data), 3):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        survives(bytes(flipped))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(RECORD_TYPES)), st.binary(max_size=300))
def test_any_bytes_give_a_refusal_or_a_record(name: str, body: bytes) -> None:
    survives(head(name) + body)


def survives(data: bytes) -> None:
    try:
        decoded: Record = CODEC.decode(data, *RECORD_TYPES.values()).record
    except RemoteError as error:
        assert error.reason in ("bad-framing", "unknown-schema", "malformed")
    else:
        assert type(decoded) in RECORD_TYPES.values()


@pytest.mark.parametrize("wrong", [None, "text", b"bytes", 2**63])
def test_a_field_of_the_wrong_type_is_not_written(wrong: Any) -> None:
    with pytest.raises(LocalError, match="RoundClosed has the wrong type"):
        CODEC.encode(RoundClosed("d", "t", "r", bytes(32), wrong, "full"))
