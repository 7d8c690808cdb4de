"""Is a count unusual for its time? A negative binomial whose rate follows level, trend and season, in columns of series.

The level is a Gamma that forgets (Harvey and Fernandes, JBES 1989; West and Harrison 1997, chapter 10): each window multiplies what is
known by `MEMORY`, adds the count, and the window's share of a season as exposure. The trend is a growth a window that follows the
level's corrections (Holt), the season a factor a phase, learned the same way but slower. What the counts vary beyond that is an
overdispersion by moments. The next count is then negative binomial, and its tail on the side where the count lies, doubled, is the
p-value: thousands of series side by side go to `fdr`. What is learned is cut at `CUT` standard deviations, so that one outlier teaches
no level; a level that has changed for good is followed, and its windows are alarms until then.
Cost: about 1 µs a point with 1,000 series. Memory: seven numbers and two seasons a series. Pure.
"""

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
from river import base

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors import state
from aicache.streams.anomalies.detectors.columns import Columns, Floats, alone

MEMORY = 0.96
"""Of the level: about 25 windows."""
SEASON_MEMORY = 0.9
"""Of a phase of the season, each time it comes."""
SEASON_PRIOR = 2.0
"""Counts that a phase is imagined to have had at factor 1, a season."""
GROWTH_GAIN, GROWTH_MEMORY = 0.05, 0.98
GROWTH_MAX = 0.1
DISPERSION_MEMORY = 0.99
CUT = 4.0
SHAPE_MIN = 0.5
"""What nothing seen still leaves possible: half a count in the level's memory."""
ALPHA = 1e-4
"""A p-value below this is an alarm."""
ALARM = 0.5
PERIOD_MAX = 10_080
COUNT_MAX = 1e12
KEPT = ("shape", "exposure", "growth", "dispersion", "seen", "season_counts", "season_exposure")


