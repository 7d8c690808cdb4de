"""Which library, rule, option or platform goes with failures: association, not cause.

Thousands of candidates at once: the Cochran-Mantel-Haenszel test over strata (language, operating system), so that what only follows from
the stratum is not told, with the relative risk of Mantel and Haenszel and the interval of Greenland and Robins (Biometrics 1985).
Benjamini and Yekutieli (Annals of Statistics 2001) keep the false-discovery rate under `FDR` whatever depends on what. Counts may have
Gaussian noise of a known σ: it widens test and interval. Pure.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aicache.privacy.errors import LocalError

FDR = 0.05
SKEWNESS_MIN = 0.01
"""Below it a tail is as good as Gaussian."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many clients, by stratum and candidate; possibly with noise.

    Attributes:
        exposed: clients with the candidate, shape (strata, candidates).
        exposed_failing: those of them that fail, same shape.
        clients: all clients, shape (strata,).
        failing: all that fail, shape (strata,).
        sigma: standard deviation of the noise in each count, in clients; 0: none.
    """

    exposed: Floats
    exposed_failing: Floats
    clients: Floats
    failing: Floats
    sigma: float = 0.0


@dataclass(frozen=True, slots=True)
class Association:
    """A candidate that goes with failures.

    Attributes:
        candidate: its column.
        relative_risk: of those with it against those without, within strata.
        low, high: bounds of its 95% interval.
        p_value: one-sided, before the correction for many candidates.
    """

    candidate: int
    relative_risk: float
    low: float
    high: float
    p_value: float


def associations(counts: Counts, fdr: float = FDR, *, dependent: bool = True) -> list[Association]:
    """The candidates with a higher risk of failure, strongest evidence first.

    Args:
        counts: see there; cells below 0, which noise can make, count as 0.
        fdr: of those returned, at most this share is expected to be false.
        dependent: see `chosen`.

    Raises:
        LocalError: the shapes do not fit, or a number is not finite.
    """
    exposed, bad = np.maximum(counts.exposed, 0.0), np.maximum(counts.exposed_failing, 0.0)
    if (
        exposed.shape != bad.shape
        or exposed.shape[:1] != counts.clients.shape
        or counts.clients.shape != counts.failing.shape
    ):
        raise LocalError(
            "counts are by stratum and candidate", got=(exposed.shape, bad.shape), needed="(strata, candidates)"
        )
    if not all(np.isfinite(part).all() for part in (exposed, bad, counts.clients, counts.failing)):
        raise LocalError("counts are finite numbers", got="others", needed="finite")
    clients = np.maximum(counts.clients, 2.0)[:, None]
    failing = np.clip(counts.failing, 0.0, counts.clients)[:, None]
    exposed = np.minimum(exposed, clients)
    expected = exposed * failing / clients
    spread = exposed * (clients - exposed) * failing * (clients - failing) / (clients**2 * (clients - 1))
    noise = counts.sigma**2 * (1 + (failing / clients) ** 2 + (exposed / clients) ** 2)
    lean = spread * (clients - 2 * failing) * (clients - 2 * exposed) / (clients * np.maximum(clients - 2, 1.0))
    p_values = _tail((bad - expected).sum(axis=0) - 0.5, (spread + noise).sum(axis=0), lean.sum(axis=0))
    told = chosen(p_values, fdr, dependent=dependent)
    return [_association(one, exposed, bad, clients, failing, counts.sigma, p_values) for one in told]


def chosen(p_values: Floats, fdr: float, *, dependent: bool = True) -> list[int]:
    """The hypotheses that Benjamini and Yekutieli reject, smallest p-value first.

    Args:
        p_values: one a hypothesis.
        fdr: expected share of false ones among the rejected, at most.
        dependent: whatever they depend on; False: they are independent, or hang together positively (Benjamini and Hochberg).
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    harmonic = sum(1 / place for place in range(1, count + 1)) if dependent else 1.0
    below = np.flatnonzero(p_values[order] <= fdr * np.arange(1, count + 1) / (count * max(harmonic, 1.0)))
    return order[: below[-1] + 1].tolist() if len(below) else []


def _tail(above: Floats, variance: Floats, third: Floats) -> Floats:
    """How often sums with this variance and third central moment lie as far above their mean (Pearson's type III, or Gaussian).

    Counts of few failures lean to the right: at one in 100,000 a Gaussian tail is too short by a factor of three.
    """
    from scipy.special import gammaincc, ndtr

    deviation = np.sqrt(np.maximum(variance, 1e-12))
    z = above / deviation
    skewness = np.maximum(third, 0.0) / deviation**3
    leans = skewness > SKEWNESS_MIN
    shape = 4 / np.where(leans, skewness, 1.0) ** 2
    curved = gammaincc(shape, np.maximum(shape + z * np.sqrt(shape), 0.0))
    p_values: Floats = np.where(leans, curved, ndtr(-z))
    return p_values


def _association(
    candidate: int, exposed: Floats, bad: Floats, clients: Floats, failing: Floats, sigma: float, p_values: Floats
) -> Association:
    own, own_bad, total = exposed[:, candidate], bad[:, candidate], clients[:, 0]
    rest, rest_bad = total - own, np.maximum(failing[:, 0] - own_bad, 0.0)
    above, below = float((own_bad * rest / total).sum()), float((rest_bad * own / total).sum())
    if min(above, below) <= 0:
        return Association(candidate, math.inf if above > 0 else 0.0, 0.0, math.inf, float(p_values[candidate]))
    variance = float(((own * rest * (own_bad + rest_bad) - own_bad * rest_bad * total) / total**2).sum()) / (
        above * below
    )
    variance += sigma**2 * float(((rest / total) ** 2).sum()) / above**2
    variance += sigma**2 * float(((own / total) ** 2).sum()) / below**2
    ratio, factor = above / below, math.exp(1.96 * math.sqrt(max(variance, 0.0)))
    return Association(candidate, ratio, ratio / factor, ratio * factor, float(p_values[candidate]))
