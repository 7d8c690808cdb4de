"""The signature of an exception: a salted hash of its frames in public packages; one's own code is one opaque mark.

A frame is public if its module belongs to the standard library or to a distribution on the owner's list of public names; of it module
and function count, no line, no file, no argument, no message. Everybody with the same fault in the same public code has the same
signature. Invariant: two stacks that differ only in frames, types and texts of one's own have the same one.
Boundary: reads the installed packages' metadata, once.
"""

import functools
import hashlib
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import TracebackType

FRAMES_MAX = 64
"""Innermost frames that count; the rest of a deep recursion does not."""
CAUSES_MAX = 4
SIGNATURE_BYTES = 16
OWN = "own"


@dataclass(frozen=True, slots=True)
class Signature:
    """What may be told of an exception.

    Attributes:
        item: `sig:` and the hash.
        release: `pypi:name@version` of the innermost public package; empty where there is none.
    """

    item: str
    release: str


def signature(error: BaseException, *, salt: bytes, public: Collection[str]) -> Signature:
    """The signature of an exception.

    Args:
        error: with its traceback.
        salt: the deployment's; the same stack has another signature elsewhere.
        public: normalised names of distributions whose code anybody can read.
    """
    digest = hashlib.sha256(len(salt).to_bytes(8, "big") + salt)
    release = ""
    for cause in _causes(error):
        digest.update(b"\x00" + _type_name(cause, public).encode())
        before = ""
        for module, function in _frames(cause.__traceback__):
            name = f"{module}:{function}" if _distribution(module, public) is not None else OWN
            if name != before:
                digest.update(b"\x01" + name.encode())
            before = name
            if cause is error and name != OWN:
                release = _release(module, public) or release
    return Signature("sig:" + digest.digest()[:SIGNATURE_BYTES].hex(), release)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _frames(traceback: TracebackType | None) -> list[tuple[str, str]]:
    """Module and function of the innermost frames, outermost first."""
    frames: list[tuple[str, str]] = []
    while traceback is not None:
        frame = traceback.tb_frame
        frames.append((str(frame.f_globals.get("__name__", "")), frame.f_code.co_qualname))
        if len(frames) > FRAMES_MAX:
            del frames[0]
        traceback = traceback.tb_next
    return frames


def _type_name(error: BaseException, public: Collection[str]) -> str:
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}" if _distribution(kind.__module__, public) is not None else OWN


def _distribution(module: str, public: Collection[str]) -> str | None:
    """The public distribution of a module; empty for the standard library; None for what is not public."""
    top = module.partition(".")[0]
    if top != "__main__" and top in sys.stdlib_module_names:
        return ""
    return next((name for name in _installed().get(top, ()) if name in public), None)


def _release(module: str, public: Collection[str]) -> str:
    name = _distribution(module, public)
    return f"pypi:{name}@{_version(name)}" if name and _version(name) else ""


@functools.cache
def _installed() -> dict[str, list[str]]:
    from importlib.metadata import packages_distributions

    return {top: sorted({normalise(name) for name in names}) for top, names in packages_distributions().items()}


@functools.cache
def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def normalise(name: str) -> str:
    """A distribution's name as PyPI compares it (PEP 503)."""
    return "-".join(part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part)