class CountColumns(Columns):
    """Scores a count of each series at a time.

    Args:
        series: how many.
        warm_up: windows of each that are learned before any is scored; at least two seasons.
        period: windows of the season, of all series; 0: none.
    """

    def __init__(self, series: int, warm_up: int = 60, period: int = 0) -> None:
        super().__init__(series, warm_up)
        if not 0 <= 2 * period <= warm_up or period > PERIOD_MAX:
            raise LocalError("a season fits twice into the warm-up", got=period, needed=min(warm_up // 2, PERIOD_MAX))
        self.period = period
        self.p_values = np.ones(series)
        """Of the newest column; 1 while warming up."""
        self._shape, self._exposure = np.full(series, 0.5), np.full(series, 0.5)
        self._growth, self._dispersion, self._seen = np.zeros((3, series))
        self._season_counts = np.zeros((max(1, period), series))
        self._season_exposure = np.zeros((max(1, period), series))

    def judge(self, values: Floats) -> Floats:
        """p-values of these counts as the next ones, two-sided; nothing is learned. 1 while warming up."""
        counts = self._checked(values)
        return self._judge(counts, self.points) if self.points >= self.warm_up else np.ones(self.series)

    def _judge(self, values: Floats, time: int) -> Floats:
        from scipy.special import betainc

        mean, spread = self._expected(time)
        keep = 1 / (1 + mean * spread)
        above = betainc(np.maximum(values, 1e-9), 1 / spread, 1 - keep)
        below = betainc(1 / spread, values + 1, keep)
        two: Floats = np.minimum(1.0, 2 * np.minimum(np.where(values > 0, above, 1.0), below))
        return two

    def _checked(self, values: Floats) -> Floats:
        if not ((values >= 0) & (values <= COUNT_MAX)).all():
            raise LocalError("a count is a number from 0 on", got=values.shape, needed=f"0 … {COUNT_MAX:g}")
        return values

    def _expected(self, time: int) -> tuple[Floats, Floats]:
        """Mean of the count at this time, and what its variance has beyond the mean, in squared means."""
        level = self._shape / self._exposure * np.exp(self._growth)
        return np.maximum(level * self._factor(time), 1e-6), 1 / self._shape + self._dispersion

    def _factor(self, time: int) -> Floats:
        if not self.period:
            return np.ones(self.series)
        phase = time % self.period
        factor: Floats = (self._season_counts[phase] + SEASON_PRIOR) / (self._season_exposure[phase] + SEASON_PRIOR)
        return factor

    def _begin(self, first: Floats) -> None:
        self._shape = np.maximum(first.mean(axis=0), SHAPE_MIN)
        self._exposure = np.ones(self.series)
        for time, values in enumerate(first):
            self._learn(values, time)

    def _score(self, values: Floats) -> Floats:
        time = self.points - 1
        self.p_values = self._judge(values, time)
        self._learn(values, time)
        return _score_of(self.p_values)

    def _learn(self, values: Floats, time: int) -> None:
        mean, spread = self._expected(time)
        deviation = np.sqrt(mean + mean**2 * spread)
        kept = np.clip(values, mean - CUT * deviation, mean + CUT * deviation)
        factor, before = self._factor(time), self._shape / self._exposure * np.exp(self._growth)
        self._shape = np.maximum(MEMORY * self._shape + kept, SHAPE_MIN)
        self._exposure = MEMORY * self._exposure * np.exp(-self._growth) + factor
        correction = np.log(self._shape / self._exposure) - np.log(before)
        growth = GROWTH_MEMORY * self._growth + GROWTH_GAIN * correction
        self._growth = np.clip(growth, -GROWTH_MAX, GROWTH_MAX)
        if self.period:
            phase = time % self.period
            self._season_counts[phase] = SEASON_MEMORY * self._season_counts[phase] + kept
            self._season_exposure[phase] = SEASON_MEMORY * self._season_exposure[phase] + before
        more = ((kept - mean) ** 2 - mean) / np.maximum(mean, 0.1) ** 2
        self._seen = DISPERSION_MEMORY * self._seen + 1
        self._dispersion = np.maximum(0.0, self._dispersion + (more - self._dispersion) / self._seen)

    def update(self, values: Floats) -> Floats:
        """See `Columns`; counts are 0 or more.

        Raises:
            LocalError: also where a count is below 0; nothing was learned.
        """
        return super().update(values if values.shape != (self.series,) else self._checked(values))

    def to_bytes(self) -> bytes:
        """See `Columns`."""
        fields = {"warm_up": self.warm_up, "points": self.points, "period": self.period}
        arrays = {name: getattr(self, f"_{name}") for name in KEPT}
        return state.pack("CountColumns", fields, {**arrays, "first": self._warming(), "p_values": self.p_values})

    @classmethod
    def from_bytes(cls, data: bytes) -> "CountColumns":
        """The detector that wrote these bytes.

        Raises:
            LocalError: they are of another one, or damaged.
        """
        fields, arrays = state.unpack("CountColumns", data)
        made = cls(len(arrays["p_values"]), fields["warm_up"], fields["period"])
        made.points, made._first, made.p_values = fields["points"], list(arrays["first"]), arrays["p_values"]
        for name in KEPT:
            setattr(made, f"_{name}", arrays[name])
        return made


def _score_of(p_values: Floats) -> Floats:
    ratio = np.log(np.maximum(p_values, 1e-300)) / math.log(ALPHA)
    score: Floats = ratio / (1 + ratio)
    return score


class CountForecast(base.AnomalyDetector):
    """River's interface to one series of counts; see the module for how it works.

    Args:
        warm_up: windows that are learned before any is scored; at least two seasons.
        period: windows of the season; 0: none.

    Examples:
        >>> forecast = CountForecast(warm_up=48, period=24)
        >>> scores = []
        >>> for n in range(200):
        ...     x = {"failures": 10 + n % 24 + (60 if n == 150 else 0)}
        ...     scores.append(forecast.score_one(x))
        ...     forecast.learn_one(x)
        >>> [n for n, score in enumerate(scores) if score > ALARM]
        [150]
    """

    def __init__(self, warm_up: int = 60, period: int = 0) -> None:
        self.warm_up = warm_up
        self.period = period
        self._columns = CountColumns(1, warm_up, period)

    def _unit_test_skips(self) -> set[str]:
        """River's checks that need more than one value a point."""
        return {"check_emerging_features", "check_disappearing_features", "check_radically_disappearing_features"}

    def p_value(self, x: dict[Hashable, Any]) -> float:
        """How often what was learned gives a count at least as far from the middle."""
        return float(self._columns.judge(_count(x))[0])

    def score_one(self, x: dict[Hashable, Any]) -> float:
        """How unusual the count is, 0 to 1; above `ALARM` is an alarm. 0 while warming up.

        Raises:
            LocalError: not one count, or below 0.
        """
        return float(_score_of(self._columns.judge(_count(x)))[0])

    def learn_one(self, x: dict[Hashable, Any]) -> None:
        """Learn the count of the next window.

        Raises:
            LocalError: not one count, or below 0; nothing was learned.
        """
        self._columns.update(_count(x))

    def to_bytes(self) -> bytes:
        """All that it has learned; `from_bytes` of it goes on with the same scores."""
        return self._columns.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "CountForecast":
        """The detector that wrote these bytes.

        Raises:
            LocalError: they are of another one, or damaged.
        """
        columns = alone(CountColumns.from_bytes(data))
        made = cls(columns.warm_up, columns.period)
        made._columns = columns
        return made


def _count(x: dict[Hashable, Any]) -> Floats:
    if len(x) != 1:
        raise LocalError("a point of a series has one value", got=len(x), needed=1)
    return np.array([float(value) for value in x.values()])
