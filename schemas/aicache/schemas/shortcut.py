"""From bytes to dataclasses and back in one function a record, for the encoding that ours is: most of a reader's time is decoding.

Avro leaves open how long a number is and in which blocks an array stands; writers choose the shortest number and one block. These
functions know that one encoding. They are generated from the dataclass, whose fields are those of the newest schema in the same order
(a test holds the two equal), and fields that an older schema lacks get their defaults. Whatever else they meet, they raise one of
`UNUSUAL`, and fastavro judges it (codec.py). Invariant: what is read here, fastavro reads alike, and writes back to the same bytes. Pure.
"""

import dataclasses
import math
import struct
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from aicache.schemas.words import INFINITE, WORDS

UNUSUAL = (ValueError, IndexError, struct.error)
"""Not the encoding that is known here, or a value that its field may not hold: decided elsewhere."""
LONG_BYTES_MAX = 9
"""Longer numbers, beyond ±2^62, are left to fastavro."""
_DOUBLE = struct.Struct("<d")
_SIZES = tuple(byte >> 1 if byte < 128 and not byte & 1 else -1 for byte in range(256))
"""By the first byte, how long a text or a list is; -1: more bytes follow, or it is negative."""
_NUMBERS = tuple((byte >> 1) ^ -(byte & 1) if byte < 128 else None for byte in range(256))
"""By the first byte, a number; None: more bytes follow."""
_BYTES = tuple(bytes([byte]) for byte in range(128))


def reader_of(kind: type, source: Mapping[str, Any]) -> Callable[[bytes], Any]:
    """The function that makes one of `kind` out of an Avro body; it raises one of `UNUSUAL` for what it does not know.

    Args:
        kind: of the record.
        source: the writer's schema, of any version; versions differ in fields with a default alone.
    """
    code = _Reading(dict(_records(source)))
    code.value(kind, "o", 1)
    code.add(1, "if p != len(d): raise ValueError")  # lengths beyond the end end up here too: p never goes back
    code.add(1, "return o")
    return code.compiled("def read(d, p=0):", "read")


@cache
def writer_of(kind: type) -> Callable[[Any], bytes]:
    """The function that makes an Avro body out of one of `kind`; it raises one of `UNUSUAL` for what it does not know."""
    code = _Writing()
    code.add(1, "parts = []")
    code.add(1, "add = parts.append")
    code.value(kind, "o", 1)
    code.add(1, "return b''.join(parts)")
    return code.compiled("def write(o):", "write")


