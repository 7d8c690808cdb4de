"""What a guarantee costs, in Rényi differential privacy (Mironov, CSF 2017), and what rounds add up to.

Sums of discrete Gaussians are accounted for as what they are (Kairouz, Liu, Steinke, ICML 2021, arXiv 2102.06387, section 4),
not as one Gaussian; the conversion to (epsilon, delta) is the tight one of Canonne, Kamath, Steinke (arXiv 2004.00010,
proposition 12). Rounds compose by adding their Rényi divergences order by order, so a ledger is a vector of 48 numbers.

Two neighbouring relations, never mixed: `add-or-remove` compares a client's vector with zeros in its place (the manifest names
who took part, so presence itself is public); `replace-one` compares it with any other vector, at twice the sensitivity.
Amplification by subsampling is not offered: the log shows who took part, so no sampling here is secret.
Pure: no clock, no entropy, no I/O; NumPy and arithmetic only (dp-accounting imports in two seconds; tests compare with it).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError
from aicache.privacy.parameters import quorum

FloatVector: TypeAlias = NDArray[np.float64]

ORDERS: FloatVector = np.round(1 + np.geomspace(0.1, 1000.0, 48), 4)
"""Rényi orders at which all guarantees and ledgers are kept: 1.1 to 1,001, the step between two costs epsilon under 1%."""
ORDERS.flags.writeable = False

SIGMA_SHARE_MIN = 2.0  # below it, τ is no longer negligible and sums of discrete Gaussians are no longer nearly one
EPSILON_MAX = 1e6

COMMITTEE = "committee"
CLIENTS = "clients"
ADD_OR_REMOVE = "add-or-remove"
REPLACE_ONE = "replace-one"


# ---------------------------------------------------------------- divergences


def gaussian_sum_rdp(*, sensitivity: float, sigma_share: float, shares: int, length: int) -> FloatVector:
    """Rényi divergence of a sum that carries `shares` independent discrete Gaussians.

    RDP(α) = min{αΔ²/(2hσ²) + τd, (α/2)(Δ/(√h σ) + √d τ)²} with τ = 10 Σ_{k<h} exp(-2π²σ²k/(k+1))
    (Kairouz, Liu, Steinke 2021, proposition 14). One share has τ = 0: exactly the discrete Gaussian's Δ²/2σ² zCDP.

    Args:
        sensitivity: Δ, L2, of the integers (after clipping, scaling and rounding).
        sigma_share: σ of each share, at least 1/2 (the theorem's condition).
        shares: h, how many shares are certainly there; those of dishonest parties do not count.
        length: d, coordinates of the vector.

    Returns:
        Divergences at `ORDERS`, shape (48,), dtype float64.

    Raises:
        LocalError: an argument is out of range.
    """
    _require("sensitivity must be a finite number above 0", sensitivity, math.isfinite(sensitivity) and sensitivity > 0)
    _require("sigma of a share must be finite and at least 1/2", sigma_share, 0.5 <= sigma_share < math.inf)
    _require("the number of shares must be at least 1", shares, shares >= 1)
    _require("the length must be at least 1", length, length >= 1)
    tau = share_tau(sigma_share, shares)
    ratio = sensitivity / (math.sqrt(shares) * sigma_share)
    additive = ORDERS * (ratio * ratio / 2) + tau * length
    multiplicative = ORDERS / 2 * (ratio + math.sqrt(length) * tau) ** 2
    return np.minimum(additive, multiplicative)


def share_tau(sigma_share: float, shares: int) -> float:
    """τ of Kairouz, Liu, Steinke: how far h discrete Gaussians are from one, 10 Σ_{k=1}^{h-1} exp(-2π²σ²k/(k+1)).

    Terms fall with k, so each of those from k = 64 on is at most the one at 64: the sum is exact to there and bounded beyond.
    """
    exponent = -2 * math.pi**2 * sigma_share**2
    terms = [math.exp(exponent * k / (k + 1)) for k in range(1, min(shares, 65))]
    beyond = max(0, shares - 65) * terms[-1] if terms else 0.0
    return 10 * (math.fsum(terms) + beyond)


def gaussian_rdp(ratio: float) -> FloatVector:
    """Divergences of one Gaussian, continuous or discrete: α·ratio²/2 with ratio = sensitivity / sigma."""
    return ORDERS * (ratio * ratio / 2)


def pure_rdp(epsilon: float) -> FloatVector:
    """Divergences of a mechanism with pure epsilon: min(ε, αε²/2) (Bun and Steinke 2016, proposition 3.3)."""
    return np.minimum(epsilon, ORDERS * (epsilon * epsilon / 2))


def compose(parts: Iterable[FloatVector]) -> FloatVector:
    """What several mechanisms cost together, also when each was chosen after seeing the others' results."""
    total = np.zeros(len(ORDERS))
    for part in parts:
        total = total + check_rdp(part)
    return total


def check_rdp(rdp: FloatVector | list[float]) -> FloatVector:
    """The divergences as an array, refused if they are not one non-negative number an order (infinity is allowed)."""
    array = np.asarray(rdp, dtype=np.float64)
    if array.shape != ORDERS.shape or np.isnan(array).any() or (array < 0).any():
        raise LocalError(
            "a Rényi ledger holds one number ≥ 0 an order", got=array.shape, needed=(ORDERS.shape, "all ≥ 0, none NaN")
        )
    return array


def epsilon_from_rdp(rdp: FloatVector | list[float], delta: float) -> float:
    """The smallest epsilon that these divergences prove at this delta.

    ε = min over α of RDP(α) + ln((α-1)/α) - (ln δ + ln α)/(α-1), never below 0 (proposition 12 of arXiv 2004.00010).

    Raises:
        LocalError: delta is not strictly between 0 and 1, or the divergences are malformed.
    """
    check_delta(delta)
    divergence = check_rdp(rdp)
    epsilon = divergence + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(epsilon.min()))


