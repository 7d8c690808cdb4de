"""What linters and Bandit found, as ids of public rules and how often: no path, no line, no message, no code.

Reads what the tools write anyway: SARIF 2.1.0 of any of them, and the JSON of ruff, pylint, Bandit and flake8-json. An id that is not on
the list of public rules (`public_rules.txt`: those that come with the tools) may name a company's own plugin; it is counted and not
told. Invariant: no text of the input reaches a result or an error, except ids that are on the list.
Boundary: reads one file of the package, once.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.producers.signals.hooks import Tell

OUTPUT_CHARS_MAX = 64 * 1024 * 1024
COUNT_MAX = 100
"""Findings of one rule that are told at once: more count as so many, on the client already."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What may be told of a tool's output.

    Attributes:
        counts: how often each public rule was found, by item (`rule:F401`), in order.
        unknown: findings whose rule is not public, or that name none.
    """

    counts: Mapping[str, int]
    unknown: int


def read(output: str, form: str) -> Findings:
    """The findings in a tool's output.

    Args:
        output: as the tool wrote it.
        form: sarif, ruff, pylint, bandit or flake8.

    Raises:
        LocalError: another form, or too long; the text does not quote it.
    """
    rules = FORMS.get(form)
    if rules is None:
        raise LocalError("not a form of findings", got=len(form), needed=tuple(FORMS))
    if len(output) > OUTPUT_CHARS_MAX:
        raise LocalError("a tool's output is too long", got=len(output), needed=f"≤ {OUTPUT_CHARS_MAX}")
    try:
        named = list(rules(json.loads(output)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise LocalError(f"this is no {form} output", got="another form", needed=form) from None
    counts: Counter[str] = Counter()
    unknown = 0
    public = public_rules()
    for name in named:
        if isinstance(name, str) and name in public:
            counts[f"rule:{name}"] += 1
        else:
            unknown += 1
    return Findings({item: min(counts[item], COUNT_MAX) for item in sorted(counts)}, unknown)


def tell_findings(tell: "Tell", findings: Findings, release: str = "") -> int:
    """Tell what was found, an event a rule; returns how many were told.

    Args:
        tell: takes the events: `Client.record`, or anything like it.
        findings: from `read`.
        release: the tool, as in `pypi:ruff@0.17`.
    """
    for item, count in findings.counts.items():
        tell("finding", [item], release=release, count=count)
    return len(findings.counts)


@cache
def public_rules() -> frozenset[str]:
    """The ids that may be told."""
    text = files("aicache.producers.signals").joinpath("public_rules.txt").read_text()
    lines = (line for line in text.splitlines() if line.startswith("  "))
    return frozenset(name for line in lines for name in line.split())


def _sarif(output: Any) -> Iterator[Any]:
    for run in output["runs"]:
        listed = ((run.get("tool") or {}).get("driver") or {}).get("rules") or []
        for result in run.get("results") or []:
            index = result.get("ruleIndex", -1)
            named = result.get("ruleId") or (result.get("rule") or {}).get("id")
            yield named or (listed[index].get("id") if 0 <= index < len(listed) else None)


def _ruff(output: Any) -> Iterator[Any]:
    yield from (found["code"] for found in output)


def _pylint(output: Any) -> Iterator[Any]:
    rows = output["messages"] if isinstance(output, dict) else output  # json2, json
    yield from (row.get("messageId") or row.get("message-id") for row in rows)


def _bandit(output: Any) -> Iterator[Any]:
    yield from (found["test_id"] for found in output["results"])


def _flake8(output: Any) -> Iterator[Any]:
    yield from (found["code"] for rows in output.values() for found in rows)


FORMS: Mapping[str, Callable[[Any], Iterator[Any]]] = {
    "sarif": _sarif,
    "ruff": _ruff,
    "pylint": _pylint,
    "bandit": _bandit,
    "flake8": _flake8,
}
