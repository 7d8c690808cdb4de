"""From a noisy sum of baskets' Gram matrices to weights of recommendation.

What opens is the upper triangle of G = Σ x·xᵀ over baskets' indicator vectors, plus noise of one known standard deviation in every
coordinate. Most coordinates are pairs that hardly ever occurred, so noise would drown the rest: each is replaced by its posterior
mean under a prior that is learned from the triangle itself. The prior's mean is what independent labels would give; around it, in each
of up to `STRATA` strata of equal size by that mean, deviations follow a mixture of centred Gaussians whose shares are fitted by
expectation maximization (adaptive shrinkage: Stephens, Biostatistics 2017). Then EASE (Steck, WWW 2019) is solved in closed form,
B = I − P·diag(P)⁻¹ with P = (G + λI)⁻¹, where λ lifts the smallest eigenvalue above zero and grows with the noise: 2σ√k is the
radius of the noise's spectrum (Wigner's semicircle), of which shrinkage leaves a part.
All of this is computed from what opened, so it is as private as that. Cost: O(k³) for k labels, and `ITERATIONS` passes over the pairs.
Pure: the same sum gives the same weights.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError
from aicache.producers.vectors import DIAGONAL

Matrix = NDArray[np.float64]
LABELS_MAX = 2_000
"""Beyond, solving takes minutes and gigabytes."""
STRATA = 30
STRATUM_MIN = 500
"""Pairs of a stratum, at least: fewer do not tell a prior."""
PRIOR_SCALES = np.concatenate([[0.0], 0.1 * 2.0 ** np.arange(14)])
"""Standard deviations of the prior's components, in units of the noise's: from nothing to 800 times as much."""
ITERATIONS = 60
MARGINAL_ITERATIONS = 30
RIDGE_NOISE = 0.25
"""λ in units of 2σ√k."""
RIDGE_MIN = 0.05
"""λ in units of the mean diagonal, at least: what is left where there is no noise."""


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """What recommends.

    Attributes:
        weights: row i, column j: how much label i at hand speaks for label j; the diagonal is zero. Shape (k, k).
        popularity: the share of each label in all occurrences, shape (k,).
    """

    weights: Matrix
    popularity: NDArray[np.float64]


def square(triangle: NDArray[np.float64], labels: int) -> Matrix:
    """The symmetric matrix of an upper triangle, row-major, diagonal included and still weighed.

    Raises:
        LocalError: the triangle has another length.
    """
    if triangle.shape != (labels * (labels + 1) // 2,):
        raise LocalError("not the triangle of so many labels", got=triangle.shape, needed=labels)
    result = np.zeros((labels, labels))
    result[np.triu_indices(labels)] = triangle
    return result + np.triu(result, 1).T


def solve(triangle: NDArray[np.float64], labels: int, sigma: float) -> Solved:
    """Weights of recommendation from the opened sum of a task of pairs.

    Args:
        triangle: the sum divided by the task's scale, shape (k(k+1)/2,), float64.
        labels: k, 2 … LABELS_MAX.
        sigma: standard deviation of the noise in a coordinate, in the same unit; 0 where there is none.

    Raises:
        LocalError: numbers that are not finite or not of this form.
    """
    if not 2 <= labels <= LABELS_MAX:
        raise LocalError("labels are 2 … 2,000", got=labels, needed=LABELS_MAX)
    if not (np.isfinite(triangle).all() and math.isfinite(sigma) and sigma >= 0):
        raise LocalError("the sum and its noise are finite", got=sigma, needed="finite numbers")
    observed = square(triangle, labels)
    counts = np.maximum(np.diag(observed) / DIAGONAL, sigma)
    np.fill_diagonal(observed, 0.0)
    gram = denoised(observed, sigma) if sigma else observed
    np.fill_diagonal(gram, counts)
    smallest = float(np.linalg.eigvalsh(gram)[0])
    ridge = max(RIDGE_NOISE * 2 * sigma * math.sqrt(labels), RIDGE_MIN * float(counts.mean()), 1e-9)
    return Solved(ease(gram, max(-smallest, 0.0) + ridge), counts / max(float(counts.sum()), 1e-9))


def ease(gram: Matrix, ridge: float) -> Matrix:
    """The linear autoencoder that predicts each label from the others with the least squared error and a ridge."""
    precision = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    weights = -precision / np.diag(precision)
    np.fill_diagonal(weights, 0.0)
    return weights


def denoised(observed: Matrix, sigma: float) -> Matrix:
    """The posterior mean of how often each pair occurred, never below zero; diagonals are zero on both sides."""
    upper = np.triu_indices(len(observed), 1)
    expected = _independent(observed, sigma)[upper]
    values = observed[upper]
    result = np.zeros_like(values)
    strata = max(1, min(STRATA, len(values) // STRATUM_MIN))
    for stratum in np.array_split(np.argsort(expected, kind="stable"), strata):
        mean = expected[stratum]
        result[stratum] = np.maximum(mean + _shrunk(values[stratum] - mean, sigma), 0.0)
    matrix = np.zeros_like(observed)
    matrix[upper] = result
    return matrix + matrix.T


def _independent(observed: Matrix, sigma: float) -> Matrix:
    """How often pairs would occur if labels were independent: u·uᵀ with the row sums that were observed.

    A row sum carries noise of σ√k, so small ones are shrunk; the fixed point u_i = r_i / (Σu − u_i) is found by halving steps.
    """
    rows = np.maximum(observed.sum(axis=1), 0.0)
    rows = rows * rows / (rows + sigma * math.sqrt(len(rows))) + 1e-6
    u = rows / math.sqrt(rows.sum())
    for _ in range(MARGINAL_ITERATIONS):
        u = (u + rows / np.maximum(u.sum() - u, 1e-9)) / 2
    return np.outer(u, u)


def _shrunk(deviations: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Posterior means of centred values seen through noise, under a mixture of Gaussians fitted to them."""
    prior = (PRIOR_SCALES * sigma) ** 2
    variance = prior + sigma**2
    log_likelihood = -0.5 * (deviations[:, None] ** 2 / variance + np.log(variance))
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    shares = np.full(len(prior), 1 / len(prior))
    for _ in range(ITERATIONS):
        weighted = likelihood * shares
        shares = (weighted / weighted.sum(axis=1, keepdims=True)).sum(axis=0) + 1e-3
        shares /= shares.sum()
    weighted = likelihood * shares
    factor: NDArray[np.float64] = weighted @ (prior / variance) / weighted.sum(axis=1)
    return deviations * factor
