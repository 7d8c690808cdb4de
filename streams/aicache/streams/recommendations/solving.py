"""The weights of a linear autoencoder (EASE; Steck, WWW 2019), solved beside the stream.

With P = (G + λI)^-1 the weight from item i to item j is B_ij = -P_ij / P_jj, zero on the diagonal. What is kept of P are its partial
correlations, P_ij / √(P_ii P_jj): symmetric and within ±1, so that half of them, in two bytes each, say all; and √P_ii.

SciPy's wrappers hold the interpreter's lock while LAPACK works, and the stream would stand still; its routines are therefore called by
their addresses, which SciPy gives for Cython. Invariant: a result is a function of the matrix, and does not change. No clock, no entropy.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from math import isqrt
from threading import Thread

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_lapack

from aicache.privacy.errors import LocalError
from aicache.streams.recommendations.compiled import compiled
from aicache.streams.recommendations.ranker import Scores

RAISED_MAX = 40
"""How often the ridge is made four times as large."""
BLOCK = 64
"""A matrix is mirrored in blocks of so many rows and columns, which stay in the cache: a tenth of the time."""
Matrix = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LinearWeights:
    """Weights from each of some items to each other.

    Attributes:
        partial: partial correlations below the diagonal, row by row, shape (k(k-1)/2,), dtype float16.
        spread: roots of the diagonal of the inverse, shape (k,), dtype float32.
        matrix: B, made from these two, shape (k, k).
    """

    partial: NDArray[np.float16]
    spread: Scores
    matrix: NDArray[np.float32]

    @classmethod
    def of(cls, partial: NDArray[np.float16], spread: Scores) -> "LinearWeights":
        """From what is kept."""
        matrix = np.zeros((len(spread), len(spread)), dtype=np.float32)
        _spread_out(partial.astype(np.float32), spread, matrix)
        return cls(partial, spread, matrix)

    @classmethod
    def none(cls) -> "LinearWeights":
        """Of no items."""
        return cls.of(np.zeros(0, dtype=np.float16), np.zeros(0, dtype=np.float32))


def triangle(size: int) -> int:
    """How many entries of a matrix are on and below its diagonal."""
    return size * (size + 1) // 2


def solve(pairs: NDArray[np.float32], ridge: float) -> LinearWeights:
    """The weights of a Gram matrix.

    Args:
        pairs: what is on and below its diagonal, row by row, shape (k(k+1)/2,).
        ridge: λ; raised until there is an inverse, as sequences that were cut may leave G indefinite.

    Raises:
        LocalError: G has entries that are no numbers, or is no triangle.
    """
    size = (isqrt(8 * len(pairs) + 1) - 1) // 2
    if triangle(size) != len(pairs):
        raise LocalError("not the triangle of a matrix", got=len(pairs), needed=triangle(size))
    if not np.isfinite(pairs).all():
        raise LocalError("a Gram matrix has no inverse", got="infinite entries", needed="finite entries")
    gram = np.zeros((size, size), dtype=np.float32)
    _unpack(pairs, gram)
    for _ in range(RAISED_MAX):
        inverse = _inverse(gram.copy(), ridge, _SINGLE)
        if inverse is None:
            inverse = _inverse(gram.astype(np.float64), ridge, _DOUBLE)
        if inverse is not None:
            break
        ridge *= 4.0  # above the largest row sum there is one
    else:
        raise LocalError("a Gram matrix has no inverse", got=ridge, needed="smaller entries")
    spread = np.sqrt(np.diagonal(inverse))
    partial = np.empty(triangle(size) - size, dtype=np.float32)
    _correlate(inverse, spread, partial)
    return LinearWeights.of(partial.astype(np.float16), spread)


class Solving:
    """`solve` in a thread of its own: whoever needs the weights waits for them. A copy shares them."""

    def __init__(self, gram: NDArray[np.float32], ridge: float) -> None:
        self._weights: Future[LinearWeights] = Future()
        Thread(target=self._work, args=(gram, ridge), name="solving", daemon=True).start()

    def _work(self, gram: NDArray[np.float32], ridge: float) -> None:
        try:
            self._weights.set_result(solve(gram, ridge))
        except BaseException as error:  # to whoever waits
            self._weights.set_exception(error)

    def __deepcopy__(self, memo: dict[int, object]) -> "Solving":
        return self

    def result(self) -> LinearWeights:
        """The weights."""
        return self._weights.result()


def _routine(name: str) -> Callable[..., None]:
    """A routine of LAPACK that takes a letter, a size, a matrix, its stride and a place for what went wrong."""
    capsule = cython_lapack.__pyx_capi__[name]
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    address_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    integer = ctypes.POINTER(ctypes.c_int)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p, integer, ctypes.c_void_p, integer, integer)
    return kind(address_of(capsule, name_of(capsule)))


_SINGLE = _routine("spotrf"), _routine("spotri")
_DOUBLE = _routine("dpotrf"), _routine("dpotri")


def _inverse(matrix: Matrix, ridge: float, routines: tuple[Callable[..., None], ...]) -> NDArray[np.float32] | None:
    """The part of the inverse on and below the diagonal, in place; None where the matrix is not positive definite."""
    matrix.reshape(-1)[:: len(matrix) + 1] += ridge
    size, failed = ctypes.c_int(len(matrix)), ctypes.c_int(0)
    for routine in routines:  # rows of ours are LAPACK's columns: what is upper there is lower here
        routine(b"U", size, matrix.ctypes.data, ctypes.c_int(max(len(matrix), 1)), failed)
        if failed.value:
            return None
    return matrix.astype(np.float32, copy=False)


@compiled
def _unpack(pairs: NDArray[np.float32], matrix: NDArray[np.float32]) -> None:
    """Fill in what is on and below the diagonal."""
    start = 0
    for row in range(len(matrix)):
        for column in range(row + 1):
            matrix[row, column] = pairs[start + column]
        start += row + 1


@compiled
def _correlate(inverse: NDArray[np.float32], spread: Scores, partial: NDArray[np.float32]) -> None:
    """Partial correlations below the diagonal, row by row."""
    start = 0
    for row in range(len(inverse)):
        for column in range(row):
            partial[start + column] = inverse[row, column] / (spread[row] * spread[column])
        start += row


@compiled
def _spread_out(partial: NDArray[np.float32], spread: Scores, matrix: NDArray[np.float32]) -> None:
    """Fill in the weights on both sides of the diagonal, block by block."""
    for first in range(0, len(matrix), BLOCK):
        for left in range(0, first + 1, BLOCK):
            for row in range(first, min(first + BLOCK, len(matrix))):
                start = row * (row - 1) // 2
                for column in range(left, min(left + BLOCK, row)):
                    ratio = spread[row] / spread[column]
                    matrix[row, column] = -partial[start + column] * ratio
                    matrix[column, row] = -partial[start + column] / ratio
