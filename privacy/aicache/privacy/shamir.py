"""Threshold sharing of small integer vectors (Shamir, CACM 1979).

Each coefficient is the value at zero of its own random polynomial over Z_p, all evaluated at once. The shares of members
1 … t−1 are chosen at random, which fixes the polynomials, and the others follow from them: so those first shares are 32-byte
seeds, and the rest take two bytes a coefficient.
Invariant: any `threshold` shares of a sum of secrets give the sum; fewer are independent of it.
Pure: no clock, no I/O; entropy comes from the caller.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.sampling import SEED_BYTES, Stream

PRIME = 65_521
"""The largest prime below 2^16: a share is two bytes a coefficient."""
SIZE = 2048
"""Coefficients of a key: N of every parameter set."""
MEMBERS_MAX = 64
SHARES_SUMMED_MAX = 2**40

IntVector = npt.NDArray[np.int64]
Residues = npt.NDArray[np.uint16]


def _coefficients(points: list[int], at: int) -> list[int]:
    """Lagrange's coefficients modulo p: f(at) = Σ coefficient_j · f(point_j) for every f of degree below len(points)."""
    result = []
    for point in points:
        upper = lower = 1
        for other in points:
            if other != point:
                upper = upper * (at - other) % PRIME
                lower = lower * (point - other) % PRIME
        result.append(upper * pow(lower, -1, PRIME) % PRIME)
    return result


def _interpolate(points: list[int], values: list[IntVector], at: int) -> IntVector:
    total = np.zeros(values[0].size, np.int64)
    for coefficient, value in zip(_coefficients(points, at), values, strict=True):
        total += value * np.int64(coefficient)  # at most 64 terms below 2^32
    return total % np.int64(PRIME)


def _check_counts(threshold: int, members: int) -> None:
    if not 1 <= threshold <= members <= MEMBERS_MAX:
        needed = f"1 ≤ threshold ≤ members ≤ {MEMBERS_MAX}"
        raise LocalError("the counts are out of order", got=(threshold, members), needed=needed)


def expand_seed(seed: bytes, size: int = SIZE) -> Residues:
    """Uniform residues from a seed, without bias.

    The keystream of AES-256-CTR under the seed is read as 16-bit words, little-endian; words from p on are skipped.

    Args:
        seed: 32 bytes.
        size: how many residues.

    Returns:
        Shape (size,), uint16, each below p.
    """
    stream = Stream(seed)
    found = np.empty(0, np.uint16)
    while found.size < size:  # ends: a word is skipped with a probability of 1/4369
        words = np.frombuffer(stream(2 * (size - found.size)), "<u2")
        found = np.concatenate([found, words[words < PRIME]])
    return found.astype(np.uint16, copy=False)