class _Code:
    """The lines of one generated function; every name in them is a field of this package's own dataclasses."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names = 0
        self.scope: dict[str, Any] = {
            "sizes": _SIZES,
            "numbers": _NUMBERS,
            "small": _BYTES,
            "read_long": _read_long,
            "read_size": _read_size,
            "write_long": _write_long,
            "unpack_from": struct.unpack_from,
            "pack": struct.pack,
            "double_from": _DOUBLE.unpack_from,
            "double": _DOUBLE.pack,
            "finite": math.isfinite,
            "new": object.__new__,
        }

    def add(self, depth: int, *lines: str) -> None:
        self.lines.extend(" " * depth + line for line in lines)

    def fresh(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def global_of(self, name: str, value: Any) -> str:
        self.scope[name] = value
        return name

    def check(self, kind: type, field: str, hint: Any, value: str, depth: int) -> None:
        """Lines that raise where a field may not hold a value: see convert.py."""
        place = (kind.__name__, field)
        fits = "x == x and x >= 0" if place in INFINITE else "finite(x)"
        if hint is float:
            self.add(depth, f"if not ({fits.replace('x', value)}): raise ValueError")
        elif hint == list[float]:
            self.add(depth, f"if not all([{fits} for x in {value}]): raise ValueError")
        elif place in WORDS:
            words = self.global_of(f"words_{kind.__name__}_{field}", WORDS[place])
            self.add(depth, f"if {value} not in {words}: raise ValueError")

    def compiled(self, head: str, name: str) -> Callable[[Any], Any]:
        text = "\n".join([head, *self.lines])
        exec(compile(text, f"<{name}>", "exec"), self.scope)  # noqa: S102  nothing of it comes from outside
        return typing.cast(Callable[[Any], Any], self.scope[name])


class _Reading(_Code):
    """Lines that read from the bytes `d` at the place `p`.

    Args:
        written: by name, the fields of the writer's records, in their order.
    """

    def __init__(self, written: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.written = written

    def value(self, hint: Any, into: str, depth: int) -> None:
        """Lines that read one value into a variable."""
        if hint is int:
            self.add(depth, f"{into} = numbers[d[p]]", "p += 1")
            self.add(depth, f"if {into} is None: {into}, p = read_long(d, p - 1)")
        elif hint is bool:
            self.add(depth, f"{into} = d[p]", "p += 1", f"if {into} > 1: raise ValueError", f"{into} = {into} == 1")
        elif hint is float:
            self.add(depth, f"[{into}] = double_from(d, p)", "p += 8")
        elif hint in (str, bytes):
            self.size(depth)
            self.add(depth, f"{into} = d[p:p + n]{'.decode()' if hint is str else ''}", "p += n")
        elif isinstance(hint, types.UnionType):
            self.add(depth, "n = d[p]", "p += 1", f"if n == 0: {into} = None", "elif n == 2:")
            self.value(_inner(hint), into, depth + 1)
            self.add(depth, "else: raise ValueError")
        elif typing.get_origin(hint) is list:
            self.items(typing.get_args(hint)[0], into, depth)
        else:
            self.record(hint, into, depth)

    def size(self, depth: int) -> None:
        self.add(depth, "n = sizes[d[p]]", "p += 1", "if n < 0: n, p = read_size(d, p - 1)")

    def items(self, hint: Any, into: str, depth: int) -> None:
        self.size(depth)
        if hint is float:
            self.add(depth, f"{into} = list(unpack_from(f'<{{n}}d', d, p))", "if n:")
            self.add(depth + 1, "p += 8 * n")
        else:
            item = self.fresh()
            self.add(depth, f"{into} = []", "if n:", " for _ in range(n):")
            self.value(hint, item, depth + 2)
            self.add(depth + 2, f"{into}.append({item})")
        self.add(depth + 1, "if d[p]: raise ValueError", "p += 1")

    def record(self, kind: type, into: str, depth: int) -> None:
        """The slots are set on an object of a twin class, which is then given its own: a frozen one sets each at ten times the cost."""
        own = self.global_of(f"kind_{kind.__name__}", kind)
        slots = {"__slots__": tuple(field.name for field in dataclasses.fields(kind))}
        twin = self.global_of(f"twin_{kind.__name__}", type(kind.__name__, (), slots))
        hints = dict(_fields(kind))
        read = {field: self.fresh() for field in self.written[kind.__name__]}
        for field, value in read.items():
            self.value(hints[field], value, depth)
            self.check(kind, field, hints[field], value, depth)
        read |= {field.name: self.default(kind, field) for field in dataclasses.fields(kind) if field.name not in read}
        self.add(depth, f"{into} = new({twin})")
        self.add(depth, *(f"{into}.{field} = {value}" for field, value in read.items()))
        self.add(depth, f"{into}.__class__ = {own}")

    def default(self, kind: type, field: dataclasses.Field[Any]) -> str:
        """The expression for a field that is not written."""
        name = f"default_{kind.__name__}_{field.name}"
        if field.default is not dataclasses.MISSING:
            return self.global_of(name, field.default)
        return self.global_of(name, field.default_factory) + "()"


class _Writing(_Code):
    """Lines that add the bytes of a value to `parts`."""

    def value(self, hint: Any, value: str, depth: int) -> None:
        """Lines that write what is in a variable."""
        if isinstance(hint, types.UnionType):
            self.add(depth, f"if {value} is None: add(small[0])", "else:", " add(small[2])")
            self.value(_inner(hint), value, depth + 1)
            return
        is_list = typing.get_origin(hint) is list
        wanted = "list" if is_list else hint.__name__
        if dataclasses.is_dataclass(hint):
            wanted = self.global_of(f"kind_{wanted}", hint)
        self.add(depth, f"if {value}.__class__ is not {wanted}: raise ValueError")
        if hint is int:
            self.add(depth, f"n = ({value} << 1) ^ ({value} >> 63)", "add(small[n] if n < 128 else write_long(n))")
        elif hint is bool:
            self.add(depth, f"add(small[{value}])")
        elif hint is float:
            self.add(depth, f"add(double({value}))")
        elif hint in (str, bytes):
            encoded = f"{value}.encode()" if hint is str else value
            self.add(
                depth, f"b = {encoded}", "n = len(b) << 1", "add(small[n] if n < 128 else write_long(n))", "add(b)"
            )
        elif is_list:
            self.items(typing.get_args(hint)[0], value, depth)
        else:
            for field, inner in _fields(hint):
                part = self.fresh()
                self.add(depth, f"{part} = {value}.{field}")
                self.check(hint, field, inner, part, depth)
                self.value(inner, part, depth)

    def items(self, hint: Any, value: str, depth: int) -> None:
        item = self.fresh()
        self.add(depth, f"if {value}:", f" n = len({value}) << 1", " add(small[n] if n < 128 else write_long(n))")
        if hint is float:
            self.add(depth + 1, f"for {item} in {value}:", f" if {item}.__class__ is not float: raise ValueError")
            self.add(depth + 1, f"add(pack(f'<{{n >> 1}}d', *{value}))")
        else:
            self.add(depth + 1, f"for {item} in {value}:")
            self.value(hint, item, depth + 2)
        self.add(depth, "add(small[0])")


def _records(source: Any) -> Iterator[tuple[str, list[str]]]:
    """The name of each record within a schema, with those of its fields."""
    if isinstance(source, list):
        for branch in source:
            yield from _records(branch)
    elif isinstance(source, Mapping):
        if source["type"] == "record":
            yield source["name"].rpartition(".")[2], [field["name"] for field in source["fields"]]
            for field in source["fields"]:
                yield from _records(field["type"])
        elif source["type"] == "array":
            yield from _records(source["items"])


def _fields(kind: type) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(kind)
    return [(field.name, hints[field.name]) for field in dataclasses.fields(kind)]


def _inner(hint: Any) -> Any:
    [inner] = [part for part in typing.get_args(hint) if part is not type(None)]
    return inner


def _read_long(data: bytes, at: int) -> tuple[int, int]:
    """A number of more than one byte, in as many as it needs, and where it ends."""
    value, bits = data[at] & 127, 7
    for byte in data[at + 1 : at + LONG_BYTES_MAX]:
        if byte < 128:
            if not byte:
                break  # a digit of zero at the end: a shorter encoding exists
            value |= byte << bits
            return (value >> 1) ^ -(value & 1), at + 1 + bits // 7
        value |= (byte & 127) << bits
        bits += 7
    raise ValueError


def _read_size(data: bytes, at: int) -> tuple[int, int]:
    if data[at] & 1:
        raise ValueError  # negative
    return _read_long(data, at)


def _write_long(value: int) -> bytes:
    """A number that is already without its sign (zigzag)."""
    if value >> 64:
        raise ValueError
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
