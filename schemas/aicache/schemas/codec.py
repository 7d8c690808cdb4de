"""Records to bytes and back: Avro, in one of two wire forms.

Single-object encoding (Avro 1.12 specification): C3 01, the writer schema's CRC-64-AVRO fingerprint, the body. Confluent framing
(registry.py): 00, a schema id, the body. Either way the writer's schema must be one of this package's, which is decided before
anything is decoded, and a record is never larger than its topic allows, which is decided before that.

Why this is enough against hostile bytes: schemas are not recursive and have no zero-width items, so that what is decoded is at
most a fixed multiple of what was sent; lengths beyond the end, bytes left over and text that is not UTF-8 are refused. A body
whose digest counts has one encoding only: blocks, numbers and branches written in another way than ours are refused too.
Pure: no clock, no I/O.
"""

import io
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import fastavro

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas.catalog import FINGERPRINT_BYTES, RECORD_TYPES, Schema, by_fingerprint, newest
from aicache.schemas.convert import UnfitError, from_plain, to_plain
from aicache.schemas.records import Record
from aicache.schemas.shortcut import UNUSUAL, reader_of, writer_of
from aicache.schemas.topics import largest_record_bytes

MARKER = b"\xc3\x01"
BULK = frozenset({"UsageBatch", "UpdateChunk"})
"""Records of which there are many, and whose digest nobody takes over the body: they are not encoded again to see whether
there is another way to write them."""
HEADER_BYTES = len(MARKER) + FINGERPRINT_BYTES
R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)


class Decoded(NamedTuple, Generic[R_co]):
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


_process_framing: Framing = SingleObject()


def use_framing(framing: Framing) -> None:
    """Choose the wire form of this process: of every codec made from now on without one of its own.

    Call it once, at the start: a deployment's topics hold one wire form.
    """
    global _process_framing
    _process_framing = framing