def split(secret: IntVector, threshold: int, members: int, entropy: ByteSource) -> list[bytes]:
    """Share a vector so that any `threshold` of `members` can open it.

    Args:
        secret: centred integers, shape (n,), dtype int64, each within ±(p − 1) // 2; n is not 16, as two bytes for each of 16
            residues could not be told from a seed.
        threshold: how many shares open it, 1 ≤ threshold ≤ members.
        members: how many shares to make, at most 64.
        entropy: asked threshold − 1 times, for a seed of 32 bytes; reusing them for another secret reveals the difference.

    Returns:
        One encoded share a member, at the points 1 … members: a seed of 32 bytes for the first threshold − 1, for the others the
        residues, two bytes each, little-endian.

    Raises:
        LocalError: a coefficient does not fit the field, or the counts are out of order.
    """
    _check_counts(threshold, members)
    half = PRIME // 2
    if secret.ndim != 1 or secret.dtype != np.int64 or secret.size in (0, SEED_BYTES // 2):
        needed = f"int64, one axis, not {SEED_BYTES // 2} long"
        raise LocalError("not a secret", got=(secret.dtype, secret.shape), needed=needed)
    if int(secret.min()) < -half or int(secret.max()) > half:
        raise LocalError("a coefficient does not fit the field", got="out of range", needed=f"within ±{half}")
    seeds = [entropy(SEED_BYTES) for _ in range(threshold - 1)]
    values = [secret % np.int64(PRIME), *(expand_seed(seed, secret.size).astype(np.int64) for seed in seeds)]
    points = list(range(threshold))
    shares = (_interpolate(points, values, member) for member in range(threshold, members + 1))
    return seeds + [share.astype("<u2").tobytes() for share in shares]


def expand(encoded: bytes, size: int = SIZE) -> Residues:
    """The residues of an encoded share.

    Args:
        encoded: 32 bytes (a seed) or 2·size bytes.
        size: coefficients of the secret.

    Returns:
        Shape (size,), uint16, each below p.

    Raises:
        RemoteError: `bad-share`: the size is wrong, or a word is not a residue.
    """
    if len(encoded) == SEED_BYTES:
        return expand_seed(encoded, size)
    if len(encoded) != 2 * size:
        needed = (SEED_BYTES, 2 * size)
        raise RemoteError("the share has the wrong size", reason="bad-share", got=len(encoded), needed=needed)
    residues = np.frombuffer(encoded, "<u2").astype(np.uint16)
    if int(residues.max()) >= PRIME:
        raise RemoteError(
            "the share is not of the field", reason="bad-share", got="a word from p on", needed=f"below {PRIME}"
        )
    return residues


class ShareSum:
    """The running sum of one member's shares over a group.

    Args:
        size: coefficients of a secret.
    """

    __slots__ = ("_total", "count")

    def __init__(self, size: int = SIZE) -> None:
        self._total = np.zeros(size, np.uint64)
        self.count = 0

    def add(self, share: Residues) -> None:
        """Add the residues of one sender.

        Raises:
            LocalError: they have the wrong type or size, or too many were added; the sum is untouched.
        """
        if share.dtype != np.uint16 or share.shape != self._total.shape:
            raise LocalError(
                "not a share", got=(share.dtype, share.shape), needed=f"uint16, {self._total.size} residues"
            )
        if self.count >= SHARES_SUMMED_MAX:
            raise LocalError("too many shares", got=self.count, needed=f"below {SHARES_SUMMED_MAX}")
        self._total += share
        self.count += 1

    def residues(self) -> Residues:
        """The sum modulo p, shape (size,), uint16."""
        return (self._total % np.uint64(PRIME)).astype(np.uint16)


def combine(shares: Mapping[int, Residues], threshold: int) -> IntVector:
    """The secret, or sum of secrets, from a subset of the members' shares.

    Args:
        shares: exactly `threshold` shares (or sums of shares) by member number, 1 …; all of one size, uint16, below p.
        threshold: how many it takes.

    Returns:
        Centred integers, shape (n,), int64, within ±(p − 1) // 2.

    Raises:
        LocalError: another number of shares than the threshold, or impossible members.
        RemoteError: `bad-share`: sizes differ or a word is not a residue.
    """
    points = sorted(shares)
    if len(points) != threshold or threshold < 1 or points[0] < 1 or points[-1] > MEMBERS_MAX:
        needed = f"{threshold} of the members 1 … {MEMBERS_MAX}"
        raise LocalError("not a subset that opens", got=points, needed=needed)
    sizes = {share.shape for share in shares.values()}
    if len(sizes) != 1:
        raise RemoteError("shares of different sizes", reason="bad-share", got=sorted(sizes), needed="one size")
    if any(int(share.max()) >= PRIME for share in shares.values()):
        raise RemoteError(
            "the share is not of the field", reason="bad-share", got="a word from p on", needed=f"below {PRIME}"
        )
    value = _interpolate(points, [shares[point].astype(np.int64) for point in points], 0)
    return np.where(value > PRIME // 2, value - PRIME, value)
