"""What is kept of one pseudonym: its recent items, and how much it has taught lately.

In `WINDOW_MS` a pseudonym teaches each item at most `ITEM_MAX` times as what came and as often as what came before, and at most `ITEMS_MAX`
items in all: the neighbours of an item change by at most 2 · `ITEM_MAX` of its examples an hour, whatever it sends. The bound is on
what comes before too, because sequences weigh much where few are known. New names it brings at most `NAMES_MAX`, and once half of the
vocabulary is given `NAMES_SCARCE`: in a pseudonym's week of 168 hours that does not fill it. The log's time decides, which nobody can set
far ahead (Kafka refuses it from an hour on) nor back.
State: bounded by those. Pure.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from aicache.streams.recommendations.vocabulary import Vocabulary

RECENT_MAX = 64
"""Items remembered a pseudonym."""
SESSION_S = 1_800
"""An item that comes later than this after the one before begins something new."""
WINDOW_MS = 3_600_000
ITEM_MAX = 4
ITEMS_MAX, CONTEXTS_MAX = 256, 512
NAMES_MAX, NAMES_SCARCE = 256, 16


def window_of(now_ms: int) -> int:
    """The number of the window of a time."""
    return now_ms // WINDOW_MS


@dataclass(slots=True)
class Person:
    """One pseudonym.

    Attributes:
        newest_s: time of its newest event.
        recent: its newest items, oldest first.
        window: number of the window in which it taught last.
        taught: how often it taught each item there.
        brought: how many names nobody had used before.
        leaned: how often each item was what came before.
    """

    newest_s: int = 0
    recent: list[str] = field(default_factory=list)
    window: int = -1
    taught: dict[str, int] = field(default_factory=dict)
    brought: int = 0
    leaned: dict[str, int] = field(default_factory=dict)

    def begin(self, time_s: int, now_ms: int) -> None:
        """An event comes: what is recent may be over, and so may the window."""
        if window_of(now_ms) != self.window:
            self.window, self.taught, self.brought, self.leaned = window_of(now_ms), {}, 0, {}
        time_s = min(time_s, now_ms // 1_000)  # a clock ahead of the log's would never see a session end
        if time_s - self.newest_s > SESSION_S:
            self.recent = []
        self.newest_s = max(self.newest_s, time_s)

    def context(self, items: Sequence[str]) -> list[str]:
        """Those of what came before that it may still teach with; they count as used for it."""
        found = []
        for item in dict.fromkeys(items):
            times = self.leaned.get(item, 0)
            if times < ITEM_MAX and (times or len(self.leaned) < CONTEXTS_MAX):
                self.leaned[item] = times + 1
                found.append(item)
        return found

    def remember(self, items: Sequence[str]) -> None:
        """These were used."""
        kept = [item for item in self.recent if item not in items]
        self.recent = [*kept, *items][-RECENT_MAX:]

    def named(self, names: Sequence[str], vocabulary: Vocabulary) -> list[str]:
        """Those names that are known, or that it may still bring: they count as brought."""
        limit = NAMES_MAX if len(vocabulary) < vocabulary.capacity // 2 else NAMES_SCARCE
        found = []
        for name in names:
            if name not in vocabulary:
                if self.brought >= limit:
                    continue
                self.brought += 1
            found.append(name)
        return found

    def admitted(self, items: Sequence[str]) -> list[str]:
        """Those of some items that it may still teach; they count as taught."""
        room = ITEMS_MAX - sum(self.taught.values())
        found = [item for item in dict.fromkeys(items) if self.taught.get(item, 0) < ITEM_MAX][: max(room, 0)]
        for item in found:
            self.taught[item] = self.taught.get(item, 0) + 1
        return found

    @staticmethod
    def erased(now_ms: int) -> "Person":
        """Nothing is remembered but that it teaches no more in this window: an erasure does not make room for a flood."""
        return Person(window=window_of(now_ms), taught={"": ITEMS_MAX})

    def pack(self, used: int) -> bytes:
        """As it stands in the changelog, with the number by which pseudonyms are put in order."""
        return json.dumps(
            [used, self.newest_s, self.recent, self.window, self.taught, self.brought, self.leaned]
        ).encode()

    @staticmethod
    def unpack(data: bytes) -> "tuple[int, Person]":
        """The inverse."""
        used, *fields = json.loads(data)
        return used, Person(*fields)