def delta_from_rdp(rdp: FloatVector | list[float], epsilon: float) -> float:
    """The smallest delta that these divergences prove at this epsilon (same proposition)."""
    check_epsilon(epsilon)
    divergence = check_rdp(rdp)
    log_delta = (ORDERS - 1) * (divergence - epsilon + np.log1p(-1 / ORDERS)) - np.log(ORDERS)
    return min(1.0, math.exp(min(0.0, float(log_delta.min()))))


# ---------------------------------------------------------------- rounds


@dataclass(frozen=True, slots=True)
class RoundGuarantee:
    """A guarantee as it is published; the fields are those of the Guarantee record."""

    mechanism: str
    noise: str
    unit: str
    neighbouring: str
    window: str
    epsilon: float
    delta: float
    sensitivity: float
    sigma: float
    honest: int
    rdp: list[float]


def honest_shares(noise: str, members: int, threshold: int, honest: int) -> int:
    """How many parties are certain to add their share: k - t + 1 members of any k, or the h clients that a task assumes.

    Raises:
        LocalError: unknown kind of noise, or counts out of order.
    """
    if noise == COMMITTEE:
        return quorum(members, threshold) - threshold + 1
    if noise == CLIENTS:
        _require("noise by the clients needs at least 1 honest client", honest, honest >= 1)
        return honest
    raise LocalError("noise is added by the committee or by the clients", got=noise, needed=(COMMITTEE, CLIENTS))


def share_sigma(noise: str, sigma: float, members: int, threshold: int, honest: int) -> float:
    """σ of the noise that one party adds so that the honest ones together add `sigma`.

    Args:
        noise: `committee` (each member's vector has σ²/(k-t+1)) or `clients` (each client's has σ²/h).
        sigma: σ planned for the sum, integer grid.
        members: m, of the committee.
        threshold: t, how many members open a sum.
        honest: h; only for `clients`.

    Raises:
        LocalError: sigma is not positive and finite, a share would be under 2, or the counts are out of order.
    """
    _require("sigma must be a finite number above 0", sigma, math.isfinite(sigma) and sigma > 0)
    share = sigma / math.sqrt(honest_shares(noise, members, threshold, honest))
    _require("sigma of one share must be at least 2: raise the scale", share, share >= SIGMA_SHARE_MIN)
    return share


def total_sigma(noise: str, sigma: float, members: int, threshold: int, honest: int, senders: int) -> float:
    """σ of all the noise in a sum to which every party adds its share: what the room for the sum is planned by.

    Args:
        noise: who adds it.
        sigma: σ planned for the sum.
        members: m, of the committee.
        threshold: t, how many members open a sum.
        honest: h; only for `clients`.
        senders: clients of the sum; where room is planned, the most that it may have.

    Raises:
        LocalError: as `share_sigma`.
    """
    parties = members if noise == COMMITTEE else senders
    return share_sigma(noise, sigma, members, threshold, honest) * math.sqrt(parties)


def check_round(*, noise: str, honest: int, n_min: int, n_max: int, delta: float) -> None:
    """Refuse a round whose guarantee could not hold for the smallest or the largest number of clients it admits.

    Noise by the clients counts on h honest ones among those that are in the sum, so a sum of fewer than h has less noise than
    is stated; and a delta of 1/n allows one of n clients to be published outright.

    Args:
        noise: who adds it.
        honest: h, the honest clients assumed; only for `clients`.
        n_min: the fewest clients of a sum (of each group, where there are groups).
        n_max: the most clients of the round.
        delta: of the guarantee.

    Raises:
        LocalError: n_min is below h, or delta is not below 1/n_max, or a number is out of range.
    """
    _require("a round has at least one client, and n_max is at least n_min", (n_min, n_max), 1 <= n_min <= n_max)
    check_delta(delta, n_max)
    if noise == CLIENTS:
        _require(f"noise by the clients needs n_min of at least h = {honest}", n_min, n_min >= honest)


