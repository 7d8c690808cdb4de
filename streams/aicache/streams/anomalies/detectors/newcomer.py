"""Is a log template, a signature or a rule new where news are rare? The Good-Turing estimate of what was never seen.

Of N events, those with a name that came once tell how likely the next has a name that never came: N1/N (Good, Biometrika 1953). Where new
templates come all the time one more is nothing; where none came for long the first is an alarm. Only the `names_max` names seen last are
remembered, and counts are halved at `EVENTS_MAX`, so that the past fades; a name that was forgotten is new again. How often a known name
comes is for `RateChange`, `ChangePoint` and `CountForecast`.
Cost: about 1 µs an event. Memory: `names_max` names. Pure.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from river import base

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors import state

ALARM = 0.5
EVENTS_MAX = 1_000_000
NAME_CHARACTERS_MAX = 1_000


class Newcomer(base.AnomalyDetector):
    """Scores names by how surprising it is that they are new.

    Args:
        warm_up: events that are learned before any is scored.
        alpha: a new name is an alarm where new names are less likely than this.
        names_max: names that are remembered.

    Examples:
        >>> newcomer = Newcomer(warm_up=500, alpha=0.01)
        >>> for n in range(1_000):
        ...     newcomer.learn_one({"template": f"connection {n % 7}"})
        >>> newcomer.score_one({"template": "connection 3"})
        0.0
        >>> newcomer.score_one({"template": "out of memory"}) > ALARM
        True
    """

    def __init__(self, warm_up: int = 1_000, alpha: float = 0.003, names_max: int = 20_000) -> None:
        if warm_up < 1 or not 0 < alpha < 1 or names_max < 1:
            raise LocalError("no such newcomer", got=(warm_up, alpha, names_max), needed="≥ 1, 0 < alpha < 1, ≥ 1")
        self.warm_up = warm_up
        self.alpha = alpha
        self.names_max = names_max
        self._names: OrderedDict[str, int] = OrderedDict()
        self._events = self._once = self._learned = 0

    def _unit_test_skips(self) -> set[str]:
        """River's checks that need more than one value a point."""
        return {"check_emerging_features", "check_disappearing_features", "check_radically_disappearing_features"}

    @property
    def chance(self) -> float:
        """How likely the next event has a new name."""
        return (self._once + 0.5) / (self._events + 1)

    def score_one(self, x: dict[Hashable, Any]) -> float:
        """How surprising the name is, 0 to 1; above `ALARM` is an alarm. 0 for known names, and while warming up.

        Raises:
            LocalError: not one name, or a very long one.
        """
        if _name(x) in self._names or self._learned < self.warm_up:
            return 0.0
        ratio = math.log(self.chance) / math.log(self.alpha)
        return ratio / (1 + ratio)

    def learn_one(self, x: dict[Hashable, Any]) -> None:
        """Learn the name of an event.

        Raises:
            LocalError: not one name, or a very long one; nothing was learned.
        """
        name = _name(x)
        count = self._names.pop(name, 0)
        self._names[name] = count + 1
        self._once += (count == 0) - (count == 1)
        self._events += 1
        self._learned = min(self._learned + 1, self.warm_up)
        if len(self._names) > self.names_max:
            _, gone = self._names.popitem(last=False)
            self._once -= gone == 1
            self._events -= gone
        if self._events >= EVENTS_MAX:
            self._halve()

    def _halve(self) -> None:
        """Names that came once are left, as ones that may be forgotten first; they no longer count as once."""
        self._names = OrderedDict((name, max(2, count // 2)) for name, count in self._names.items())
        self._events, self._once = sum(self._names.values()), 0

    def to_bytes(self) -> bytes:
        """All that it has learned; `from_bytes` of it goes on with the same scores."""
        fields = {name: getattr(self, name) for name in ("warm_up", "alpha", "names_max")}
        numbers = [self._events, self._once, self._learned]
        return state.pack("Newcomer", {**fields, "numbers": numbers, "names": list(self._names.items())})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Newcomer":
        """The detector that wrote these bytes.

        Raises:
            LocalError: they are of another one, or damaged.
        """
        fields, _ = state.unpack("Newcomer", data)
        made = cls(fields["warm_up"], fields["alpha"], fields["names_max"])
        made._names = OrderedDict(fields["names"])
        made._events, made._once, made._learned = fields["numbers"]
        return made


def _name(x: dict[Hashable, Any]) -> str:
    if len(x) != 1:
        raise LocalError("an event has one name", got=len(x), needed=1)
    (name,) = map(str, x.values())
    if len(name) > NAME_CHARACTERS_MAX:
        raise LocalError("a name is too long", got=len(name), needed=NAME_CHARACTERS_MAX)
    return name
