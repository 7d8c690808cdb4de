"""What is kept of one pseudonym: its recent items, and how much it has taught lately.

In `WINDOW_MS` a pseudonym teaches each item at most `ITEM_MAX` times as what came and as often as what came before, and at most `ITEMS_MAX`
items in all: the neighbours of an item change by at most 2 · `ITEM_MAX` of its examples an hour, whatever it sends. The bound is on
what comes before too, because sequences weigh much where few are known. New names it brings at most `NAMES_MAX`, and once half of the
vocabulary is given `NAMES_SCARCE`: in a pseudonym's week of 168 hours that does not fill it. The log's time decides, which nobody can set
far ahead (Kafka refuses it from an hour on) nor back.
State: bounded by those; kept in bytes, some ten an item, as most pseudonyms are silent most of the time. Pure.
"""

import struct
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
_HEAD = struct.Struct("<QqqHHHHH")
"""As which record it came, `newest_s`, `window`, `brought`, how much it has taught, and how many names are recent, taught, leaned on."""


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
        spent: how much it has taught in all, of `ITEMS_MAX`.
    """

    newest_s: int = 0
    recent: list[str] = field(default_factory=list)
    window: int = -1
    taught: dict[str, int] = field(default_factory=dict)
    brought: int = 0
    leaned: dict[str, int] = field(default_factory=dict)
    spent: int = 0

    def begin(self, time_s: int, now_ms: int) -> None:
        """An event comes: what is recent may be over, and so may the window."""
        if window_of(now_ms) != self.window:
            self.window, self.taught, self.brought, self.leaned, self.spent = window_of(now_ms), {}, 0, {}, 0
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
        new = dict.fromkeys(items)
        self.recent = [*[item for item in self.recent if item not in new], *new][-RECENT_MAX:]

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
        taught = self.taught
        found = [item for item in dict.fromkeys(items) if taught.get(item, 0) < ITEM_MAX][: ITEMS_MAX - self.spent]
        for item in found:
            taught[item] = taught.get(item, 0) + 1
        self.spent += len(found)
        return found

    @staticmethod
    def erased(now_ms: int) -> "Person":
        """Nothing is remembered but that it teaches no more in this window: an erasure does not make room for a flood."""
        return Person(window=window_of(now_ms), spent=ITEMS_MAX)

    def pack(self, used: int) -> bytes:
        """As it stands in the changelog, with the number by which pseudonyms are put in order: names hold no line break."""
        recent, taught, leaned = self.recent, self.taught, self.leaned
        numbers = self.newest_s, self.window, self.brought, self.spent, len(recent), len(taught), len(leaned)
        names = "\n".join((*recent, *taught, *leaned)).encode()
        return b"".join((_HEAD.pack(used, *numbers), bytes(taught.values()), bytes(leaned.values()), names))

    @staticmethod
    def unpack(data: bytes) -> "Person":
        """The inverse."""
        _, newest_s, window, brought, spent, recent, taught, leaned = _HEAD.unpack_from(data)
        counts = _HEAD.size + taught + leaned
        names = data[counts:].decode().split("\n")
        return Person(
            newest_s=newest_s,
            recent=names[:recent],
            window=window,
            taught=dict(zip(names[recent : recent + taught], data[_HEAD.size :], strict=False)),
            brought=brought,
            leaned=dict(zip(names[recent + taught :], data[_HEAD.size + taught : counts], strict=False)),
            spent=spent,
        )

    @staticmethod
    def used(data: bytes) -> int:
        """The number with which it was packed."""
        return int.from_bytes(data[:8], "little")
