"""A bad release, found from sums that nobody can see through: 5,000 clients, 500 of them on the new release.

In each round a client tells, masked, in which of four places it is: old or new release, crashed or not. The sums have committee noise
for epsilon 1 a round at delta 10^-6, add-or-remove. One round goes through the masks themselves, bit for bit the same as the sum in the
clear; the others take the noise alone, drawn by the same sampler.
"""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from aicache.privacy import accounting, masking, noise, parameters, quantize
from aicache.streams.anomalies.detectors.noisy_release import NoisyReleaseComparison, NoisyWindow

CLIENTS, NEW = 5_000, 500
USUAL, BAD = 0.02, 0.08
COMMITTEES = ((5, 3), (3, 2))
"""Members, and how many of them open a sum; the noise of all of them is in it, that of a quorum's honest ones suffices."""
EPSILON, DELTA = 1.0, 1e-6
ALPHA = 0.001
"""A release is flagged once its always-valid p-value is below this."""
SCALE = 64
ROUNDS_GOOD = 10
IntVector = npt.NDArray[np.int64]


def plan(members: int, threshold: int) -> tuple[float, float, float]:
    """σ planned for the sum, σ of one member's share, and the epsilon that it gives, on the integer grid."""
    sensitivity = quantize.sensitivity(1.0, SCALE, 4)
    sigma = sensitivity * accounting.noise_multiplier(EPSILON, DELTA)
    given: dict[str, Any] = {"members": members, "threshold": threshold, "honest": 0}
    share = accounting.share_sigma("committee", sigma, **given)
    guarantee = accounting.round_guarantee(
        noise="committee", sensitivity=sensitivity, sigma=sigma, length=4, delta=DELTA, **given
    )
    return sigma, share, guarantee.epsilon


def told(rate: float, random: np.random.Generator) -> IntVector:
    """How many clients are in each place."""
    old, new = random.binomial(CLIENTS - NEW, USUAL), random.binomial(NEW, rate)
    return np.array([CLIENTS - NEW - old, old, NEW - new, new], dtype=np.int64)


def opened(counts: IntVector, share: float, members: int) -> IntVector:
    """The sum as it is opened, all members listed."""
    return SCALE * counts + sum(noise.discrete_gaussian(share, 4, os.urandom) for _ in range(members))


def window(total: IntVector, sigma: float) -> NoisyWindow:
    fine, failed, new_fine, new_failed = (total / SCALE).tolist()
    return NoisyWindow(new_fine + new_failed, new_failed, fine + failed, failed, sigma)


def masked_round(counts: IntVector) -> bool:
    """Whether the masks of all clients open to their sum."""
    mask, rho = parameters.N10K, os.urandom(32)
    total: npt.NDArray[np.uint64] | None = None
    key_sum: IntVector = np.zeros(mask.ring_degree, dtype=np.int64)
    for place in np.repeat(np.arange(4), counts).tolist():
        vector = np.zeros(4)
        vector[place] = 1.0
        message = quantize.quantize(vector, clip=1.0, scale=SCALE, entropy=os.urandom)
        key = masking.sample_key(mask, os.urandom)
        packed = masking.encrypt(message, key, rho, mask, os.urandom)
        if total is None:
            total = np.zeros(len(packed) // 6, dtype=np.uint64)
        masking.add_packed(total, packed)
        key_sum += key
    assert total is not None
    return bool((masking.open_sum(total, key_sum, int(counts.sum()), 4, rho, mask) == SCALE * counts).all())


def rounds_until_found(rate: float, rounds: int, share: float, members: int, random: np.random.Generator) -> int:
    """The first round after which the release is flagged; 0: never."""
    test = NoisyReleaseComparison()
    sigma = share * members**0.5 / SCALE
    for played in range(1, rounds + 1):
        test.learn_one(window(opened(told(rate, random), share, members), sigma))
        if test.p_value <= ALPHA:
            return played
    return 0


def of_committee(members: int, threshold: int, runs: int, random: np.random.Generator) -> dict[str, Any]:
    sigma, share, epsilon = plan(members, threshold)
    found = np.array([rounds_until_found(BAD, 10, share, members, random) for _ in range(runs)])
    good = [rounds_until_found(USUAL, ROUNDS_GOOD, share, members, random) for _ in range(200)]
    return {
        "epsilon_a_round": round(epsilon, 4),
        "sigma_clients_planned": round(sigma / SCALE, 2),
        "sigma_clients_in_the_sum": round(share * members**0.5 / SCALE, 2),
        "found_in_1_round": float((found == 1).mean()),
        "found_in_2_rounds": float(((found >= 1) & (found <= 2)).mean()),
        "good_releases": len(good),
        "flagged_falsely": sum(one > 0 for one in good),
    }


def measure(runs: int | None) -> dict[str, Any]:
    seed = int.from_bytes(os.urandom(4), "big")
    random = np.random.default_rng(seed)
    result: dict[str, Any] = {"benchmark": "anomalies release", "seed": seed, "runs": runs or 200}
    result["masked_round_exact"] = masked_round(told(BAD, random))
    for members, threshold in COMMITTEES:
        name = f"{threshold}_of_{members}_members"
        result[name] = of_committee(members, threshold, runs or 200, random)
    return result
