"""Products in Z[X]/(X^N + 1) by a floating-point transform, exact where its bound says so.

Idea: x ↦ (x_k + i·x_{k+N/2})·exp(iπk/N), transformed by a complex DFT of length N/2, is the evaluation of x at every second root
of X^N + 1 (the other half are conjugates), so products are taken pointwise (Crandall and Fagin 1994; Bernstein 2008, "tangent").
An operand of 48 bits is split into centred pieces, each product is rounded to the nearest integer, and the pieces are put
together modulo 2^48 in integers.

The bound. Percival (Math. Comp. 72, 2003; Brent and Zimmermann, Modern Computer Arithmetic, section 3.3): a cyclic product of
length 2^m by floating-point DFT is off by at most ‖x‖₂‖y‖₂((1+ε)^{3m}(1+ε√5)^{3m+1}(1+μ)^{3m} − 1) in every coefficient, with
ε = 2⁻⁵³ and roots of unity off by at most μ. Here m = 10, folding keeps the norms (‖x_k + i·x_{k+N/2}‖₂ = ‖x‖₂), and the two
twists and the untwisting are three more complex products, each a factor (1 + ε√5)(1 + μ). With μ ≤ 4ε (pocketfft's are better:
they are computed in higher precision and rounded once) the factor is at most 30ε + 34√5·ε + 33·4ε < 2.7·10⁻¹⁴:

    error ≤ K ‖piece‖₂ ‖s‖₂,  K = 2.7·10⁻¹⁴

    two pieces of 24 bits, |s| ≤ 160:      2²³√N · 160√N = 2.75·10¹²  →  0.075
    three pieces of 16 bits, |s| ≤ 32,760: 2¹⁵√N · 32760√N = 2.20·10¹²  →  0.060

Both are below ½, so rounding gives the true integer whatever the operands are. The inputs that reach these norms are constant in
magnitude: every piece −2^(bits−1), every coefficient of s at ±its bound; the tests multiply them. Two pieces against
|s| ≤ 32,760 would give 15 > ½, and the code refuses to try.
Pure: no clock, no entropy, no I/O.
"""

import numpy as np
import numpy.typing as npt

from aicache.privacy.errors import LocalError

K = 2.7e-14
"""The factor of the bound."""
MODULUS_BITS = 48

IntVector = npt.NDArray[np.int64]
ComplexArray = npt.NDArray[np.complex128]

_TWISTS: dict[int, tuple[ComplexArray, ComplexArray]] = {}


def _twists(degree: int) -> tuple[ComplexArray, ComplexArray]:
    if degree not in _TWISTS:
        twist = np.exp(1j * np.pi / degree * np.arange(degree // 2))
        _TWISTS[degree] = (twist, twist.conj())
    return _TWISTS[degree]


def error_bound(piece_bits: int, largest: int, degree: int) -> float:
    """How far a product may be off before it is rounded: K · 2^(bits−1)√N · largest·√N."""
    return K * (1 << (piece_bits - 1)) * largest * degree


def transform(polynomials: npt.NDArray[np.int64]) -> ComplexArray:
    """Evaluate polynomials at half of the roots of X^N + 1.

    Args:
        polynomials: shape (…, N), int64, magnitudes below 2^53.

    Returns:
        Shape (…, N/2), complex128.
    """
    degree = polynomials.shape[-1]
    half = degree // 2
    folded = np.empty((*polynomials.shape[:-1], half), np.complex128)
    folded.real = polynomials[..., :half]
    folded.imag = polynomials[..., half:]
    folded *= _twists(degree)[0]
    return np.fft.ifft(folded, norm="forward", out=folded)


def pieces(polynomials: npt.NDArray[np.uint64], count: int) -> list[ComplexArray]:
    """Transforms of the centred pieces of polynomials modulo 2^48, the lowest first.

    Args:
        polynomials: shape (…, N), uint64; bits above the 48th are ignored.
        count: 2 (pieces of 24 bits) or 3 (of 16 bits).
    """
    bits = MODULUS_BITS // count
    unused = np.int64(64 - bits)
    rest = polynomials.astype(np.int64)
    transforms = []
    for _ in range(count):
        centred = (rest << unused) >> unused
        transforms.append(transform(centred))
        rest = (rest - centred) >> np.int64(bits)
    return transforms


def approximate(piece: ComplexArray, factor: ComplexArray, degree: int) -> ComplexArray:
    """A product before rounding, folded: coefficient k is the real part of entry k, coefficient k + N/2 the imaginary one."""
    product = piece * factor
    np.fft.fft(product, norm="forward", out=product)
    product *= _twists(degree)[1]
    return product


def multiply(split: list[ComplexArray], factor: ComplexArray, largest: int, degree: int) -> IntVector:
    """The product of polynomials with one of small coefficients, exact modulo 2^48.

    Args:
        split: what `pieces` gave, each of shape (…, N/2).
        factor: `transform` of the small polynomial, shape (N/2,).
        largest: a bound on the magnitude of the small polynomial's coefficients.
        degree: N.

    Returns:
        Shape (…, N), int64, congruent to the product modulo 2^48 (bits above the 48th have no meaning).

    Raises:
        LocalError: the bound above does not cover these sizes.
    """
    bits = MODULUS_BITS // len(split)
    bound = error_bound(bits, largest, degree)
    if bound >= 0.5:
        raise LocalError("the product would not be exact", got=bound, needed="an error bound below 0.5")
    half = degree // 2
    total = np.empty((*split[0].shape[:-1], degree), np.int64)
    for index in reversed(range(len(split))):
        product = approximate(split[index], factor, degree)
        parts = product.view(np.float64)
        np.rint(parts, out=parts)
        if index == len(split) - 1:
            total[..., :half] = product.real
            total[..., half:] = product.imag
        else:
            total <<= np.int64(bits)
            total[..., :half] += product.real.astype(np.int64)
            total[..., half:] += product.imag.astype(np.int64)
    return total
