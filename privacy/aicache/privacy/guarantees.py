"""Guarantees of differential privacy as values that compose: pure, approximate, zero-concentrated, Rényi.

Pure epsilon (Dwork et al. 2006), (epsilon, delta) (Dwork et al. 2006b), rho-zCDP (Bun and Steinke 2016), Rényi divergences at
`accounting.ORDERS` (Mironov 2017). Composition is adaptive and sequential. Two guarantees compose only if they speak of the same
unit and the same neighbouring relation: what protects an answer says nothing of a client who gives ten.
Pure: no clock, no entropy, no I/O.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

from aicache.privacy.accounting import (
    ADD_OR_REMOVE,
    REPLACE_ONE,
    FloatVector,
    check_delta,
    check_epsilon,
    check_rdp,
    compose,
    epsilon_from_rdp,
    gaussian_rdp,
    pure_rdp,
)
from aicache.privacy.errors import LocalError


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a guarantee protects, and from which comparison."""

    unit: str
    neighbouring: str


CLIENT = Scope("client", ADD_OR_REMOVE)
ANSWER = Scope("answer", REPLACE_ONE)


@dataclass(frozen=True, slots=True)
class Pure:
    """The odds of any output change by at most exp(epsilon)."""

    epsilon: float
    scope: Scope = CLIENT

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)

    def rdp(self) -> FloatVector:
        """Rényi divergences."""
        return pure_rdp(self.epsilon)

    def at(self, delta: float) -> float:
        """The epsilon at this delta: never above the pure one."""
        return min(self.epsilon, epsilon_from_rdp(self.rdp(), delta))


@dataclass(frozen=True, slots=True)
class Approximate:
    """Pure epsilon but for a probability delta."""

    epsilon: float
    delta: float
    scope: Scope = CLIENT

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_delta(self.delta)


@dataclass(frozen=True, slots=True)
class Concentrated:
    """rho-zCDP: the Rényi divergence of order α is at most rho·α for every α."""

    rho: float
    scope: Scope = CLIENT

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rho) and self.rho > 0):
            raise LocalError("rho must be a finite number above 0", got=self.rho, needed=0)

    def rdp(self) -> FloatVector:
        """Rényi divergences."""
        return gaussian_rdp(math.sqrt(2 * self.rho))

    def at(self, delta: float) -> float:
        """The epsilon at this delta."""
        return epsilon_from_rdp(self.rdp(), delta)


@dataclass(frozen=True, slots=True)
class Renyi:
    """Rényi divergences at `accounting.ORDERS`."""

    divergences: tuple[float, ...]
    scope: Scope = CLIENT

    def __post_init__(self) -> None:
        check_rdp(list(self.divergences))

    def rdp(self) -> FloatVector:
        """Rényi divergences."""
        return check_rdp(list(self.divergences))

    def at(self, delta: float) -> float:
        """The epsilon at this delta."""
        return epsilon_from_rdp(self.rdp(), delta)


Guarantee: TypeAlias = Pure | Approximate | Concentrated | Renyi


def compose_guarantees(first: Guarantee, second: Guarantee) -> Guarantee:
    """What two mechanisms promise together, the second chosen in the light of the first's result.

    Like composes with like exactly. Others meet in Rényi divergences; with an approximate guarantee, which has none, the other is
    brought to (epsilon, delta) at the same delta first and both numbers add up.

    Raises:
        LocalError: the two speak of different units or neighbouring relations.
    """
    if first.scope != second.scope:
        raise LocalError("guarantees of different scope do not compose", got=second.scope, needed=first.scope)
    scope = first.scope
    if isinstance(first, Approximate):
        epsilon, delta = _approximate(second, first.delta)
        return Approximate(first.epsilon + epsilon, first.delta + delta, scope)
    if isinstance(second, Approximate):
        return compose_guarantees(second, first)
    if isinstance(first, Pure) and isinstance(second, Pure):
        return Pure(first.epsilon + second.epsilon, scope)
    if isinstance(first, Concentrated) and isinstance(second, Concentrated):
        return Concentrated(first.rho + second.rho, scope)
    return Renyi(tuple(float(value) for value in compose([first.rdp(), second.rdp()])), scope)


def _approximate(guarantee: Guarantee, delta: float) -> tuple[float, float]:
    if isinstance(guarantee, Approximate):
        return guarantee.epsilon, guarantee.delta
    if isinstance(guarantee, Pure):
        return guarantee.epsilon, 0.0
    return guarantee.at(delta), delta
