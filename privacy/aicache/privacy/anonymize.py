"""What may leave in a usage event, and how coarse: pseudonyms, generalisation, suppression.

An allow-list, never a block-list: a name leaves only if it has the form of a public name in a known namespace, everything else is
refused before it is put in a record. There is no field for free text. Invariant: every function here is total on its documented
domain and raises `LocalError`, whose text never quotes what was refused.
Pure: no clock, no entropy, no I/O; times and keys come from the caller.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping

from aicache.privacy.errors import LocalError

PSEUDONYM_BYTES = 16
PSEUDONYM_KEY_BYTES = 32
NAME_CHARS_MAX = 128
VERSION_PARTS_MAX = 3
TIME_STEP_S_MAX = 31 * 86_400

NAMESPACES: Mapping[str, re.Pattern[str]] = {
    "pypi": re.compile(r"[a-z0-9]+(?:[-._][a-z0-9]+)*"),
    "npm": re.compile(r"(?:@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*"),
    "crate": re.compile(r"[a-z][a-z0-9_-]*"),
    "maven": re.compile(r"[a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)*/[a-z0-9][a-z0-9._-]*"),
    "apt": re.compile(r"[a-z0-9][a-z0-9+.-]+"),
    "tag": re.compile(r"\.?[a-z0-9][a-z0-9+#.-]*"),
    "rule": re.compile(r"[A-Z]{1,10}[0-9]{1,6}|[a-z][a-z0-9]*(?:-[a-z0-9]+)*"),
    "op": re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*"),
    "sig": re.compile(r"[0-9a-f]{16,64}"),
}
"""The form of a public name, by namespace: packages, question tags, linter rules, operations, digests of log templates."""
_CHARS_MAX = {"tag": 40, "rule": 48, "op": 24, "sig": 64, "crate": 64, "pypi": 80, "apt": 64}

_PRIVATE = re.compile(
    r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+"  # an address
    r"|\.(?:local|localdomain|lan|corp|internal|intranet|intra|home|private)(?:\.|$)"  # a host in a private network
    r"|(?=[a-z]*[0-9])[0-9a-f]{16,}"  # a key or digest in hexadecimal
    r"|(?=[A-Za-z]*[0-9])[A-Za-z0-9]{20,}"  # a token
)
"""Looks like a secret although its form is that of a public name: a second line of defence where there is no list. It refuses
0.1% of the names on PyPI and 0.01% of npm's (generated clients with dates, mostly)."""

_VERSION = re.compile(r"v?(?:[0-9]{1,5}!)?([0-9]{1,5}(?:\.[0-9]{1,5})*)(?:[-+._]?[0-9A-Za-z]+)*")
_WORD = re.compile(r"[a-z][a-z0-9+#-]{0,31}")


# ---------------------------------------------------------------- pseudonyms


def period_of(time_ms: int, period_ms: int) -> int:
    """The number of the pseudonym period that a time falls into."""
    if period_ms <= 0 or time_ms < 0:
        raise LocalError("a period needs a time ≥ 0 and a length above 0", got=(time_ms, period_ms), needed=(0, 1))
    return time_ms // period_ms


def pseudonym(key: bytes, purpose: str, period: int) -> bytes:
    """The name under which a client's usage events travel for one purpose and one period.

    HMAC-SHA256, cut to 16 bytes: without the key nobody can tell whether two pseudonyms of different periods or purposes belong
    to one client, and nobody can find the client of one by trying names. The key never leaves the client.

    Args:
        key: 32 secret bytes of the client, used for nothing else.
        purpose: what the events are for, for example `usage`.
        period: from `period_of`.

    Raises:
        LocalError: the key is not 32 bytes, the purpose is empty, or the period is negative.
    """
    if len(key) != PSEUDONYM_KEY_BYTES:
        raise LocalError("a pseudonym key has 32 bytes", got=len(key), needed=PSEUDONYM_KEY_BYTES)
    if not purpose or not 0 <= period < 1 << 63:
        raise LocalError("a pseudonym needs a purpose and a period ≥ 0", got=(bool(purpose), period), needed=(True, 0))
    body = purpose.encode()
    message = b"aicache/pseudonym/1" + len(body).to_bytes(4, "big") + body + period.to_bytes(8, "big")
    return hmac.digest(key, message, hashlib.sha256)[:PSEUDONYM_BYTES]


