"""The mask, the sharing and the rounding once more, in plain integers: slow, short, and written from the specification.

Nothing here is shared with the product but AES, SHA-256 and the constants of the specification.
"""

import hashlib
import math
from bisect import bisect_right
from decimal import Decimal, getcontext
from functools import cache

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

N, Q, P, SIGMA, LARGEST = 2048, 1 << 48, 65_521, 16, 160
SLOT_BITS = 112  # a product's coefficient is below 2048 · 2^96 = 2^107


def keystream(seed: bytes, size: int) -> bytes:
    return Cipher(AES256(seed), CTR(bytes(16))).encryptor().update(bytes(size))


def words(data: bytes, size: int) -> list[int]:
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]


def centred(value: int, modulus: int) -> int:
    return (value + modulus // 2) % modulus - modulus // 2


def schoolbook(a: list[int], b: list[int], modulus: int) -> list[int]:
    n, product = len(a), [0] * len(a)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[(i + j) % n] += x * y if i + j < n else -x * y
    return [value % modulus for value in product]


def multiply(a: list[int], b: list[int]) -> list[int]:
    """Negacyclic product modulo q by one product of big integers (Kronecker 1882)."""
    slot, n = SLOT_BITS // 8, len(a)
    x, y = (int.from_bytes(b"".join((v % Q).to_bytes(slot, "little") for v in f), "little") for f in (a, b))
    whole = words((x * y).to_bytes(2 * n * slot, "little"), slot)
    return [(whole[k] - whole[k + n]) % Q for k in range(n)]


@cache
def gaussian_table() -> list[int]:
    getcontext().prec = 90
    weights = [(Decimal(-x * x) / (2 * SIGMA * SIGMA)).exp() for x in range(-LARGEST, LARGEST + 1)]
    total = sum(weights)
    return [int(sum(weights[:count]) * 2**64 / total) for count in range(1, len(weights))]


def gaussian(seed: bytes, size: int) -> list[int]:
    """Inverse of the cumulative table; the stream gives 16 bits for each draw, then 48 for those that need them."""
    table = gaussian_table()
    stream = keystream(seed, 10 * size)
    rest = iter(words(stream[2 * size :], 8))
    drawn = []
    for word in words(stream[: 2 * size], 2):
        low, high = word << 48, (word << 48) + (1 << 48) - 1
        if bisect_right(table, low) != bisect_right(table, high):
            low += next(rest) % (1 << 48)
        drawn.append(bisect_right(table, low) - LARGEST)
    return drawn


def public_elements(rho: bytes, blocks: int) -> list[list[int]]:
    stream = keystream(hashlib.sha256(b"aicache/a" + rho).digest(), blocks * N * 6)
    flat = words(stream, 6)
    return [flat[start : start + N] for start in range(0, blocks * N, N)]


def encrypt(message: list[int], key: list[int], rho: bytes, delta: int, seed: bytes) -> bytes:
    blocks = -(-len(message) // N)
    padded = message + [0] * (blocks * N - len(message))
    errors = gaussian(seed, blocks * N)
    masked = [value for a in public_elements(rho, blocks) for value in multiply(a, key)]
    sums = zip(masked, padded, errors, strict=True)
    return b"".join(((m + delta * x + e) % Q).to_bytes(6, "little") for m, x, e in sums)


def add(ciphertexts: list[bytes]) -> list[int]:
    return [sum(column) % Q for column in zip(*(words(c, 6) for c in ciphertexts), strict=True)]


def open_sum(
    total: list[int], key_sum: list[int], senders: int, length: int, rho: bytes, delta: int
) -> list[int] | None:
    """None where the sum is refused."""
    bound = math.isqrt(64 * SIGMA**2 * senders)
    masked = [value for a in public_elements(rho, len(total) // N) for value in multiply(a, key_sum)]
    plain = [centred(c - m, Q) for c, m in zip(total, masked, strict=True)]
    message = [(value + delta // 2) // delta for value in plain]
    left = [value - delta * x for value, x in zip(plain, message, strict=True)]
    if max(map(abs, key_sum)) > bound or max(map(abs, left)) > bound:
        return None
    return message[:length]


def expand_seed(seed: bytes, size: int) -> list[int]:
    return [word for word in words(keystream(seed, 4 * size), 2) if word < P][:size]


def interpolate(points: dict[int, int], at: int) -> int:
    total = 0
    for x, y in points.items():
        for other in points:
            if other != x:
                y = y * (at - other) * pow(x - other, -1, P) % P
        total += y
    return total % P


def split(secret: list[int], threshold: int, members: int, seeds: list[bytes]) -> list[list[int]]:
    first = [expand_seed(seed, len(secret)) for seed in seeds]
    shares = [list(share) for share in first]
    for member in range(threshold, members + 1):
        known = [{0: secret[i] % P, **{j + 1: first[j][i] for j in range(threshold - 1)}} for i in range(len(secret))]
        shares.append([interpolate(points, member) for points in known])
    return shares


def combine(shares: dict[int, list[int]]) -> list[int]:
    size = len(next(iter(shares.values())))
    values = (interpolate({member: share[i] for member, share in shares.items()}, 0) for i in range(size))
    return [centred(value, P) for value in values]


def quantize(vector: list[float], clip: float, scale: float, seed: bytes) -> list[int]:
    """Of a vector that needs no clipping."""
    c, d = scale * clip, len(vector)
    bound = min((c + math.sqrt(d)) ** 2, c * c + d / 4 + (c + math.sqrt(d) / 2))  # √(2 ln(1/β)) = 1
    stream = words(keystream(seed, 4 * d * 64), 4)
    for draw in range(64):
        rounded = []
        for x, word in zip(vector, stream[draw * d :], strict=False):
            low = math.floor(x * scale)
            rounded.append(low + (word < (x * scale - low) * 2.0**32))
        if sum(x * x for x in rounded) <= bound:
            return rounded
    raise AssertionError("64 draws missed a bound that each meets with a probability of 0.39")
