"""Known answers of the codec: what was written once is read and written the same for ever."""

import json
from pathlib import Path

import pytest

from aicache.schemas.catalog import RECORD_TYPES, newest, versions
from aicache.schemas.codec import Codec
from aicache.schemas.records import RoundClosed
from support.sample_records import samples

KNOWN: dict[str, str] = json.loads(Path(__file__).with_name("avro.json").read_text())


def test_every_version_of_every_record_has_a_known_answer() -> None:
    assert {f"{name}-{schema.version}" for name in RECORD_TYPES for schema in versions(name)} == set(KNOWN)


@pytest.mark.parametrize("key", KNOWN)
def test_known_bytes_are_read(key: str) -> None:
    name, _, version = key.rpartition("-")
    decoded = Codec().decode(bytes.fromhex(KNOWN[key]), RECORD_TYPES[name])
    if int(version) == newest(name).version:
        assert decoded.record == samples()[name]
    assert decoded.fingerprint == versions(name)[int(version) - 1].fingerprint


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_known_records_are_written(name: str) -> None:
    assert Codec().encode(samples()[name]).hex() == KNOWN[f"{name}-{newest(name).version}"]


def test_the_bytes_are_those_of_the_specification() -> None:
    """Worked by hand from Avro 1.12: C3 01, the fingerprint, then strings and bytes behind zigzag lengths, a zigzag long."""
    record = RoundClosed("d", "tags", "r1", bytes([7]) * 4, -3, "full")
    body = "02 64  08 74616773  04 7231  08 07070707  05  08 66756c6c"
    header = b"\xc3\x01" + newest("RoundClosed").fingerprint
    assert Codec().encode(record) == header + bytes.fromhex(body)
