"""Exact draws from a tabulated law over integers, from a stream cipher's words.

A draw is a 64-bit uniform number compared with the law's cumulative table. Its upper 16 bits decide nearly always (a guide table:
Chen and Asau, AIIE Transactions 1974); only where a step of the table falls into the cell that they name, 48 bits more are read
and searched for. What comes out is the same as with a full search, to the last bit.
Invariant: each probability is off by at most 2⁻⁶⁴, so a draw is within K·2⁻⁶⁵ of its law in total variation, K the table's size.
Pure: no clock, no I/O; a seed of 32 bytes a stream comes from the caller. Side channel left: which cells are looked up in the
cache, and how many draws need the second word.
"""

from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from aicache.privacy.entropy import ByteSource

SEED_BYTES = 32
_GUIDE_BITS = 16
_REST_BITS = 48
_UNDECIDED = np.iinfo(np.int32).min

IntVector = npt.NDArray[np.int64]


class Stream:
    """The keystream of AES-256 in counter mode (NIST SP 800-38A) under a seed, counter from zero: a `ByteSource`.

    Args:
        seed: 32 uniform bytes, used for this stream alone.
        block: the 16-byte block at which to start.
    """

    __slots__ = ("_encryptor",)

    def __init__(self, seed: bytes, block: int = 0) -> None:
        self._encryptor = Cipher(AES256(seed), CTR(block.to_bytes(16, "big"))).encryptor()

    def __call__(self, size: int) -> bytes:
        """The next `size` bytes."""
        return self._encryptor.update(bytes(size))


class TableSampler:
    """Draws from a law with finite support.

    Args:
        first: the smallest outcome; the next are first + 1, first + 2, …
        cumulative: for every outcome but the last, the probability of it or a smaller one in units of 2⁻⁶⁴, rising.
    """

    __slots__ = ("_first", "_guide", "cumulative")

    def __init__(self, first: int, cumulative: list[int]) -> None:
        self._first = first
        self.cumulative = np.array(cumulative, np.uint64)
        cells = np.arange(1 << _GUIDE_BITS, dtype=np.uint64) << np.uint64(_REST_BITS)
        low = np.searchsorted(self.cumulative, cells, side="right")
        high = np.searchsorted(self.cumulative, cells + np.uint64((1 << _REST_BITS) - 1), side="right")
        self._guide = np.where(low == high, low + first, _UNDECIDED).astype(np.int32)

    def draw(self, size: int, entropy: ByteSource) -> IntVector:
        """Independent draws.

        Args:
            size: how many.
            entropy: asked once, for a seed of 32 bytes. Its stream gives the 16-bit words of all draws, little-endian, and then
                a 64-bit word, of which the lower 48 count, for each draw that they leave undecided, in order.
        """
        stream = Stream(entropy(SEED_BYTES))
        words = np.frombuffer(stream(2 * size), "<u2")
        drawn = self._guide.take(words).astype(np.int64)
        open_draws = np.flatnonzero(drawn == _UNDECIDED)
        rest = np.frombuffer(stream(8 * len(open_draws)), "<u8") & np.uint64((1 << _REST_BITS) - 1)
        full = (words[open_draws].astype(np.uint64) << np.uint64(_REST_BITS)) | rest
        drawn[open_draws] = np.searchsorted(self.cumulative, full, side="right") + self._first
        return drawn


def gaussian_table(sigma: int, largest: int) -> list[int]:
    """The cumulative table of the discrete Gaussian on −largest … largest: weights exp(−x²/2σ²), in 60 digits, rounded down.

    Args:
        sigma: the parameter of the law.
        largest: where the support ends.

    Returns:
        2·largest numbers in units of 2⁻⁶⁴, for a `TableSampler` that starts at −largest.
    """
    with localcontext() as context:
        context.prec = 60
        weights = [(Decimal(-x * x) / (2 * sigma * sigma)).exp() for x in range(-largest, largest + 1)]
        total = sum(weights)
        below, table = Decimal(0), []
        for weight in weights[:-1]:
            below += weight
            table.append(min(int(below * 2**64 / total), 2**64 - 1))
    return table
