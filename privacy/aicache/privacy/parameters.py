"""Frozen parameter sets of the mask, and the rules that keep a round inside them (docs/decisions, "Parameters of the mask").

A set is chosen by name and never assembled at run time. Invariants, checked when a set is made: the errors of all senders
together stay below half a step (8σ√n < Δ/2), so a false sum of keys cannot pass for a true one; sums of keys fit the sharing
field (8σ√n < p/2); products stay inside what the floating-point transform multiplies exactly (`rings`). The lattice security of
N, q and σ is recomputed by `benchmarks/lattice_security.py`.
Pure: no clock, no entropy, no I/O.
"""

import math
from dataclasses import dataclass

from aicache.privacy.errors import LocalError, RemoteError

TAIL_SIGMAS = 8
"""An honest coefficient of a sum leaves ±8σ√n with probability 10⁻¹⁵."""
KEY_SIGMAS_MAX = 10
"""Single coefficients of keys and errors end at ±10σ: the exact tail beyond is below 2⁻⁷³ and not representable."""
NOISE_SIGMAS = 12
"""Room for the noise in a sum, in units of its total σ."""


@dataclass(frozen=True, slots=True)
class MaskParameters:
    """One set. Use `N10K` or `N60K`.

    Args:
        name: what proposals call it.
        senders_max: how many ciphertexts may be added: clients and members' vectors.
        delta_bits: a message is scaled by Δ = 2^delta_bits, which leaves room for the errors below it.
        ring_degree: N of R_q = Z_q[X]/(X^N + 1).
        modulus_bits: q = 2^modulus_bits.
        sigma: of key and error coefficients, discrete Gaussian.
        prime: p of the sharing field.
    """

    name: str
    senders_max: int
    delta_bits: int
    ring_degree: int = 2048
    modulus_bits: int = 48
    sigma: int = 16
    prime: int = 65_521

    def __post_init__(self) -> None:
        if self.ring_degree < 2048 or self.ring_degree & (self.ring_degree - 1):
            raise LocalError(
                "the ring degree is not safe", got=self.ring_degree, needed="a power of two, at least 2048"
            )
        if self.modulus_bits != 48 or self.sigma != 16:
            raise LocalError("no security estimate for this", got=(self.modulus_bits, self.sigma), needed=(48, 16))
        if self.prime != 65_521:
            raise LocalError("shares take two bytes a coefficient", got=self.prime, needed=65_521)
        errors_max = self.remainder_bound(self.senders_max)
        half_step = min(self.delta // 2, self.prime // 2)
        if self.senders_max < 1 or errors_max >= half_step:
            raise LocalError("the senders' errors do not stay below half a step", got=errors_max, needed=half_step - 1)

    @property
    def modulus(self) -> int:
        """The modulus q of the ring."""
        return 1 << self.modulus_bits

    @property
    def delta(self) -> int:
        """Δ, the step between two messages."""
        return 1 << self.delta_bits

    @property
    def key_max(self) -> int:
        """The largest coefficient, by magnitude, of one key or error: 10σ."""
        return KEY_SIGMAS_MAX * self.sigma

    @property
    def sum_bound(self) -> int:
        """Messages and their sum have magnitudes below this, q/(2Δ): the errors then do not carry them across ±q/2."""
        return 1 << (self.modulus_bits - 1 - self.delta_bits)

    def remainder_bound(self, senders: int) -> int:
        """⌊8σ√n⌋: how large a coefficient of the summed keys, or of the summed errors, may be.

        Args:
            senders: n, how many ciphertexts were added, at least 0.
        """
        return math.isqrt((TAIL_SIGMAS * self.sigma) ** 2 * senders)


N10K = MaskParameters("n10k", senders_max=10_000, delta_bits=15)
N60K = MaskParameters("n60k", senders_max=60_000, delta_bits=16)

_SETS = {parameters.name: parameters for parameters in (N10K, N60K)}


def by_name(name: str) -> MaskParameters:
    """The frozen set that a proposal names.

    Raises:
        RemoteError: `unknown-parameters`.
    """
    if name not in _SETS:
        raise RemoteError("not a parameter set", reason="unknown-parameters", got=name, needed=sorted(_SETS))
    return _SETS[name]


def quorum(members: int, threshold: int) -> int:
    """The quorum k = ⌊(m + t − 1)/2⌋ + 1: two quorums share a member that is not among any t − 1.

    Two sets of k members overlap in at least 2k − m ≥ t of them, so t − 1 dishonest ones never vote for two manifests alone.
    k − t + 1 honest members are in every quorum.

    Args:
        members: m.
        threshold: t, with 1 ≤ t ≤ m; k ≤ m follows.

    Raises:
        LocalError: the counts are out of order.
    """
    if not 1 <= threshold <= members:
        raise LocalError("the threshold is out of order", got=(members, threshold), needed="1 ≤ threshold ≤ members")
    return (members + threshold - 1) // 2 + 1


def check_round_fits(
    parameters: MaskParameters, *, n_max: int, scale: float, clip: float, sigma_total: float, members: int = 0
) -> None:
    """The sum of a round cannot wrap around: n_max (scale · C + 1) + 12 σ_total stays below `sum_bound`.

    Checked once, when a round opens, so that data never makes a client refuse later. Stochastic rounding moves a coordinate by
    less than one, and a coordinate of a clipped vector is at most scale · C.

    Args:
        parameters: the set.
        n_max: the most clients that the round takes.
        scale: integers a unit.
        clip: C, the L2 bound before scaling.
        sigma_total: σ of all noise in the sum with every sender present, in integers.
        members: senders besides the clients, which count for the errors.

    Raises:
        RemoteError: `round-does-not-fit`.
    """
    numbers = (scale, clip, sigma_total)
    if n_max < 1 or members < 0 or not all(map(math.isfinite, numbers)) or scale <= 0 or clip <= 0 or sigma_total < 0:
        got = (n_max, members, *numbers)
        needed = "n_max ≥ 1, scale > 0, clip > 0, sigma_total ≥ 0, all finite"
        raise RemoteError("the round's numbers make no sense", reason="round-does-not-fit", got=got, needed=needed)
    if n_max + members > parameters.senders_max:
        senders, most = n_max + members, parameters.senders_max
        raise RemoteError("too many senders", reason="round-does-not-fit", got=senders, needed=most)
    largest = n_max * (scale * clip + 1) + NOISE_SIGMAS * sigma_total
    if largest >= parameters.sum_bound:
        needed = f"below {parameters.sum_bound}"
        raise RemoteError("the sum could wrap around", reason="round-does-not-fit", got=largest, needed=needed)
