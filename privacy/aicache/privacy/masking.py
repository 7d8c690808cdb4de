"""The key-homomorphic mask: c_b = a_b·s + Δ·x_b + e_b in Z_q[X]/(X^N + 1) (Ring-LWE: Lyubashevsky, Peikert, Regev 2010).

Ciphertexts add up, and so do keys: the sum of ciphertexts opens with the sum of keys, and with that alone. A key masks one
vector, once: it is drawn for it and forgotten.
Encodings: a coefficient modulo 2^48 takes 6 bytes, little-endian; a vector is padded with zeros to whole blocks of N.
Public a_1 … a_B: the keystream of AES-256-CTR under SHA-256("aicache/a" ‖ rho), 6 bytes a coefficient.
Invariant: `open_sum` gives the exact integer sum or raises; the transform is exact by the bound in `rings`.
Pure: no clock, no I/O; entropy comes from the caller.
"""

import hashlib
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from aicache.privacy import rings
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.parameters import MaskParameters
from aicache.privacy.sampling import Stream, TableSampler, gaussian_table

BLOCKS_AT_ONCE = 16
"""Blocks a step: what is worked on stays in the processor's cache."""
CACHED_BLOCKS_MAX = 1024
"""Longer vectors (2 million coordinates) compute the public elements again each time instead of holding 32 MB of them."""
QUADS_AT_ONCE = 8192
"""Groups of four coefficients a step of adding, for the same reason."""
CLIENT_PIECES = 2
OPENING_PIECES = 3

_U16, _U32, _U48 = np.uint64(16), np.uint64(32), np.uint64(48)
_MASK48 = np.uint64((1 << 48) - 1)

IntVector = npt.NDArray[np.int64]
WordVector = npt.NDArray[np.uint64]


@cache
def _sampler(sigma: int, largest: int) -> TableSampler:
    return TableSampler(-largest, gaussian_table(sigma, largest))