def round_guarantee(
    *,
    noise: str,
    sensitivity: float,
    sigma: float,
    members: int,
    threshold: int,
    honest: int,
    length: int,
    delta: float,
    neighbouring: str = ADD_OR_REMOVE,
) -> RoundGuarantee:
    """The guarantee of one opened sum, for one client, against everyone who sees the sum.

    Args:
        noise: who adds it: `committee` or `clients`.
        members: m, of the committee.
        threshold: t, how many members open a sum.
        honest: h, the honest clients assumed; only for `clients`.
        sensitivity: L2, add-or-remove, integer grid; `replace-one` doubles it here.
        sigma: σ planned for the sum; more may be in it, never less.
        length: coordinates of the vector.
        delta: strictly between 0 and 1; should be below 1/n.
        neighbouring: `add-or-remove` or `replace-one`.

    Raises:
        LocalError: an argument is out of range.
    """
    check_delta(delta)
    whole = neighbouring_sensitivity(sensitivity, neighbouring)
    shares = honest_shares(noise, members, threshold, honest)
    share = share_sigma(noise, sigma, members, threshold, honest)
    rdp = gaussian_sum_rdp(sensitivity=whole, sigma_share=share, shares=shares, length=length)
    return RoundGuarantee(
        mechanism="discrete-gaussian-sum",
        noise=noise,
        unit="client",
        neighbouring=neighbouring,
        window="round",
        epsilon=epsilon_from_rdp(rdp, delta),
        delta=delta,
        sensitivity=whole,
        sigma=sigma,
        honest=shares,
        rdp=[float(value) for value in rdp],
    )


def window_guarantee(last: RoundGuarantee, rdp: FloatVector | list[float], window: str) -> RoundGuarantee:
    """The guarantee of all rounds of a window together: that of the last round, with the added-up divergences.

    Args:
        last: the newest round's guarantee (mechanism, delta and unit are taken from it).
        rdp: added up over the rounds of the window, the last one included.
        window: what they span, for example `task:tags`.
    """
    total = check_rdp(rdp)
    return RoundGuarantee(
        mechanism=last.mechanism,
        noise=last.noise,
        unit=last.unit,
        neighbouring=last.neighbouring,
        window=window,
        epsilon=epsilon_from_rdp(total, last.delta),
        delta=last.delta,
        sensitivity=last.sensitivity,
        sigma=last.sigma,
        honest=last.honest,
        rdp=[float(value) for value in total],
    )


def neighbouring_sensitivity(sensitivity: float, neighbouring: str) -> float:
    """The sensitivity under a neighbouring relation, from that of add-or-remove (a vector against zeros).

    Replacing one vector by another moves the sum by at most twice as much.
    """
    if neighbouring == ADD_OR_REMOVE:
        return sensitivity
    if neighbouring == REPLACE_ONE:
        return 2 * sensitivity
    raise LocalError("unknown neighbouring relation", got=neighbouring, needed=(ADD_OR_REMOVE, REPLACE_ONE))


# ---------------------------------------------------------------- planning


def noise_multiplier(epsilon: float, delta: float, rounds: int = 1) -> float:
    """The smallest σ/Δ with which `rounds` Gaussian rounds together cost at most (epsilon, delta), to 10^-6 relative.

    τ is left out: with shares of σ ≥ 2 it changes epsilon by less than 10^-9 up to 10^7 coordinates.

    Raises:
        LocalError: epsilon or delta out of range, or no round.
    """
    check_epsilon(epsilon)
    check_delta(delta)
    _require("there must be at least one round", rounds, rounds >= 1)

    def spent(multiplier: float) -> float:
        return epsilon_from_rdp(rounds * gaussian_rdp(1 / multiplier), delta)

    low, high = 1e-6, 1e9
    _require("this epsilon is out of reach: lower it or raise delta", epsilon, spent(high) <= epsilon < spent(low))
    while high / low > 1 + 1e-6:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle) <= epsilon else (middle, high)
    return high


# ---------------------------------------------------------------- checks


def check_epsilon(epsilon: float) -> None:
    """Refuse an epsilon that is not a finite number above 0, or so large that it protects nobody."""
    _require("epsilon must be above 0 and at most 10^6", epsilon, 0 < epsilon <= EPSILON_MAX)


def check_delta(delta: float, n: int | None = None) -> None:
    """Refuse a delta outside (0, 1), or one that lets a single one of `n` clients be published outright."""
    _require("delta must be strictly between 0 and 1", delta, 0 < delta < 1)
    if n is not None:
        _require(f"delta must be below 1/n, with n = {n}", delta, delta * n < 1)


def _require(message: str, got: object, holds: bool) -> None:
    if not holds:
        raise LocalError(f"{message}; got {got!r}", got=got, needed=message)