class Codec:
    """Encodes and decodes records.

    Args:
        framing: the wire form; that of the process where none is given, which is single-object encoding unless
            `use_framing` says otherwise.

    Examples:
        >>> from aicache.schemas.records import Metric, RoundClosed
        >>> codec = Codec()
        >>> data = codec.encode(RoundClosed("demo", "tags", "tags-1", bytes(32), 1_700_000_000_000, "full"))
        >>> codec.decode(data, RoundClosed).record.reason
        'full'
    """

    def __init__(self, framing: Framing | None = None) -> None:
        self.framing: Framing = framing or _process_framing

    def encode(self, record: Record) -> bytes:
        """The bytes for a topic; equal records give equal bytes.

        Raises:
            LocalError: a field has the wrong type or a value that it may not hold, or the record is larger than its topic allows.
        """
        schema, limit = _newest(typing.cast(type, type(record)))
        data = self.framing.header(schema) + _body(schema, record)
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
            RemoteError: `too-large`, `bad-framing`, `unknown-schema`, `wrong-record`, `malformed`, `not-canonical`,
                `not-finite`, `unknown-word`.
        """
        schema, start = self._admit(data, allowed)
        body = bytes(data[start:])
        try:
            return Decoded(_shortcut(schema.fingerprint)(body), schema.fingerprint, body)
        except UNUSUAL:
            pass  # decided by the whole way
        fields = _read(schema, body, canonical=schema.record not in BULK)
        try:
            record = from_plain(typing.cast(type, RECORD_TYPES[schema.record]))(fields)
        except UnfitError as error:
            raise RemoteError(str(error), reason=error.reason, needed=error.needed) from None
        return Decoded(record, schema.fingerprint, body)

    def decode_raw(self, data: bytes, *allowed: type[Record]) -> tuple[str, dict[str, Any]]:
        """The record's name and its fields as they come from Avro: for hot paths that make columns of them.

        Values are not held to `words`: who makes columns looks at them anyway.
        """
        schema, start = self._admit(data, allowed)
        return schema.record, _read(schema, data[start:], canonical=schema.record not in BULK)

    def standard(self, data: bytes) -> bytes:
        """The same record in single-object encoding: what is kept or handed on outside Kafka needs no registry to be read.

        Raises:
            RemoteError: `bad-framing`, `unknown-schema`.
        """
        schema, start = self.framing.split(data)
        return data if isinstance(self.framing, SingleObject) else MARKER + schema.fingerprint + data[start:]

    def framed(self, data: bytes) -> bytes:
        """The inverse of `standard`: a record in single-object encoding as this codec writes it.

        Raises:
            RemoteError: `bad-framing`, `unknown-schema`.
        """
        schema, start = SingleObject().split(data)
        return data if isinstance(self.framing, SingleObject) else self.framing.header(schema) + data[start:]

    def _admit(self, data: bytes, allowed: tuple[type, ...]) -> tuple[Schema, int]:
        limits, limit = _limits(allowed)
        if len(data) > limit:
            raise RemoteError(
                "the record is larger than its topic allows",
                reason="too-large",
                got=len(data),
                needed=f"≤ {limit} bytes",
            )
        schema, start = self.framing.split(data)
        if schema.record not in limits:
            raise RemoteError(
                "the record does not belong into this topic",
                reason="wrong-record",
                got=schema.record,
                needed=sorted(limits),
            )
        if len(data) > limits[schema.record]:
            raise RemoteError("the record is larger than its kind may be", reason="too-large", got=len(data))
        return schema, start


@cache
def _limits(allowed: tuple[type, ...]) -> tuple[Mapping[str, int], int]:
    """The names of these record types with how large each may be, and the largest that any of them may be."""
    limits = {kind.__name__: largest_record_bytes(kind.__name__) for kind in allowed}
    return limits, max(limits.values(), default=0)


@cache
def _shortcut(fingerprint: bytes) -> Callable[[bytes], Any]:
    """What reads bodies of a schema at once."""
    schema = by_fingerprint()[fingerprint]
    return reader_of(typing.cast(type, RECORD_TYPES[schema.record]), schema.source)


def body_of(record: Record) -> tuple[bytes, bytes]:
    """The writer's fingerprint and the Avro body of a record: what its digest is taken over.

    Raises:
        LocalError: a field has the wrong type, or a value that it may not hold.
    """
    schema, _ = _newest(typing.cast(type, type(record)))
    return schema.fingerprint, _body(schema, record)


@cache
def _newest(kind: type) -> tuple[Schema, int]:
    """The schema in which records of a type are written, and how large they may be."""
    return newest(kind.__name__), largest_record_bytes(kind.__name__)


def _body(schema: Schema, record: Record) -> bytes:
    kind = typing.cast(type, type(record))
    try:
        return writer_of(kind)(record)
    except UNUSUAL:
        pass  # decided by the whole way
    try:
        return _written(schema, to_plain(kind)(record))
    except UnfitError as error:
        raise LocalError(str(error), got=error.reason, needed=error.needed) from None
    except (TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        raise LocalError(
            f"a field of the {schema.record} has the wrong type: {error}", needed="the types of its schema"
        ) from None


def _written(schema: Schema, fields: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.parsed, fields)
    return out.getvalue()


def _read(schema: Schema, body: bytes, *, canonical: bool) -> dict[str, Any]:
    """The fields of a body that has nothing after them and, where `canonical`, could not have been written otherwise."""
    source = io.BytesIO(body)
    fields = _parsed(schema, source, None)
    if source.tell() != len(body):
        raise RemoteError(
            "bytes are left over after the record", reason="malformed", got=len(body), needed=source.tell()
        )
    if canonical and _written(schema, fields) != body:
        raise RemoteError("the record is not encoded in the one way that it may be", reason="not-canonical")
    reader = newest(schema.record)
    # Resolving a schema against itself would cost most of the time that decoding takes.
    return fields if reader is schema else _parsed(schema, io.BytesIO(body), reader.parsed)


def _parsed(schema: Schema, source: io.BytesIO, reader: Any) -> dict[str, Any]:
    try:
        return typing.cast(dict[str, Any], fastavro.schemaless_reader(source, schema.parsed, reader))
    except (EOFError, ValueError, IndexError, OverflowError, TypeError, KeyError, StopIteration, MemoryError):
        size = source.getbuffer().nbytes
        raise RemoteError("the record's body cannot be decoded", reason="malformed", got=size) from None
