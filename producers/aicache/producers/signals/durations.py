"""How long operations take: collected in sketches, told together; single durations do not leave.

Bounded: `KEYS_MAX` pairs of operation and release; a sketch is told once it holds `TELL_AT` durations, the rest by `flush`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aicache.privacy import sketches
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.producers.signals.hooks import Tell

KEYS_MAX = 256
TELL_AT = 50


class Durations:
    """Sketches of durations by operation and release.

    Args:
        tell: takes the events.
        clock: seconds that only rise.

    Examples:
        >>> told = []
        >>> durations = Durations(lambda kind, items, **more: told.append((kind, items, more["count"])))
        >>> with durations.time("op:build", "pypi:tool@1.2"):
        ...     pass
        >>> durations.flush()
        >>> told
        [('duration', ['op:build'], 1)]
    """

    def __init__(self, tell: "Tell", clock: Callable[[], float] = time.perf_counter) -> None:
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], list[float]] = {}

    @contextmanager
    def time(self, operation: str, release: str = "") -> Iterator[None]:
        """Take the time of what happens inside, also where it fails."""
        start_s = self._clock()
        try:
            yield
        finally:
            self.add(operation, self._clock() - start_s, release)

    def add(self, operation: str, seconds: float, release: str = "") -> None:
        """Add one duration.

        Raises:
            LocalError: it is negative, not a number or absurd, or there are too many operations; nothing was added.
        """
        sketches.sketch_of([seconds])
        with self._lock:
            key = (operation, release)
            if key not in self._waiting and len(self._waiting) >= KEYS_MAX:
                raise LocalError("too many operations wait to be told", got=len(self._waiting) + 1, needed=KEYS_MAX)
            self._waiting.setdefault(key, []).append(seconds)
            ready = self._waiting.pop(key) if len(self._waiting[key]) >= TELL_AT else []
        if ready:
            self._send(key, ready)

    def flush(self) -> None:
        """Tell all that waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for key, seconds in sorted(waiting.items()):
            self._send(key, seconds)

    def _send(self, key: tuple[str, str], seconds: list[float]) -> None:
        operation, release = key
        sketch = sketches.pack(sketches.sketch_of(seconds))
        self._tell("duration", [operation], release=release, count=len(seconds), sketch=sketch)
