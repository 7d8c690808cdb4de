"""What each person has told, as far as bounds need to know: how much to a series and window, and who has had a failure.

A person is a pseudonym. In one window a person adds at most `PERSON_COUNT_MAX` events to a series, and durations that weigh
`PERSON_DURATIONS_MAX` to a series and release, in however many batches, and tells of at most `PERSON_SERIES_MAX` series and releases. How
many different people have told failures, findings or durations of a series and release is counted up to a few, of a signature up to
`PEOPLE_TOLD`, and remembered for the `SEEN_MAX` series and releases that were told last.
What holds for a person holds for whoever has only one pseudonym; usage is not tied to enrolment. Pure.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

NAME_BYTES = 16
PERSON_COUNT_MAX = 100
PERSON_DURATIONS_MAX = 5
PERSON_SERIES_MAX = 500
HEAVIEST = 3
"""People of a window whose failures are told one by one, so that those of the first two can be cut to those of the third."""
PEOPLE_MAX = 200_000
"""People and open windows a partition; those beyond are refused until windows close."""
PEOPLE_TOLD = 64
PEOPLE_FEW = 8
SEEN_MAX = 50_000
SEEN_STEP_S = 3_600
SIGNATURE = "sig:"
DURATIONS = " ~"

_TOLD, _SEEN = b"u", b"n"
Changes = dict[bytes, bytes | None]


@dataclass(slots=True)
class Seen:
    """Who has told a series with a release: the hour of the newest of them, and their names."""

    at_s: int = 0
    names: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class People:
    """What one partition remembers of people.

    Attributes:
        told: by window and person, how much was added to each series.
        seen: by series and release.
    """

    told: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    seen: dict[tuple[str, str], Seen] = field(default_factory=dict)

    def load(self, key: bytes, value: bytes) -> bool:
        """Take an entry of the changelog; whether it was one of these."""
        if key[:1] == _TOLD:
            start_s, name = json.loads(key[1:])
            self.told.setdefault(start_s, {})[name] = json.loads(value)
        elif key[:1] == _SEEN:
            series, release = json.loads(key[1:])
            at_s, names = json.loads(value)
            self.seen[series, release] = Seen(at_s, dict.fromkeys(names))
        else:
            return False
        return True

    def room(self, name: str, start_s: int, what: str) -> float:
        """How much a person may still add to a series, or to the `durations_of` a series and release."""
        most = PERSON_DURATIONS_MAX if DURATIONS in what else PERSON_COUNT_MAX
        return max(0.0, most - self.told.get(start_s, {}).get(name, {}).get(what, 0.0))

    def fits(self, name: str, wanted: set[tuple[int, str]], oldest_s: int) -> bool:
        """Whether a person may tell of these windows and series, once windows before `oldest_s` are closed."""
        new = sum(len(of_window) for start_s, of_window in self.told.items() if start_s >= oldest_s)
        for start_s in {start_s for start_s, _ in wanted}:
            mine = self.told.get(start_s, {}).get(name)
            new += mine is None
            series = {series for at_s, series in wanted if at_s == start_s}
            if len(series | (mine or {}).keys()) > PERSON_SERIES_MAX:
                return False
        return new <= PEOPLE_MAX

    def add(self, name: str, start_s: int, what: str, number: float) -> float:
        """A person has added this much; how much that is in the window so far."""
        of_window = self.told.setdefault(start_s, {})
        mine = of_window.get(name)
        if mine is None:
            mine = of_window[name] = {}
        mine[what] = mine.get(what, 0.0) + number
        return mine[what]

    def told_entry(self, name: str, start_s: int) -> tuple[bytes, bytes]:
        """The changelog's entry of a person and window."""
        return _told_key(name, start_s), json.dumps(self.told[start_s][name]).encode()

    def drop(self, before_s: int, changes: Changes) -> None:
        """Forget what was told to windows that start before a time."""
        for start_s in [start_s for start_s in self.told if start_s < before_s]:
            gone = self.told.pop(start_s)
            changes.update(dict.fromkeys(_told_key(name, start_s) for name in gone))

    def see(self, name: str, series: str, release: str, time_s: int, changes: Changes) -> None:
        """A person has told a failure, finding or duration of a series."""
        key = (series, release)
        most = PEOPLE_TOLD if series.startswith(SIGNATURE) else PEOPLE_FEW
        seen = self.seen.get(key)
        if seen is None:
            changes.update(self._make_room())
            seen = self.seen[key] = Seen()
        at_s = time_s // SEEN_STEP_S * SEEN_STEP_S
        is_new = name not in seen.names and len(seen.names) < most
        if is_new:
            seen.names[name] = None
        if is_new or at_s > seen.at_s:
            seen.at_s = max(at_s, seen.at_s)
            changes[_SEEN + json.dumps(key).encode()] = json.dumps([seen.at_s, list(seen.names)]).encode()

    def known(self, series: str, release: str) -> int:
        """How many different people have told failures, findings or durations of a series with a release, up to a few."""
        seen = self.seen.get((series, release))
        return len(seen.names) if seen else 0

    def forget(self, name: str, changes: Changes) -> None:
        """Forget which signatures a person has told. What it added to open windows stays until they close: it bounds the rest."""
        for key, seen in self.seen.items():
            if name in seen.names:
                del seen.names[name]
                changes[_SEEN + json.dumps(key).encode()] = json.dumps([seen.at_s, list(seen.names)]).encode()

    def _make_room(self) -> Iterator[tuple[bytes, None]]:
        """Forget the tenth that was told longest ago, once there are too many."""
        if len(self.seen) >= SEEN_MAX:
            by_age = sorted(self.seen, key=lambda key: (self.seen[key].at_s, key))
            for key in by_age[: max(1, SEEN_MAX // 10)]:
                del self.seen[key]
                yield _SEEN + json.dumps(key).encode(), None


def _told_key(name: str, start_s: int) -> bytes:
    return _TOLD + json.dumps([start_s, name]).encode()


def durations_of(series: str, release: str) -> str:
    """Under which word a person's durations are added up: names have no spaces."""
    return f"{series}{DURATIONS}{release}"


def failures_of(series: str, release: str) -> str:
    """Under which word a person's failures are added up."""
    return f"{series} {release}"
