"""Does a series without releases happen more often than before? River's Page-Hinkley test over the counts of its windows.

Counts become 2√(x + 3/8) (Anscombe, Biometrika 1948), whose noise has size 1 whatever the rate is; Page-Hinkley (Page, Biometrika
1954) adds up what lies more than `slack` above the mean so far. River's test cannot be written down, so the counts that it has seen
are kept instead, and after `VALUES_MAX` windows it starts anew from the newer half: what a restart restores is exactly what was.
ADWIN, tried first, needs 21 windows (median) where a rate of 2 grows to 12; this needs 5.
Memory: at most `VALUES_MAX` numbers. Cost of a window: a few µs. Pure.
"""

import math
from collections.abc import Iterable
from typing import Any

from river import base

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors import state

VALUES_MAX = 240
AFTER = 5
"""Windows from which the new rate is told, and that are learned first after a rise."""


class RateChange(base.Base):
    """Tells when counts have risen for good.

    Args:
        slack: standard deviations above the mean that are not worth telling.
        threshold: standard deviations, added up, that are. With noise of size 1 a false alarm comes once in about
            exp(2·slack·threshold) windows: 3 million with the defaults.
        ratio_min: how many times the rate before is a rise at all.

    Examples:
        >>> rate = RateChange()
        >>> [rate.learn_one(x) for x in [2, 3] * 30].count(True)
        0
        >>> any(rate.learn_one(x) for x in [12, 14] * 10)
        True
    """

    def __init__(self, slack: float = 0.5, threshold: float = 15.0, ratio_min: float = 1.5) -> None:
        self.slack = slack
        self.threshold = threshold
        self.ratio_min = ratio_min
        self.values: list[int] = []
        self.before = self.after = 0.0
        self._test = self._replay([])

    def _replay(self, values: Iterable[int]) -> Any:
        from river.drift import PageHinkley

        test: Any = PageHinkley(min_instances=20, delta=self.slack, threshold=self.threshold, mode="up")
        for value in values:
            test.update(_steady(value))
        return test

    def learn_one(self, x: int) -> bool:
        """Learn the count of one window; tells whether the rate has risen with it. `before` and `after` say from what to what.

        Raises:
            LocalError: it is no count; nothing was learned.
        """
        if not 0 <= x < math.inf:
            raise LocalError("a count is a number from 0 on", got=x, needed="≥ 0")
        self.values.append(x)
        self._test.update(_steady(x))
        if self._test.drift_detected:
            past, recent = self.values[:-AFTER], self.values[-AFTER:]
            self.before, self.after = sum(past) / max(1, len(past)), sum(recent) / len(recent)
            self.restore(recent)
            return self.after > self.before * self.ratio_min
        if len(self.values) >= VALUES_MAX:
            self.restore(self.values[-VALUES_MAX // 2 :])
        return False

    def restore(self, values: list[int]) -> None:
        """Become what has seen just these counts."""
        self.values = list(values)
        self._test = self._replay(values)

    def to_bytes(self) -> bytes:
        """All that it has learned; `from_bytes` of it goes on with the same rises."""
        names = ("slack", "threshold", "ratio_min", "values", "before", "after")
        return state.pack("RateChange", {name: getattr(self, name) for name in names})

    @classmethod
    def from_bytes(cls, data: bytes) -> "RateChange":
        """The detector that wrote these bytes.

        Raises:
            LocalError: they are of another one, or damaged.
        """
        fields, _ = state.unpack("RateChange", data)
        made = cls(fields["slack"], fields["threshold"], fields["ratio_min"])
        made.restore(fields["values"])
        made.before, made.after = fields["before"], fields["after"]
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RateChange) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]


def _steady(count: int) -> float:
    return 2 * math.sqrt(count + 0.375)
