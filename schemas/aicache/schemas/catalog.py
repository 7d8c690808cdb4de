"""Every version of every schema, and which of them is the newest.

`avsc/RECORD/N.avsc` is version N; files are added, never changed. All of them may stand in a log, so all of them are readable;
records are written in the newest one. Invariant: what is not in this catalog is not decoded.
Pure but for reading the package's files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, get_args

from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from aicache.schemas import records

FINGERPRINT_BYTES = 8
RECORD_TYPES: Mapping[str, type[records.Record]] = {kind.__name__: kind for kind in get_args(records.Record)}
"""Every record that may stand alone in a topic, by name."""


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of one record's schema.

    Attributes:
        record: name of the record.
        version: from 1.
        source: as in the file.
        parsed: as fastavro wants it.
        canonical: Avro's parsing canonical form.
        fingerprint: CRC-64-AVRO of the canonical form, 8 bytes, little-endian as on the wire.
    """

    record: str
    version: int
    source: dict[str, Any]
    parsed: Any
    canonical: str
    fingerprint: bytes


def make_schema(record: str, version: int, source: dict[str, Any]) -> Schema:
    """Parse one schema."""
    canonical = to_parsing_canonical_form(source)
    return Schema(
        record=record,
        version=version,
        source=source,
        parsed=parse_schema(source),
        canonical=canonical,
        fingerprint=bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO")),
    )


@cache
def versions(record: str) -> tuple[Schema, ...]:
    """All versions of a record's schema, oldest first."""
    folder = files("aicache.schemas").joinpath("avsc", record)
    numbers = sorted(int(file.name.removesuffix(".avsc")) for file in folder.iterdir() if file.name.endswith(".avsc"))
    return tuple(make_schema(record, n, json.loads(folder.joinpath(f"{n}.avsc").read_text())) for n in numbers)


def newest(record: str) -> Schema:
    """The version in which a record is written."""
    return versions(record)[-1]


@cache
def by_fingerprint() -> Mapping[bytes, Schema]:
    """The allow-list: every schema that may be decoded."""
    return {schema.fingerprint: schema for record in RECORD_TYPES for schema in versions(record)}
