"""A record of every kind, made from its type hints: the same every time, no field at a default."""

import dataclasses
import types
import typing
from typing import Any

from aicache.schemas.catalog import RECORD_TYPES
from aicache.schemas.records import Record
from aicache.schemas.words import WORDS


def sample(kind: type[Any], salt: int = 1) -> Any:
    """A record whose fields all hold something, differing with `salt`."""
    hints = typing.get_type_hints(kind)
    values = {
        field.name: _value(hints[field.name], salt + index) for index, field in enumerate(dataclasses.fields(kind))
    }
    for name in values:
        words = sorted(WORDS.get((kind.__name__, name), ()))
        if words:
            values[name] = words[salt % len(words)]
    return kind(**values)


def samples(salt: int = 1) -> dict[str, Record]:
    """One of each record that may stand alone in a topic."""
    return {name: sample(kind, salt) for name, kind in RECORD_TYPES.items()}


def _value(hint: Any, salt: int) -> Any:
    if dataclasses.is_dataclass(hint):
        return sample(typing.cast(type, hint), salt)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return [_value(arguments[0], salt + step) for step in range(2)]
    if origin is dict:
        return {f"key-{salt}": _value(arguments[1], salt)}
    if isinstance(hint, types.UnionType):
        return _value(next(part for part in arguments if part is not type(None)), salt)
    plain = {
        bool: salt % 2 == 1,
        int: salt * 1_000 - 7,
        float: salt / 8,
        str: f"täxt-{salt}",
        bytes: bytes([salt % 256]) * 32,
    }
    return plain[hint]
