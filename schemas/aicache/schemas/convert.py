"""Between dataclasses and the dictionaries of Avro: one pair of functions a record, written once, when it is first needed.

A usage event takes longer to become a dataclass than to be decoded, unless the function that makes it spells its fields out; so
these are generated, as `dataclasses` generates `__init__`. They are also where values are held to what Avro cannot say: numbers
are finite, closed vocabularies closed (words.py). Pure.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

from aicache.schemas.words import INFINITE, WORDS

Convert: typing.TypeAlias = Callable[[Any], Any]


class UnfitError(ValueError):
    """A value that its field may not hold.

    Args:
        message: names record and field; never quotes the value, which may be a client's.
        reason: `not-finite` or `unknown-word`.
        needed: what the field may hold.
    """

    def __init__(self, message: str, reason: str, needed: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.needed = needed


@cache
def from_plain(kind: type) -> Convert:
    """The function that makes one of `kind` out of what Avro decoded.

    It raises `UnfitError` for a value that its field may not hold. The slots are set directly: the `__init__` of a frozen
    dataclass takes twice as long.
    """
    body = _Body(kind)
    body.add("o = new(kind)")
    for name, hint in body.hints.items():
        body.scope[f"set_{name}"] = getattr(kind, name).__set__
        body.add(f"v = d[{name!r}]")
        if hint is bytes:  # a default: fastavro gives it as it stands in the schema's JSON
            body.add("if v.__class__ is str: v = v.encode('iso-8859-1')")
        body.check(name, hint)
        body.add(f"set_{name}(o, {body.converted(hint, from_plain)})")
    body.add("return o")
    body.scope |= {"new": object.__new__, "kind": kind}
    return body.compiled("d")


@cache
def to_plain(kind: type) -> Convert:
    """The function that makes Avro's dictionary out of one of `kind`; raises `UnfitError` like its inverse."""
    body = _Body(kind)
    body.add("d = {}")
    for name, hint in body.hints.items():
        body.add(f"v = o.{name}")
        body.check(name, hint)
        body.add(f"d[{name!r}] = {body.converted(hint, to_plain)}")
    body.add("return d")
    return body.compiled("o")


class _Body:
    """The lines of one generated function; every name in them is a field of this package's own dataclasses."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        found = typing.get_type_hints(kind)
        self.hints = {field.name: found[field.name] for field in dataclasses.fields(kind)}
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {"finite": math.isfinite, "not_finite": _not_finite, "unknown": _unknown_word}

    def add(self, line: str) -> None:
        self.lines.append(line)

    def check(self, name: str, hint: Any) -> None:
        """Lines that refuse `v` where the field may not hold it."""
        place = (self.kind.__name__, name)
        fits = "x == x and x >= 0" if place in INFINITE else "finite(x)"
        if hint is float:
            self.add(f"if not ({fits.replace('x', 'v')}): not_finite(*{place!r})")
        elif hint == list[float]:
            self.add(f"if not all([{fits} for x in v]): not_finite(*{place!r})")
        elif place in WORDS:
            self.scope[f"words_{name}"] = WORDS[place]
            self.add(f"if v not in words_{name}: unknown(*{place!r})")

    def converted(self, hint: Any, make: Callable[[type], Convert]) -> str:
        """The expression for `v` in the other form."""
        if isinstance(hint, types.UnionType):
            [inner] = [part for part in typing.get_args(hint) if part is not type(None)]
            expression = self.converted(inner, make)
            return "v" if expression == "v" else f"None if v is None else {expression}"
        is_list = typing.get_origin(hint) is list
        item = typing.get_args(hint)[0] if is_list else hint
        if not dataclasses.is_dataclass(item):
            return "v"
        name = f"convert_{typing.cast(type, item).__name__}"
        self.scope[name] = make(typing.cast(type, item))
        return f"[{name}(x) for x in v]" if is_list else f"{name}(v)"

    def compiled(self, argument: str) -> Convert:
        text = "\n ".join([f"def convert({argument}):", *self.lines])
        exec(compile(text, f"<{self.kind.__name__}>", "exec"), self.scope)  # noqa: S102  nothing of it comes from outside
        return typing.cast(Convert, self.scope["convert"])


def _not_finite(record: str, name: str) -> None:
    needed = "a number ≥ 0, ∞ included" if (record, name) in INFINITE else "a finite number"
    raise UnfitError(f"{record}.{name} is not {needed}", "not-finite", needed)


def _unknown_word(record: str, name: str) -> None:
    needed = sorted(WORDS[record, name])
    raise UnfitError(f"{record}.{name} is none of: {', '.join(needed)}", "unknown-word", needed)
