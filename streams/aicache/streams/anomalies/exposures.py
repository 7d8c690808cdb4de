"""Who had what, and for whom it failed: people counted by candidate, outcome and stratum, once a period, for finding associations.

In one period a person is one person, whatever they send: a set of what they had (packages, rules, options, releases), and of the
operations (`op:…`) that they tried, each failed or not. When the partition's event time enters the next period, the cells of the one
before are published, those with fewer than `CELL_PEOPLE_MIN` people left out, and everybody is forgotten. Pure.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from aicache.schemas import topics
from aicache.schemas.records import ExposureCount, UsageBatch
from aicache.streams.anomalies.people import Changes
from aicache.streams.runtime.contract import Output

PERIOD_S = 86_400
PEOPLE_MAX = 20_000
"""People a partition and period; those beyond are not counted."""
HAD_MAX = 64
TRIED_MAX = 8
CELL_PEOPLE_MIN = 5
CELLS_MAX = 20_000
"""Cells that are published, those with most people first."""
OPERATION = "op:"

_PERSON = b"p"


@dataclass(slots=True)
class Person:
    """What one person had and tried in the period; whether it failed at least once."""

    stratum: str
    had: dict[str, None] = field(default_factory=dict)
    tried: dict[str, bool] = field(default_factory=dict)


@dataclass(slots=True)
class Exposures:
    """People of the current period, by name."""

    people: dict[str, Person] = field(default_factory=dict)

    def load(self, key: bytes, value: bytes) -> bool:
        """Take an entry of the changelog; whether it was one of these."""
        if key[:1] != _PERSON:
            return False
        stratum, had, tried = json.loads(value)
        self.people[key[1:].decode()] = Person(stratum, dict.fromkeys(had), tried)
        return True

    def learn(self, name: str, usage: UsageBatch, changes: Changes) -> None:
        """Learn what a batch tells of its person."""
        person = self.people.get(name)
        if person is None:
            if len(self.people) >= PEOPLE_MAX:
                return
            person = self.people[name] = Person(f"{usage.language}/{usage.os_family}")
        before = (len(person.had), dict(person.tried))
        for event in usage.events:
            tries = event.kind in ("success", "failure")
            if tries:
                for item in event.items:
                    if item.startswith(OPERATION) and (item in person.tried or len(person.tried) < TRIED_MAX):
                        person.tried[item] = person.tried.get(item, False) or event.kind == "failure"
            for item in (*(() if tries or event.kind == "duration" else event.items), *event.context, event.release):
                if item and len(person.had) < HAD_MAX:
                    person.had[item] = None
        if before != (len(person.had), person.tried):
            changes[_PERSON + name.encode()] = json.dumps([person.stratum, list(person.had), person.tried]).encode()

    def forget(self, name: str, changes: Changes) -> None:
        """Forget what a person had."""
        if self.people.pop(name, None) is not None:
            changes[_PERSON + name.encode()] = None

    def close(self, deployment: str, partition: int, period_start_s: int, changes: Changes) -> list[Output]:
        """What the period's people add up to; forgets them."""
        people: Counter[tuple[str, str, str]] = Counter()
        failing: Counter[tuple[str, str, str]] = Counter()
        for person in self.people.values():
            for outcome, failed in person.tried.items():
                cells = [(outcome, candidate, person.stratum) for candidate in ("", *person.had)]
                people.update(cells)
                if failed:
                    failing.update(cells)
        changes.update(dict.fromkeys(_PERSON + name.encode() for name in self.people))
        self.people.clear()
        many = [cell for cell, count in people.items() if count >= CELL_PEOPLE_MIN]
        chosen = sorted(many, key=lambda cell: (cell[1] != "", -people[cell], cell))[:CELLS_MAX]
        return [
            _output(deployment, partition, period_start_s, cell, people[cell], failing[cell]) for cell in sorted(chosen)
        ]


def _output(deployment: str, partition: int, start_s: int, cell: Iterable[str], people: int, failing: int) -> Output:
    outcome, candidate, stratum = cell
    record = ExposureCount(deployment, outcome, candidate, stratum, start_s, PERIOD_S, partition, people, failing)
    key = json.dumps(["exposure", outcome, candidate, stratum, start_s, partition]).encode()
    return Output(topics.SERIES.name, key, record)
