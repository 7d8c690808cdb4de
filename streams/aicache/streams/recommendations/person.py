"""What is kept of one pseudonym: its recent items, and how much it has taught lately.

A pseudonym teaches each item at most `ITEM_MAX` times in `WINDOW_MS`, and at most `ITEMS_MAX` items in all, so that whoever sends
whatever moves the count of a pair by at most 2 · `ITEM_MAX` an hour. The log's time decides, which nobody can set far ahead (Kafka
refuses it from an hour on) nor back.
State: bounded by those two. Pure.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

RECENT_MAX = 64
"""Items remembered a pseudonym."""
SESSION_S = 1_800
"""An item that comes later than this after the one before begins something new."""
WINDOW_MS = 3_600_000
ITEM_MAX = 8
ITEMS_MAX = 512


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
    """

    newest_s: int = 0
    recent: list[str] = field(default_factory=list)
    window: int = -1
    taught: dict[str, int] = field(default_factory=dict)

    def begin(self, time_s: int) -> None:
        """An event comes: what is recent may be over."""
        if time_s - self.newest_s > SESSION_S:
            self.recent = []
        self.newest_s = max(self.newest_s, time_s)

    def remember(self, items: Sequence[str]) -> None:
        """These were used."""
        kept = [item for item in self.recent if item not in items]
        self.recent = [*kept, *items][-RECENT_MAX:]

    def admitted(self, items: Sequence[str], now_ms: int) -> list[str]:
        """Those of some items that it may still teach; they count as taught."""
        if window_of(now_ms) != self.window:
            self.window = window_of(now_ms)
            self.taught = {}
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
        return json.dumps([used, self.newest_s, self.recent, self.window, self.taught]).encode()

    @staticmethod
    def unpack(data: bytes) -> "tuple[int, Person]":
        """The inverse."""
        used, *fields = json.loads(data)
        return used, Person(*fields)