def block_count(length: int, parameters: MaskParameters) -> int:
    """B: how many ring elements a vector takes."""
    if length < 1:
        raise LocalError("a vector has at least one coordinate", got=length, needed="≥ 1")
    return -(-length // parameters.ring_degree)


def packed_size(length: int, parameters: MaskParameters) -> int:
    """Size of a ciphertext in bytes, padding included."""
    return block_count(length, parameters) * parameters.ring_degree * parameters.modulus_bits // 8


def pack(coefficients: IntVector, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
    """Encode coefficients modulo 2^48, 6 bytes each, little-endian.

    Args:
        coefficients: shape (n,), int64 or uint64, n divisible by 4; bits above the 48th are dropped.
        out: where to write, shape (6n,), uint8.
    """
    words = coefficients.view(np.uint64).reshape(-1, 4)
    packed = np.empty(6 * coefficients.size, np.uint8) if out is None else out
    target = packed.view("<u8").reshape(-1, 3)
    low, high = words[:, 1], words[:, 2]
    target[:, 0] = (words[:, 0] & _MASK48) | (low << _U48)
    target[:, 1] = ((low & _MASK48) >> _U16) | (high << _U32)
    target[:, 2] = ((high & _MASK48) >> _U32) | (words[:, 3] << _U16)
    return packed


def _accumulate(total: WordVector, packed: bytes | memoryview, operation: np.ufunc) -> None:
    if total.dtype != np.uint64 or total.ndim != 1 or total.size % 4:
        raise LocalError("not a sum of ciphertexts", got=(total.dtype, total.shape), needed="uint64, whole blocks")
    if len(packed) != 6 * total.size:
        needed = 6 * total.size
        raise RemoteError("the ciphertext has the wrong size", reason="ciphertext-size", got=len(packed), needed=needed)
    words = np.frombuffer(packed, "<u8").reshape(-1, 3)
    lanes = total.reshape(-1, 4)
    for start in range(0, len(words), QUADS_AT_ONCE):
        target = lanes[start : start + QUADS_AT_ONCE]
        first, second, third = np.ascontiguousarray(words[start : start + QUADS_AT_ONCE].T)
        operation(target[:, 0], first, out=target[:, 0])
        first >>= _U48
        first |= second << _U16
        operation(target[:, 1], first, out=target[:, 1])
        second >>= _U32
        second |= third << _U32
        operation(target[:, 2], second, out=target[:, 2])
        third >>= _U16
        operation(target[:, 3], third, out=target[:, 3])


def add_packed(total: WordVector, packed: bytes | memoryview) -> None:
    """Add a ciphertext to a running sum, in place.

    Four coefficients are three 64-bit words; what they carry above the 48th bit falls away modulo 2^48, so nothing is masked.

    Args:
        total: shape (B·N,), uint64; its lower 48 bits are the sum, what is above has no meaning.
        packed: 6·B·N bytes.

    Raises:
        RemoteError: `ciphertext-size`; `total` is untouched.
    """
    _accumulate(total, packed, np.add)


def subtract_packed(total: WordVector, packed: bytes | memoryview) -> None:
    """Take a ciphertext out of a running sum, in place. As `add_packed`."""
    _accumulate(total, packed, np.subtract)


def public_elements(rho: bytes, start: int, stop: int, parameters: MaskParameters) -> WordVector:
    """a_start … a_(stop−1), counted from zero.

    Args:
        rho: the round's digest.
        start: the first element.
        stop: one past the last.
        parameters: the set.

    Returns:
        Shape (stop − start, N), uint64; the lower 48 bits are the coefficients, what is above has no meaning.
    """
    degree = parameters.ring_degree
    stream = Stream(hashlib.sha256(b"aicache/a" + rho).digest(), start * degree * 6 // 16)
    elements = np.zeros((stop - start) * degree, np.uint64)
    add_packed(elements, stream(6 * elements.size))
    return elements.reshape(-1, degree)


def _elements_split(
    rho: bytes, start: int, stop: int, count: int, parameters: MaskParameters
) -> list[rings.ComplexArray]:
    return rings.pieces(public_elements(rho, start, stop, parameters), count)


@lru_cache(maxsize=2)
def _cached_split(rho: bytes, blocks: int, parameters: MaskParameters) -> list[list[rings.ComplexArray]]:
    return [
        _elements_split(rho, start, min(start + BLOCKS_AT_ONCE, blocks), CLIENT_PIECES, parameters)
        for start in range(0, blocks, BLOCKS_AT_ONCE)
    ]


def sample_key(parameters: MaskParameters, entropy: ByteSource) -> IntVector:
    """A fresh mask key: N coefficients of a discrete Gaussian of `sigma`, within ±10σ.

    Args:
        parameters: the set.
        entropy: asked once, for a seed of 32 bytes.
    """
    return _sampler(parameters.sigma, parameters.key_max).draw(parameters.ring_degree, entropy)


def _check_message(message: IntVector, parameters: MaskParameters) -> None:
    if message.ndim != 1 or message.dtype != np.int64 or message.size == 0:
        got = (message.dtype, message.shape)
        raise LocalError("the message is not a vector of integers", got=got, needed="int64, one axis, not empty")
    bound = parameters.sum_bound
    if int(message.min()) <= -bound or int(message.max()) >= bound:
        raise LocalError("a coordinate does not fit", got="out of range", needed=f"magnitudes below {bound}")


def check_key(key: IntVector, largest: int, parameters: MaskParameters) -> None:
    """A key, or a sum of keys, has N integer coefficients within ±largest."""
    degree = parameters.ring_degree
    if key.shape != (degree,) or key.dtype != np.int64:
        raise LocalError("not a key", got=(key.dtype, key.shape), needed=f"int64, {degree} coefficients")
    if int(key.min()) < -largest or int(key.max()) > largest:
        raise LocalError("the key is out of range", got="out of range", needed=f"within ±{largest}")


def encrypt(message: IntVector, key: IntVector, rho: bytes, parameters: MaskParameters, entropy: ByteSource) -> bytes:
    """Mask a vector under a fresh key.

    Args:
        message: shape (d,), int64, magnitudes below `sum_bound`.
        key: what `sample_key` gave, used for this message alone.
        rho: the round's digest, which fixes the public elements.
        parameters: the set.
        entropy: for the errors; asked once, for a seed of 32 bytes.

    Returns:
        `packed_size(d, parameters)` bytes.

    Raises:
        LocalError: message or key have the wrong type or range.
    """
    _check_message(message, parameters)
    check_key(key, parameters.key_max, parameters)
    blocks = block_count(message.size, parameters)
    degree = parameters.ring_degree
    plain = _sampler(parameters.sigma, parameters.key_max).draw(blocks * degree, entropy)
    plain[: message.size] += message << np.int64(parameters.delta_bits)
    transformed = rings.transform(key)
    split = _cached_split(rho, blocks, parameters) if blocks <= CACHED_BLOCKS_MAX else None
    packed = np.empty(6 * plain.size, np.uint8)
    for index, start in enumerate(range(0, blocks, BLOCKS_AT_ONCE)):
        stop = min(start + BLOCKS_AT_ONCE, blocks)
        elements = split[index] if split else _elements_split(rho, start, stop, CLIENT_PIECES, parameters)
        masked = rings.multiply(elements, transformed, parameters.key_max, degree).reshape(-1)
        masked += plain[start * degree : stop * degree]
        pack(masked, packed[6 * start * degree : 6 * stop * degree])
    return packed.tobytes()


def open_sum(
    total: WordVector, key_sum: IntVector, senders: int, length: int, rho: bytes, parameters: MaskParameters
) -> IntVector:
    """The sum of the messages, exactly, or an error: a wrong sum of keys does not pass.

    Both the summed keys and what is left below a step have to stay within 8σ√n in every coefficient. An honest sum fails with a
    probability of 10⁻¹⁵ a coefficient. A false one differs from the true one by a nonzero polynomial d, and a·d would have to
    stay within Δ/2 of multiples of Δ in all coefficients of all blocks.

    Args:
        total: the added ciphertexts, shape (B·N,), uint64.
        key_sum: the added keys as the committee opened them, shape (N,), int64.
        senders: n, how many ciphertexts were added, members' vectors included.
        length: d, coordinates of the message.
        rho: the round's digest.
        parameters: the set.

    Returns:
        Shape (d,), int64.

    Raises:
        RemoteError: `remainder` where keys and ciphertexts do not belong together.
        LocalError: sizes or counts are out of order.
    """
    if not 1 <= senders <= parameters.senders_max:
        raise LocalError("senders out of range", got=senders, needed=f"1 … {parameters.senders_max}")
    blocks = block_count(length, parameters)
    degree = parameters.ring_degree
    if total.shape != (blocks * degree,) or total.dtype != np.uint64:
        raise LocalError(
            "not a sum of ciphertexts", got=(total.dtype, total.shape), needed=f"uint64, {blocks * degree}"
        )
    largest = parameters.prime // 2
    check_key(key_sum, largest, parameters)
    bound = parameters.remainder_bound(senders)
    key_largest = int(np.abs(key_sum).max())
    if key_largest > bound:
        raise RemoteError("the summed key is too large", reason="remainder", got=key_largest, needed=bound)
    transformed = rings.transform(key_sum)
    message = np.empty(blocks * degree, np.int64)
    shift, centre = np.int64(parameters.delta_bits), np.int64(64 - parameters.modulus_bits)
    half_step = np.int64(parameters.delta // 2)
    for start in range(0, blocks, BLOCKS_AT_ONCE):
        stop = min(start + BLOCKS_AT_ONCE, blocks)
        elements = _elements_split(rho, start, stop, OPENING_PIECES, parameters)
        masked = rings.multiply(elements, transformed, largest, degree).reshape(-1)
        plain = total[start * degree : stop * degree].view(np.int64) - masked
        plain <<= centre
        plain >>= centre
        rounded = (plain + half_step) >> shift
        plain -= rounded << shift
        worst = max(-int(plain.min()), int(plain.max()))
        if worst > bound:
            raise RemoteError(
                "keys and ciphertexts do not belong together", reason="remainder", got=worst, needed=bound
            )
        message[start * degree : stop * degree] = rounded
    return message[:length].copy()
