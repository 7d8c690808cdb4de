"""Tells a stuck consumer from an idle one: its place stands still while records wait. Pure; time is passed in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

STUCK_MS = 60_000
"""A place that stands still for so long while records wait is stuck: the process ends and a supervisor starts it again."""
TURNS_MAX = 10
"""A worker that has much to catch up with takes one place after the other: while another one moves, a place may wait so much longer."""
Place = tuple[str, int]
"""Topic (without prefix) and partition."""


@dataclass(slots=True)
class Watchdog:
    """Remembers since when each place has stood still.

    Examples:
        >>> watchdog = Watchdog()
        >>> watchdog.look({("usage", 0): 5}, {("usage", 0): 9}, now_ms=0)
        >>> watchdog.look({("usage", 0): 5}, {("usage", 0): 9}, now_ms=60_000)
        'usage partition 0 stands still at 5 while its end is at 9'
    """

    stuck_ms: int = STUCK_MS
    _since: dict[Place, tuple[int, int]] = field(default_factory=dict)
    _moved_ms: int = 0

    def look(self, positions: Mapping[Place, int], ends: Mapping[Place, int], now_ms: int) -> str | None:
        """What is stuck, if anything is.

        Args:
            positions: the next offset to read of what is held now; what is not held any more is forgotten.
            ends: where the log ends; a place without an end is left alone.
            now_ms: of a clock that never goes back.
        """
        self._since = {place: seen for place, seen in self._since.items() if place in positions}
        still: list[tuple[Place, int]] = []
        for place, position in positions.items():
            before, since_ms = self._since.get(place, (-1, now_ms))
            if position != before:
                self._moved_ms = now_ms
            if position != before or position >= ends.get(place, 0):
                self._since[place] = (position, now_ms)
            elif now_ms - since_ms >= self.stuck_ms:
                still.append((place, since_ms))
        for (topic, partition), since_ms in still:
            if (
                now_ms - max(self._moved_ms, since_ms) >= self.stuck_ms
                or now_ms - since_ms >= TURNS_MAX * self.stuck_ms
            ):
                position, end = positions[topic, partition], ends[topic, partition]
                return f"{topic} partition {partition} stands still at {position} while its end is at {end}"
        return None
