"""Since when has a count had its rate? Bayesian online change points (Adams and MacKay, arXiv 0710.3742), in columns of series.

For each run length, the windows since the rate last changed, there is a probability and a Gamma of what the rate is; with each count a
run goes on, by how well it foretold the count, or ends, once in `every` windows. Counts that vary more than Poisson's are divided by
their index of dispersion first, told from neighbouring windows so that changes do not count (quasi-likelihood). The score is the
probability that the run is at most `RECENT` windows old. Runs beyond `RUNS_MAX` are one.
Cost: about 10 µs a point. Memory: three numbers a run length and series. Pure.
"""

import math

import numpy as np
from river import base

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors import state
from aicache.streams.anomalies.detectors.columns import Columns, Floats, alone

RUNS_MAX = 96
RECENT = 10
ALARM = 0.5
COUNT_MAX = 1e12
KEPT = ("log", "shape", "exposure", "prior", "unit")


class ChangePointColumns(Columns):
    """Scores a count of each series at a time: how likely its rate has changed lately.

    Args:
        series: how many.
        warm_up: windows of each that are learned before any is scored.
        every: windows that a rate lasts, on average; a false alarm comes about as seldom.
    """

    def __init__(self, series: int, warm_up: int = 40, every: float = 2_000.0) -> None:
        super().__init__(series, warm_up)
        if warm_up < 2 * RECENT or not 2 <= every < math.inf:
            raise LocalError(
                "no such change points", got=(warm_up, every), needed=f"{2 * RECENT} to learn, every ≥ 2 windows"
            )
        self.every = every
        self._log = np.full((RUNS_MAX, series), -np.inf)
        self._log[0] = 0.0
        self._prior, self._unit = np.ones(series), np.ones(series)
        self._shape, self._exposure = np.ones((2, RUNS_MAX, series))

    @property
    def run_lengths(self) -> Floats:
        """The likeliest number of windows since the rate changed, shape (series,); `RUNS_MAX` − 1 stands for more."""
        return self._log.argmax(axis=0).astype(np.float64)

    @property
    def rates(self) -> Floats:
        """The rate of that run, in counts a window."""
        places = (self._log.argmax(axis=0), self._each)
        found: Floats = self._shape[places] / self._exposure[places] * self._unit
        return found

    def update(self, values: Floats) -> Floats:
        """See `Columns`; counts are 0 or more.

        Raises:
            LocalError: also where a count is below 0; nothing was learned.
        """
        if values.shape == (self.series,) and not ((values >= 0) & (values <= COUNT_MAX)).all():
            raise LocalError("a count is a number from 0 on", got=values.shape, needed=f"0 … {COUNT_MAX:g}")
        return super().update(values)

    def _begin(self, first: Floats) -> None:
        mean = np.maximum(first.mean(axis=0), 1 / self.warm_up)
        steps = np.diff(first, axis=0) ** 2
        self._unit = np.maximum(1.0, steps.mean(axis=0) / 2 / mean)
        self._prior = mean / self._unit
        self._shape[:], self._exposure[:] = 1.0, 1 / self._prior
        for values in first:
            self._score(values)

    def _score(self, values: Floats) -> Floats:
        from scipy.special import gammaln, logsumexp

        counts = values / self._unit
        shape, exposure = self._shape, self._exposure
        foretold = gammaln(shape + counts) - gammaln(shape) + shape * np.log(exposure / (exposure + 1))
        foretold -= counts * np.log1p(exposure) + gammaln(counts + 1)
        joint = self._log + foretold
        ended = logsumexp(joint, axis=0) - math.log(self.every)
        joint += math.log1p(-1 / self.every)
        oldest = np.logaddexp(joint[-1], joint[-2])
        self._move(counts, oldest_is_longer=joint[-1] > joint[-2])
        self._log[1:] = joint[:-1]
        self._log[-1] = oldest
        self._log[0] = ended
        self._log -= logsumexp(self._log, axis=0)
        score: Floats = np.minimum(1.0, np.exp(self._log[: RECENT + 1]).sum(axis=0))
        return score

    def _move(self, counts: Floats, oldest_is_longer: Floats) -> None:
        """Each run is a window older and has learned the count; the oldest takes over from the likelier of two."""
        for learned, added, fresh in ((self._shape, counts, 1.0), (self._exposure, 1.0, 1 / self._prior)):
            longest = np.where(oldest_is_longer, learned[-1], learned[-2]) + added
            learned[1:] = learned[:-1] + added
            learned[-1] = longest
            learned[0] = fresh

    def to_bytes(self) -> bytes:
        """See `Columns`."""
        fields = {"warm_up": self.warm_up, "points": self.points, "every": self.every}
        arrays = {name: getattr(self, f"_{name}") for name in KEPT}
        return state.pack("ChangePointColumns", fields, {**arrays, "first": self._warming()})

    @classmethod
    def from_bytes(cls, data: bytes) -> "ChangePointColumns":
        """The detector that wrote these bytes.

        Raises:
            LocalError: they are of another one, or damaged.
        """
        fields, arrays = state.unpack("ChangePointColumns", data)
        made = cls(len(arrays["prior"]), fields["warm_up"], fields["every"])
        made.points, made._first = fields["points"], list(arrays["first"])
        for name in KEPT:
            setattr(made, f"_{name}", arrays[name])
        return made


class ChangePoint(base.DriftDetector):
    """River's interface to one series of counts; see the module for how it works.

    Args:
        warm_up: windows that are learned first.
        every: windows that a rate lasts, on average.

    Examples:
        >>> change = ChangePoint()
        >>> found = []
        >>> for n in range(300):
        ...     change.update(n % 3 + (6 if n >= 200 else 0))
        ...     if change.drift_detected:
        ...         found.append((n, change.run_length))
        >>> found
        [(201, 2)]
    """

    def __init__(self, warm_up: int = 40, every: float = 2_000.0) -> None:
        super().__init__()
        self.warm_up = warm_up
        self.every = every
        self.probability = 0.0
        """That the rate has changed lately."""
        self._columns = ChangePointColumns(1, warm_up, every)

    @property
    def run_length(self) -> int:
        """Windows since the likeliest change."""
        return int(self._columns.run_lengths[0])

    @property
    def rate(self) -> float:
        """Counts a window since then."""
        return float(self._columns.rates[0])

    def update(self, x: float) -> None:
        """Learn a count; `drift_detected` tells whether it makes a change likely that was not before.

        Raises:
            LocalError: it is no count; nothing was learned.
        """
        before = self.probability
        self.probability = float(self._columns.update(np.array([float(x)]))[0])
        self._drift_detected = self.probability > ALARM >= before

    def to_bytes(self) -> bytes:
        """All that it has learned; `from_bytes` of it goes on with the same alarms."""
        return self._columns.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "ChangePoint":
        """The detector that wrote these bytes.

        Raises:
            LocalError: they are of another one, or damaged.
        """
        columns = alone(ChangePointColumns.from_bytes(data))
        made = cls(columns.warm_up, columns.every)
        made._columns = columns
        if columns.points > columns.warm_up:
            made.probability = float(min(1.0, np.exp(columns._log[: RECENT + 1, 0]).sum()))
        return made
