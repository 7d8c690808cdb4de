"""Has the slow end of durations become slower, and by how much? Sketches window by window, with an effect size.

The first durations set an edge, their quantile, and how many lie above it. If nothing changes, those above in the next window are
beta-binomial given all before: no law of the durations is assumed. Against it stand the same with the odds times `ODDS`; products of
these ratios, started anew whenever they fall below 1, are an e-detector (Shin, Ramdas and Rinaldo, NEJSDS 2024): below a bound of 1/alpha
for 1/alpha windows on average, whenever one looks. Then it tells by what factor the quantile has grown, with an interval of order
statistics, and how often a new duration is longer than an old one; what is new becomes what is usual.
It assumes that durations of a window do not hang together: let one client tell few of them.
Cost: tens of µs a window. Memory: a sketch of what is usual, and one for each of `ODDS`. Pure.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from river import base

from aicache.privacy.errors import LocalError
from aicache.privacy.sketches import ALPHA as SKETCH_ALPHA
from aicache.privacy.sketches import BUCKET_MAX, BUCKET_MIN, Sketch, count_above, merge, quantile
from aicache.streams.anomalies.detectors import state

ODDS = (1.5, 2.5, 5.0)
PRIOR = 0.5
LOG_MAX = 700.0
CONFIDENCE = 1.96


@dataclass(frozen=True, slots=True)
class Effect:
    """What changed.

    Attributes:
        before_s, after_s: the quantile, in seconds.
        low, high: bounds of the 95% interval of after/before, the sketches' own error included.
        superiority: how often a duration after is longer than one before; 0.5: as often as not.
        n: durations after.
    """

    before_s: float
    after_s: float
    low: float
    high: float
    superiority: float
    n: int

    @property
    def ratio(self) -> float:
        """How many times longer."""
        return self.after_s / self.before_s


class QuantileShift(base.Base):
    """Tells when a quantile of durations has grown for good.

    Args:
        q: which quantile.
        learn: durations that are learned before any are judged.
        alpha: a false alarm comes after 1/alpha windows or more, on average.
        ratio_min: a quantile that has surely grown by less, going by the interval, is no alarm.

    Examples:
        >>> from aicache.privacy.sketches import sketch_of
        >>> shift = QuantileShift(learn=300)
        >>> usual, slow = [[k * (1 + n / 50) / 10 for n in range(50)] for k in (1, 2)]
        >>> [shift.learn_one(sketch_of(usual)) for _ in range(20)].count(True)
        0
        >>> [shift.learn_one(sketch_of(slow)) for _ in range(3)].index(True)
        0
        >>> round(shift.effect.ratio, 1)
        2.0
    """

    def __init__(self, q: float = 0.9, learn: int = 500, alpha: float = 1e-5, ratio_min: float = 1.05) -> None:
        if not (0 < q < 1 and learn >= 10 and 0 < alpha < 1 and ratio_min >= 1):
            raise LocalError("no such shift", got=(q, learn, alpha, ratio_min), needed="0 < q, alpha < 1; learn ≥ 10")
        self.q = q
        self.learn = learn
        self.alpha = alpha
        self.ratio_min = ratio_min
        self.effect: Effect | None = None
        """Of the newest alarm."""
        self._begin({})

    def _begin(self, usual: Sketch) -> None:
        self._usual = usual
        self._recent: list[Sketch] = [{} for _ in ODDS]
        self._edge = self._above = self._below = 0.0
        self._logs = [0.0] * len(ODDS)
        self._started = sum(usual.values()) >= self.learn
        if self._started:
            self._edge = quantile(usual, self.q)
            self._above = PRIOR + count_above(usual, self._edge)
            self._below = 2 * PRIOR + sum(usual.values()) - self._above

    @property
    def evidence(self) -> float:
        """For a shift now; 1/alpha is an alarm."""
        return math.fsum(math.exp(min(one, LOG_MAX)) for one in self._logs) / len(ODDS)

    def learn_one(self, x: Mapping[float, float]) -> bool:
        """Learn the durations of one window; tells whether they make a shift sure. `effect` says how large it is.

        Raises:
            LocalError: it is no sketch; nothing was learned.
        """
        total = sum(x.values())
        if not all(BUCKET_MIN <= bucket <= BUCKET_MAX and 0 < count < math.inf for bucket, count in x.items()):
            raise LocalError("no sketch of durations", got=len(x), needed="buckets in range, counts above 0")
        if not self._started:
            self._begin(merge((self._usual, x)))
            return False
        if total < 0.5:
            return False
        above = count_above(x, self._edge)
        self._judge(above, total - above)
        self._recent = [
            merge((recent, x)) if one > 0 else {} for recent, one in zip(self._recent, self._logs, strict=True)
        ]
        if self.evidence < 1 / self.alpha:
            return False
        recent = self._recent[self._logs.index(max(self._logs))]
        effect = self._effect(recent)
        if effect.low < self.ratio_min:
            return False
        self.effect = effect
        self._begin(recent)
        return True

    def _judge(self, above: float, below: float) -> None:
        """Bet on the window with all before it, then learn it."""
        a, b = self._above, self._below
        usual = _log_beta_ratio(a, b, above, below)
        for place, odds in enumerate(ODDS):
            share = a * odds / (a * odds + b)
            bet = _log_beta_ratio(share * (a + b), (1 - share) * (a + b), above, below) - usual
            self._logs[place] = min(max(self._logs[place], 0.0) + bet, LOG_MAX)
        self._above, self._below = a + above, b + below

    def _effect(self, recent: Sketch) -> Effect:
        before, after = _bounds(self._usual, self.q), _bounds(recent, self.q)
        error = ((1 + SKETCH_ALPHA) / (1 - SKETCH_ALPHA)) ** 2
        return Effect(
            before[1],
            after[1],
            after[0] / before[2] / error,
            after[2] / before[0] * error,
            _superiority(self._usual, recent),
            round(sum(recent.values())),
        )

    def to_bytes(self) -> bytes:
        """All that it has learned; `from_bytes` of it goes on with the same alarms."""
        fields = {name: getattr(self, name) for name in ("q", "learn", "alpha", "ratio_min")}
        fields["effect"] = None if self.effect is None else asdict(self.effect)
        fields["numbers"] = [self._edge, self._above, self._below, self._logs]
        recent = {f"recent.{place}": _pairs(sketch) for place, sketch in enumerate(self._recent)}
        return state.pack("QuantileShift", fields, {"usual": _pairs(self._usual), **recent})

    @classmethod
    def from_bytes(cls, data: bytes) -> "QuantileShift":
        """The detector that wrote these bytes.

        Raises:
            LocalError: they are of another one, or damaged.
        """
        fields, arrays = state.unpack("QuantileShift", data)
        made = cls(fields["q"], fields["learn"], fields["alpha"], fields["ratio_min"])
        made._begin(_sketch(arrays["usual"]))
        made._recent = [_sketch(arrays[f"recent.{place}"]) for place in range(len(ODDS))]
        made.effect = None if fields["effect"] is None else Effect(**fields["effect"])
        made._edge, made._above, made._below, made._logs = fields["numbers"]
        return made


def _log_beta_ratio(a: float, b: float, above: float, below: float) -> float:
    """The logarithm of B(a + above, b + below)/B(a, b): how likely these places are, in this order, if shares are Beta(a, b)."""
    grown = math.lgamma(a + above) + math.lgamma(b + below) - math.lgamma(a + b + above + below)
    return grown - math.lgamma(a) - math.lgamma(b) + math.lgamma(a + b)


def _bounds(sketch: Sketch, q: float) -> tuple[float, float, float]:
    """A quantile between the order statistics that bound it."""
    spread = CONFIDENCE * math.sqrt(q * (1 - q) / max(1.0, sum(sketch.values())))
    return quantile(sketch, max(q - spread, 0.0)), quantile(sketch, q), quantile(sketch, min(q + spread, 1.0))


def _superiority(before: Sketch, after: Sketch) -> float:
    places, counts = np.array(sorted(before.items())).T
    below = np.concatenate([[0.0], np.cumsum(counts)])
    won = 0.0
    for bucket, count in after.items():
        less, up_to = np.searchsorted(places, bucket), np.searchsorted(places, bucket, side="right")
        won += count * (below[less] + below[up_to]) / 2
    return float(won / (below[-1] * sum(after.values())))


def _pairs(sketch: Sketch) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array(sorted(sketch.items()), dtype=np.float64).reshape(-1, 2)


def _sketch(pairs: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Sketch:
    return dict(pairs.tolist())
