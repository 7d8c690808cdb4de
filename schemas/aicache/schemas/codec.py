"""Records to bytes and back: Avro, in one of two wire forms.

Single-object encoding (Avro 1.12 specification): C3 01, the writer schema's CRC-64-AVRO fingerprint, the body. Confluent framing
(registry.py): 00, a schema id, the body. Either way the writer's schema must be one of this package's, which is decided before
anything is decoded, and a record is never larger than its topic allows, which is decided before that.

Why this is enough against hostile bytes: schemas are not recursive and have no zero-width items, so that what is decoded is at
most a fixed multiple of what was sent; lengths beyond the end, bytes left over and text that is not UTF-8 are refused.
Pure: no clock, no I/O.
"""

import dataclasses
import functools
import io
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, Protocol, TypeVar

import fastavro

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas.catalog import FINGERPRINT_BYTES, RECORD_TYPES, Schema, by_fingerprint, newest
from aicache.schemas.records import Record
from aicache.schemas.topics import largest_record_bytes

MARKER = b"\xc3\x01"
HEADER_BYTES = len(MARKER) + FINGERPRINT_BYTES
R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)


@dataclass(frozen=True, slots=True)
class Decoded(Generic[R_co]):
    """A record with what its digest is taken over.

    Attributes:
        record: typed.
        fingerprint: of the writer's schema, 8 bytes.
        body: the Avro body as it stood in the log.
    """

    record: R_co
    fingerprint: bytes
    body: bytes


class Framing(Protocol):
    """A wire form: how the writer's schema is named before the body."""

    def header(self, schema: Schema) -> bytes:
        """What stands before the body."""

    def split(self, data: bytes) -> tuple[Schema, int]:
        """The writer's schema and where the body begins.

        Raises:
            RemoteError: not this wire form, or a schema that is not allowed.
        """


class SingleObject:
    """Avro's standard single-object encoding; needs no registry."""

    def header(self, schema: Schema) -> bytes:
        """See `Framing.header`."""
        return MARKER + schema.fingerprint

    def split(self, data: bytes) -> tuple[Schema, int]:
        """See `Framing.split`."""
        if data[:2] != MARKER or len(data) < HEADER_BYTES:
            raise RemoteError(
                "not a single-object encoded record", reason="bad-framing", got=data[:2].hex(), needed=MARKER.hex()
            )
        schema = by_fingerprint().get(data[2:HEADER_BYTES])
        if schema is None:
            raise RemoteError(
                "the schema's fingerprint is not one of this package's",
                reason="unknown-schema",
                got=data[2:HEADER_BYTES].hex(),
                needed="a fingerprint of a schema in aicache.schemas",
            )
        return schema, HEADER_BYTES


