"""Known vulnerabilities of what a lock file pins, matched on the client against OSV records; only their ids and packages are told.

OSV schema 1.6 (https://ossf.github.io/osv-schema/): a version is affected if it is listed, or lies in a range of the ecosystem. The
records come with whatever tool the owner keeps them fresh; nothing is asked for over a network, so nobody learns what is installed.
Boundary: packaging, of the extra `signals`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aicache.privacy.errors import LocalError
from aicache.producers.signals.stacks import normalise

PINS_MAX = 20_000
_PIN = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;\\#]+)")
_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Finding:
    """A pinned version with a known vulnerability.

    Attributes:
        item: the advisory, as in `rule:ghsa-2g68-c3qc-8985`.
        release: the package, as in `pypi:requests@2.30.0`.
    """

    item: str
    release: str


def pins(lock: str) -> dict[str, str]:
    """Normalised name and version of every `name==version` in a requirements file.

    Raises:
        LocalError: there are more than `PINS_MAX`.
    """
    found = {normalise(match[1]): match[2] for match in map(_PIN.match, lock.splitlines()) if match}
    if len(found) > PINS_MAX:
        raise LocalError("a lock file pins too much", got=len(found), needed=f"≤ {PINS_MAX}")
    return found


def match(pinned: Mapping[str, str], advisories: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """The advisories that affect what is pinned.

    Args:
        pinned: versions by normalised name.
        advisories: OSV records, as parsed JSON; withdrawn ones and ids of an unusual form are left out.

    Returns:
        Each pair once, in order.
    """
    found: set[tuple[str, str]] = set()
    for advisory in advisories:
        name = str(advisory.get("id", "")).lower()
        if advisory.get("withdrawn") or not _ID.fullmatch(name):
            continue
        for affected in advisory.get("affected") or ():
            package = affected.get("package") or {}
            pinned_name = normalise(str(package.get("name", "")))
            version = pinned.get(pinned_name)
            if package.get("ecosystem") == "PyPI" and version is not None and _affects(affected, version):
                found.add((f"rule:{name}", f"pypi:{pinned_name}@{version}"))
    return [Finding(*pair) for pair in sorted(found)]


def _affects(affected: Mapping[str, Any], version: str) -> bool:
    if version in (affected.get("versions") or ()):
        return True
    ranges = [one for one in affected.get("ranges") or () if one.get("type") == "ECOSYSTEM"]
    return any(_inside(list(_events(one)), version) for one in ranges)


def _events(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for event in one.get("events") or ():
        yield from ((str(kind), str(version)) for kind, version in event.items())


def _inside(events: list[tuple[str, str]], version: str) -> bool:
    """Whether the events of a range, in order of their versions, leave the version affected; a version that does not parse is not."""
    from packaging.version import InvalidVersion, Version

    try:
        own = Version(version)
        parsed = sorted((Version(at if at != "0" else "0.dev0"), kind) for kind, at in events)
    except InvalidVersion:
        return False
    inside = False
    for at, kind in parsed:
        if kind == "introduced" and own >= at:
            inside = True
        elif (kind == "fixed" and own >= at) or (kind == "last_affected" and own > at):
            inside = False
    return inside
