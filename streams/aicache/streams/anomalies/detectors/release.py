"""Is a release worse than the others? A sequential test that may be looked at as often as one likes.

An e-process for two Bernoulli streams (Turner, Ly, Grünwald 2024, "Generic e-variables for exact sequential k-sample tests that
allow for optional stopping"): in each window the likelihood of both groups' counts under the rates learned from the windows
before, against that under one common rate. If the groups have the same rate the product is an e-value: it exceeds 1/α, ever, with
probability at most α (Ville). Rates are learned before they bet, so nothing is counted twice.
Memory: four numbers. Cost of a window: constant. Pure.
"""

import math
from dataclasses import dataclass

from river import base

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors import state

PRIOR = 0.5
"""Successes and failures imagined before the first window (Krichevsky and Trofimov)."""
LOG_MAX = 700.0


@dataclass(frozen=True, slots=True)
class Window:
    """Counts of one window: of the release, and of all others."""

    events: int
    failures: int
    other_events: int
    other_failures: int


class ReleaseComparison(base.Base):
    """Evidence that a release fails more often than the others.

    Args:
        ratio_min: how many times the others' rate counts as worse at all.

    Examples:
        >>> test = ReleaseComparison()
        >>> for _ in range(5):
        ...     test.learn_one(Window(100, 20, 1000, 20))
        >>> test.p_value < 1e-6
        True
    """

    def __init__(self, ratio_min: float = 1.25) -> None:
        self.ratio_min = ratio_min
        self.log_e = 0.0
        self._peak = 0.0
        self._events = self._failures = 0
        self._other_events = self._other_failures = 0

    def learn_one(self, x: Window) -> None:
        """Bet on one window with what was learned before, then learn it.

        Raises:
            LocalError: counts that cannot be; nothing was learned.
        """
        if not (0 <= x.failures <= x.events and 0 <= x.other_failures <= x.other_events):
            raise LocalError("a window has impossible counts", got=x, needed="0 ≤ failures ≤ events")
        if x.events and x.other_events:
            self.log_e = min(self.log_e + self._bet(x), LOG_MAX)
            self._peak = max(self._peak, self.log_e)
        self._events += x.events
        self._failures += x.failures
        self._other_events += x.other_events
        self._other_failures += x.other_failures

    def _bet(self, x: Window) -> float:
        rate = (self._failures + PRIOR) / (self._events + 2 * PRIOR)
        other = (self._other_failures + PRIOR) / (self._other_events + 2 * PRIOR)
        if rate < other * self.ratio_min:
            rate = min(other * self.ratio_min, 1 - 1e-9)
        common = (x.events * rate + x.other_events * other) / (x.events + x.other_events)
        return (
            _log_likelihood(x.events, x.failures, rate)
            + _log_likelihood(x.other_events, x.other_failures, other)
            - _log_likelihood(x.events + x.other_events, x.failures + x.other_failures, common)
        )

    @property
    def p_value(self) -> float:
        """Always-valid: of 1, at most how often equal rates would ever have shown as much evidence."""
        return math.exp(-self._peak)

    @property
    def rate(self) -> float:
        """Failures an event of the release so far."""
        return self._failures / self._events if self._events else 0.0

    @property
    def other_rate(self) -> float:
        """Failures an event of the others so far."""
        return self._other_failures / self._other_events if self._other_events else 0.0

    @property
    def events(self) -> int:
        """Events of the release so far."""
        return self._events

    def numbers(self) -> list[float]:
        """All that it has learned."""
        return [
            self.log_e,
            self._peak,
            self._events,
            self._failures,
            self._other_events,
            self._other_failures,
        ]

    def restore(self, numbers: list[float]) -> None:
        """Become what gave these numbers."""
        self.log_e, self._peak = numbers[:2]
        self._events, self._failures, self._other_events, self._other_failures = map(int, numbers[2:])

    def to_bytes(self) -> bytes:
        """All that it has learned; `from_bytes` of it goes on with the same evidence."""
        return state.pack("ReleaseComparison", {"ratio_min": self.ratio_min, "numbers": self.numbers()})

    @classmethod
    def from_bytes(cls, data: bytes) -> "ReleaseComparison":
        """The comparison that wrote these bytes.

        Raises:
            LocalError: they are of another detector, or damaged.
        """
        fields, _ = state.unpack("ReleaseComparison", data)
        made = cls(fields["ratio_min"])
        made.restore(fields["numbers"])
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReleaseComparison) and self.numbers() == other.numbers()

    __hash__ = None  # type: ignore[assignment]


def _log_likelihood(events: int, failures: int, rate: float) -> float:
    return failures * math.log(rate) + (events - failures) * math.log1p(-rate)