class Codec:
    """Encodes and decodes records.

    Args:
        framing: the wire form; single-object encoding where none is given.

    Examples:
        >>> from aicache.schemas.records import Metric, RoundClosed
        >>> codec = Codec()
        >>> data = codec.encode(RoundClosed("demo", "tags", "tags-1", bytes(32), 1_700_000_000_000, "full"))
        >>> codec.decode(data, RoundClosed).record.reason
        'full'
    """

    def __init__(self, framing: Framing | None = None) -> None:
        self.framing: Framing = framing or SingleObject()

    def encode(self, record: Record) -> bytes:
        """The bytes for a topic; equal records give equal bytes.

        Raises:
            LocalError: a field has the wrong type, or the record is larger than its topic allows.
        """
        schema = newest(type(record).__name__)
        data = self.framing.header(schema) + body_of(record)[1]
        limit = largest_record_bytes(schema.record)
        if len(data) > limit:
            raise LocalError(
                f"the {schema.record} is larger than its topic allows", got=len(data), needed=f"≤ {limit} bytes"
            )
        return data

    def decode(self, data: bytes, *allowed: type[R]) -> Decoded[R]:
        """A record of one of the allowed types.

        Args:
            data: a value from a topic.
            allowed: the record types that the topic may hold.

        Raises:
            RemoteError: `too-large`, `bad-framing`, `unknown-schema`, `wrong-record`, `malformed`.
        """
        schema, start = self._admit(data, {kind.__name__ for kind in allowed})
        body = bytes(data[start:])
        return Decoded(_builder(RECORD_TYPES[schema.record])(_read(schema, body)), schema.fingerprint, body)  # type: ignore[arg-type]

    def decode_raw(self, data: bytes, *allowed: type[Record]) -> tuple[str, dict[str, Any]]:
        """The record's name and its fields as they come from Avro: for hot paths that make columns of them."""
        schema, start = self._admit(data, {kind.__name__ for kind in allowed})
        return schema.record, _read(schema, data[start:])

    def _admit(self, data: bytes, allowed: set[str]) -> tuple[Schema, int]:
        limit = max((largest_record_bytes(name) for name in allowed), default=0)
        if len(data) > limit:
            raise RemoteError(
                "the record is larger than its topic allows",
                reason="too-large",
                got=len(data),
                needed=f"≤ {limit} bytes",
            )
        schema, start = self.framing.split(data)
        if schema.record not in allowed:
            raise RemoteError(
                "the record does not belong into this topic",
                reason="wrong-record",
                got=schema.record,
                needed=sorted(allowed),
            )
        if len(data) > largest_record_bytes(schema.record):
            raise RemoteError("the record is larger than its kind may be", reason="too-large", got=len(data))
        return schema, start


def body_of(record: Record) -> tuple[bytes, bytes]:
    """The writer's fingerprint and the Avro body of a record: what its digest is taken over.

    Raises:
        LocalError: a field has the wrong type.
    """
    schema = newest(type(record).__name__)
    out = io.BytesIO()
    try:
        fastavro.schemaless_writer(out, schema.parsed, _plain(record), strict=True)
    except (TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        raise LocalError(
            f"a field of the {schema.record} has the wrong type: {error}", needed="the types of its schema"
        ) from None
    return schema.fingerprint, out.getvalue()


def _read(schema: Schema, body: bytes) -> dict[str, Any]:
    source = io.BytesIO(body)
    try:
        reader = newest(schema.record)
        # Resolving a schema against itself would cost most of the time that decoding takes.
        fields = fastavro.schemaless_reader(source, schema.parsed, None if reader is schema else reader.parsed)
    except (EOFError, ValueError, IndexError, OverflowError, TypeError, KeyError, StopIteration):
        raise RemoteError("the record's body cannot be decoded", reason="malformed", got=len(body)) from None
    if source.tell() != len(body):
        raise RemoteError(
            "bytes are left over after the record", reason="malformed", got=len(body), needed=source.tell()
        )
    return typing.cast(dict[str, Any], fields)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list):
        return [_plain(item) for item in value] if value and dataclasses.is_dataclass(value[0]) else value
    return value


@cache
def _builder(kind: type) -> Callable[[dict[str, Any]], Any]:
    """A function from Avro's dictionaries to a dataclass: nested ones are built only where the type has some."""
    nested: dict[str, Callable[[Any], Any]] = {}
    for name, hint in typing.get_type_hints(kind).items():
        convert = _converter(hint)
        if convert is not None:
            nested[name] = convert

    def build(fields: dict[str, Any]) -> Any:
        for name, convert in nested.items():
            fields[name] = convert(fields[name])
        return kind(**fields)

    return build


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    """What turns a field of this type from Avro's form into ours; None where they are the same."""
    if dataclasses.is_dataclass(hint):
        return _builder(typing.cast(type, hint))
    if typing.get_origin(hint) is list and dataclasses.is_dataclass(typing.get_args(hint)[0]):
        item = _builder(typing.get_args(hint)[0])
        return lambda values: [item(value) for value in values]
    if isinstance(hint, types.UnionType):
        for part in typing.get_args(hint):
            inner = _converter(part)
            if inner is not None:
                return functools.partial(_unless_none, inner)
    return None


def _unless_none(convert: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else convert(value)
