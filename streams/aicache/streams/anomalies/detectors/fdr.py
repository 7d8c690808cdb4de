"""Which of thousands of tests, one after the other, are discoveries: at most a share `fdr` of them false, expected.

Each rule gives every test a level before its p-value is seen, and remembers little. `Lond` (Javanmard and
Montanari, Annals of Statistics 2018) for 1/e of e-values (Xu and Ramdas, AISTATS 2024), or for any p-values if told that they are
`dependent`, holds whatever depends on what: tests of the same series, releases and days do. `Lord` (LORD++, Ramdas, Yang, Wainwright
and Jordan, NeurIPS 2017) and `Saffron` (Ramdas, Zrnic, Wainwright and Jordan, ICML 2018) find more, and need that p-values of what has not
changed are independent of each other; Saffron spends nothing on p-values above `CANDIDATE`, so it finds most where many have changed.
The same history gives the same levels, so decisions can be replayed. Memory: bounded, see each. Pure.
"""

import math
from abc import abstractmethod
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from river import base

from aicache.privacy.errors import LocalError
from aicache.streams.anomalies.detectors import state

CANDIDATE = 0.5
"""Saffron: p-values up to this are candidates."""
DISCOVERIES_MAX = 1_000
"""Discoveries whose levels are remembered; what older ones would still earn is given up, which is only stricter."""


class _Rule(base.Base):
    """Decides test after test."""

    def __init__(self, fdr: float = 0.01) -> None:
        if not 0 < fdr < 1:
            raise LocalError("a false-discovery rate is between 0 and 1", got=fdr, needed=(0, 1))
        self.fdr = fdr
        self.tests = 0
        self.discoveries = 0

    @property
    @abstractmethod
    def level(self) -> float:
        """Of the next test: it is a discovery if its p-value is at most this."""

    def learn_one(self, x: float) -> bool:
        """Decide on the next test.

        Args:
            x: its p-value.

        Raises:
            LocalError: it is none; nothing was decided.
        """
        if not 0 <= x <= 1:
            raise LocalError("a p-value is 0 … 1", got=x, needed=(0, 1))
        found = x <= self.level
        self._decided(x, found=found)
        self.tests += 1
        self.discoveries += found
        return found

    @abstractmethod
    def _decided(self, x: float, *, found: bool) -> None:
        """Remember a test for the levels of the next ones."""

    def _fields(self) -> dict[str, Any]:
        return {"fdr": self.fdr, "tests": self.tests, "discoveries": self.discoveries}

    def _restore(self, fields: dict[str, Any]) -> None:
        self.tests, self.discoveries = fields["tests"], fields["discoveries"]

    def to_bytes(self) -> bytes:
        """All that it has decided by; `from_bytes` of it goes on with the same levels."""
        return state.pack(type(self).__name__, self._fields())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The rule that wrote these bytes.

        Raises:
            LocalError: they are of another one, or damaged.
        """
        fields, _ = state.unpack(cls.__name__, data)
        made = cls(fields["fdr"])
        made._restore(fields)
        return made


class Lond(_Rule):
    """LOND: level = fdr · γ(test) · (discoveries + 1). Memory: two numbers.

    Args:
        fdr: see the module.
        dependent: plain p-values that hang together in any way; costs a factor of the harmonic sum. e-values' p (1/e) need it not.

    Examples:
        >>> rule = Lond(0.05)
        >>> [rule.learn_one(p) for p in (0.3, 1e-6, 0.01)]
        [False, True, False]
    """

    def __init__(self, fdr: float = 0.01, dependent: bool = False) -> None:
        super().__init__(fdr)
        self.dependent = dependent
        self._harmonic = 1.0

    @property
    def level(self) -> float:
        """See `_Rule`."""
        level = self.fdr * gamma(self.tests + 1) * (self.discoveries + 1)
        return level / self._harmonic if self.dependent else level

    def _decided(self, x: float, *, found: bool) -> None:
        del x, found
        self._harmonic += 1 / (self.tests + 2)

    def _fields(self) -> dict[str, Any]:
        return {**super()._fields(), "dependent": self.dependent, "harmonic": self._harmonic}

    def _restore(self, fields: dict[str, Any]) -> None:
        super()._restore(fields)
        self.dependent, self._harmonic = fields["dependent"], fields["harmonic"]


class Lord(_Rule):
    """LORD++: wealth that each discovery renews. Memory: when the last `DISCOVERIES_MAX` discoveries were.

    Examples:
        >>> rule = Lord(0.05)
        >>> [rule.learn_one(p) for p in (0.3, 1e-6, 0.001)]
        [False, True, True]
    """

    def __init__(self, fdr: float = 0.01) -> None:
        super().__init__(fdr)
        self._found: list[int] = []
        self._first = 0

    @property
    def level(self) -> float:
        """See `_Rule`."""
        now, start = self.tests + 1, self.fdr / 2
        level = start * gamma(now)
        if self.discoveries:
            level += (self.fdr - start) * gamma(now - self._first)
        return level + self.fdr * float(_gammas(now - np.array(self._found, dtype=np.int64)).sum())

    def _decided(self, x: float, *, found: bool) -> None:
        del x
        if found and not self.discoveries:
            self._first = self.tests + 1
        elif found:
            self._found = [*self._found, self.tests + 1][-DISCOVERIES_MAX:]

    def _fields(self) -> dict[str, Any]:
        return {**super()._fields(), "first": self._first, "found": self._found}

    def _restore(self, fields: dict[str, Any]) -> None:
        super()._restore(fields)
        self._first, self._found = fields["first"], fields["found"]


class Saffron(_Rule):
    """SAFFRON: as `Lord`, but tests count only where they are no candidates. Memory: as there, two numbers each.

    Examples:
        >>> rule = Saffron(0.05)
        >>> [rule.learn_one(p) for p in (0.3, 1e-6, 0.001)]
        [False, True, True]
    """

    def __init__(self, fdr: float = 0.01) -> None:
        super().__init__(fdr)
        self._quiet = 0
        self._found: list[int] = []

    @property
    def level(self) -> float:
        """See `_Rule`."""
        start = self.fdr / 2
        level = start * gamma(self._quiet + 1)
        if self._found:
            earned = self.fdr * _gammas(self._quiet + 1 - np.array(self._found, dtype=np.int64))
            if self.discoveries == len(self._found):
                earned[0] *= (self.fdr - start) / self.fdr  # the first pays back what there was at the start
            level += float(earned.sum())
        return min(CANDIDATE, (1 - CANDIDATE) * level)

    def _decided(self, x: float, *, found: bool) -> None:
        self._quiet += x > CANDIDATE
        if found:
            self._found = [*self._found, self._quiet][-DISCOVERIES_MAX:]

    def _fields(self) -> dict[str, Any]:
        return {**super()._fields(), "quiet": self._quiet, "found": self._found}

    def _restore(self, fields: dict[str, Any]) -> None:
        super()._restore(fields)
        self._quiet, self._found = fields["quiet"], fields["found"]


def gamma(place: int) -> float:
    """Weights of the places 1, 2, …, which add up to less than 1."""
    return 0.76 / ((place + 1) * math.log(place + 2) ** 2)


def _gammas(places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    weights: npt.NDArray[np.float64] = 0.76 / ((places + 1) * np.log(places + 2.0) ** 2)
    return weights
