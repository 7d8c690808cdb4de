"""What detectors of many series side by side have in common: a column is a value of each, and the first columns are learned alone. Pure."""

from abc import ABC, abstractmethod
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors.novelty import WARM_UP_MAX

Floats = npt.NDArray[np.float64]
C = TypeVar("C", bound="Columns")


class Columns(ABC):
    """Scores a point of each series at a time.

    Args:
        series: how many.
        warm_up: points of each that are learned before any is scored.
    """

    def __init__(self, series: int, warm_up: int) -> None:
        if series < 0 or not 1 <= warm_up <= WARM_UP_MAX:
            raise LocalError("no such columns", got=(series, warm_up), needed=f"≥ 0 series, 1 … {WARM_UP_MAX} to learn")
        self.series, self.warm_up = series, warm_up
        self.points = 0
        """Of each series, so far."""
        self._each = np.arange(series)
        self._first: list[Floats] = []

    def update(self, values: Floats) -> Floats:
        """Score a value of each series and learn it.

        Args:
            values: finite, shape (series,).

        Returns:
            Scores 0 to 1, above `ALARM` an alarm; shape (series,).

        Raises:
            LocalError: wrong shape, or not finite; nothing was learned.
        """
        if values.shape != (self.series,) or not np.isfinite(values).all():
            raise LocalError("a column is a finite value a series", got=values.shape, needed=(self.series,))
        self.points += 1
        if self.points > self.warm_up:
            return self._score(values)
        self._first.append(values.astype(np.float64))
        if self.points == self.warm_up:
            first, self._first = np.stack(self._first), []
            self._begin(first)
        return np.zeros(self.series)

    def _warming(self) -> Floats:
        """The columns that wait for the end of the warm-up, shape (points, series)."""
        return np.stack(self._first) if self._first else np.zeros((0, self.series))

    @abstractmethod
    def _begin(self, first: Floats) -> None:
        """Learn the warm-up, shape (warm_up, series)."""

    @abstractmethod
    def _score(self, values: Floats) -> Floats:
        """Score a column after the warm-up, and learn it."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """All that it has learned; `from_bytes` of it goes on with the same scores."""


def alone(columns: C) -> C:
    """Columns of a single series, as they are.

    Raises:
        LocalError: there are more, or none.
    """
    if columns.series != 1:
        raise LocalError("the state is of more than one series", got=columns.series, needed=1)
    return columns