# ---------------------------------------------------------------- generalisation


def generalise_time(time_s: int, step_s: int) -> int:
    """Round a time down to a multiple of the client's time step (both in seconds)."""
    if time_s < 0 or not 0 < step_s <= TIME_STEP_S_MAX:
        raise LocalError(
            "times are ≥ 0 and steps from 1 s to 31 days", got=(time_s, step_s), needed=(0, TIME_STEP_S_MAX)
        )
    return time_s - time_s % step_s


def generalise_version(version: str, parts: int = 2) -> str:
    """Keep the first `parts` numbers of a version: `2.4.1rc3+local.7` becomes `2.4`.

    Epoch, pre-release, build and local labels go: they can name a machine or a person.

    Raises:
        LocalError: this is no version of at most 64 characters, or `parts` is not 1 to 3.
    """
    if not 1 <= parts <= VERSION_PARTS_MAX:
        raise LocalError("versions are cut to 1 to 3 parts", got=parts, needed=VERSION_PARTS_MAX)
    match = _VERSION.fullmatch(version) if len(version) <= 64 else None
    if match is None:
        raise LocalError("this is not a version", got=len(version), needed="digits and dots")
    return ".".join(str(int(part)) for part in match[1].split(".")[:parts])


def generalise_release(release: str, parts: int = 2) -> str:
    """A release `namespace:name@version` with a checked name and a generalised version; empty stays empty.

    Raises:
        LocalError: the name or the version is refused.
    """
    if not release:
        return ""
    name, at, version = release.rpartition("@")
    if not at:
        raise LocalError("a release is name@version", got=len(release), needed="namespace:name@version")
    return f"{check_item(name)}@{generalise_version(version, parts)}"


# ---------------------------------------------------------------- allow-list


def check_item(name: str, allowed: frozenset[str] | None = None) -> str:
    """Let a namespaced public name pass, refuse everything else.

    Args:
        name: for example `pypi:numpy`, `tag:python`, `rule:F401`, `op:build`, `sig:` and hexadecimal digits.
        allowed: the client's list of public names; without one the form decides, and what looks
            like a host, an address or a key is refused.

    Returns:
        The name, unchanged.

    Raises:
        LocalError: unknown namespace, wrong form, too long, like a host or a key, or not on the list; the text does not
            quote the name.
    """
    namespace, colon, local = name.partition(":")
    pattern = NAMESPACES.get(namespace) if colon else None
    if pattern is None:
        raise LocalError("this item has no known namespace", got=len(name), needed=tuple(NAMESPACES))
    limit = _CHARS_MAX.get(namespace, NAME_CHARS_MAX)
    if len(local) > limit or not local.isascii() or pattern.fullmatch(local) is None:
        raise LocalError(f"this is not a public {namespace} name", got=len(local), needed=(pattern.pattern, limit))
    if allowed is not None:
        if name not in allowed:
            raise LocalError("this item is not on the list of public names", got=len(name), needed=len(allowed))
    elif namespace != "sig" and _PRIVATE.search(local) is not None:
        raise LocalError("this item looks like a host, an address or a key", got=len(local), needed="a public name")
    return name


def check_word(word: str, allowed: frozenset[str]) -> str:
    """Let one word of a closed vocabulary pass (language, framework, operating system family, kind of task).

    Raises:
        LocalError: the word is not in the vocabulary; the text does not quote it.
    """
    if word not in allowed:
        raise LocalError("this word is not in the vocabulary", got=len(word), needed=tuple(sorted(allowed)))
    if word and _WORD.fullmatch(word) is None:
        raise LocalError("words of a vocabulary are short lower-case words", got=len(word), needed=_WORD.pattern)
    return word


# ---------------------------------------------------------------- suppression


def suppress_rare(
    items: Iterable[str], counts: Mapping[str, float], threshold: float, keep: frozenset[str] = frozenset()
) -> list[str]:
    """Drop the items that too few people use.

    Args:
        items: names, in order.
        counts: private counts of people by name: noisy ones, from an opened sum; what is missing counts as zero.
        threshold: an item stays when its count is at least this.
        keep: public names that stay anyway.

    Returns:
        The items that stay, in order.
    """
    if not threshold > 0:
        raise LocalError("the threshold must be above 0", got=threshold, needed=0)
    return [item for item in items if item in keep or counts.get(item, 0.0) >= threshold]
