"""A bad release, found from sums that nobody can see through: 5,000 clients, 500 of them on the new release.

In each round a client tells, masked, in which of four places it is: old or new release, crashed or not. The sums have the noise of all
members of a committee for epsilon 1 a round, add-or-remove, in one of two laws: Gaussian at delta 10^-6, as rounds have it, and discrete
Laplace by shares (`privacy.polya`), which needs no delta, for tasks of few rounds. Vectors of clients and members of one round of each
go through the masks themselves; the others take the noise alone, drawn by the same samplers.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aicache.privacy import accounting, contribution, masking, parameters, polya, quantize
from aicache.streams.anomalies.detectors.noisy_release import NoisyReleaseComparison, NoisyWindow

CLIENTS, NEW, PLACES = 5_000, 500, 4
USUAL, BAD = 0.02, 0.08
COMMITTEES = ((5, 3), (3, 2))
"""Members, and how many of them open a sum; the noise of all of them is in it, that of a quorum's honest ones suffices."""
EPSILON, DELTA = 1.0, 1e-6
ALPHA = 5e-4
"""A release is flagged once its always-valid p-value is at most this: of 200 good ones, none in 9 of 10 evaluations."""
ROUNDS_GOOD = 10
GOOD = 200
IntVector = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """A law of noise.

    Attributes:
        epsilon: what a round costs.
        scale: integers a client.
        deviation: of the noise in each count of the sum, in clients.
        member: draws what one member adds.
        client: a client's integers, from its place.
        window: what is learned of the counts that were opened.
    """

    epsilon: float
    scale: int
    deviation: float
    member: Callable[[], IntVector]
    client: Callable[[int], IntVector]
    window: Callable[[list[float]], NoisyWindow]


def gaussian(members: int, threshold: int) -> Plan:
    """As rounds have it."""
    scale = 1_024
    sensitivity = quantize.sensitivity(1.0, scale, PLACES)
    sigma = sensitivity * accounting.noise_multiplier(EPSILON, DELTA)
    given: dict[str, Any] = {"members": members, "threshold": threshold, "honest": 0}
    share = accounting.share_sigma("committee", sigma, **given)
    guarantee = accounting.round_guarantee(
        noise="committee", sensitivity=sensitivity, sigma=sigma, length=PLACES, delta=DELTA, **given
    )
    deviation = share * members**0.5 / scale
    return Plan(
        guarantee.epsilon,
        scale,
        deviation,
        lambda: contribution.member_message(PLACES, sigma_share=share, entropy=os.urandom),
        lambda place: quantize.quantize(np.eye(PLACES)[place], clip=1.0, scale=scale, entropy=os.urandom),
        lambda counts: NoisyWindow(*counts, sigma=deviation),
    )


def laplace(members: int, threshold: int) -> Plan:
    """Shares of discrete Laplace noise."""
    guarantee = polya.guarantee(1, 1 / EPSILON, members, threshold, DELTA)
    shares = members / guarantee.honest
    return Plan(
        guarantee.epsilon,
        1,
        guarantee.sigma * shares**0.5,
        lambda: polya.share(1 / EPSILON, guarantee.honest, PLACES, os.urandom),
        lambda place: polya.tally(np.eye(PLACES, dtype=np.int64)[place], 1),
        lambda counts: NoisyWindow(*counts, scale=1 / EPSILON, shares=shares),
    )


def told(rate: float, random: np.random.Generator) -> IntVector:
    """How many clients are in each place."""
    old, new = random.binomial(CLIENTS - NEW, USUAL), random.binomial(NEW, rate)
    return np.array([CLIENTS - NEW - old, old, NEW - new, new], dtype=np.int64)


def opened(counts: IntVector, plan: Plan, members: int) -> NoisyWindow:
    """The sum as it is opened, all members listed."""
    total = plan.scale * counts + sum(plan.member() for _ in range(members))
    fine, failed, new_fine, new_failed = (total / plan.scale).tolist()
    return plan.window([new_fine + new_failed, new_failed, fine + failed, failed])


def masked_round(counts: IntVector, plan: Plan, members: int) -> bool:
    """Whether the masks of all clients and members open to the sum of what they put in."""
    mask, rho = parameters.N10K, os.urandom(32)
    vectors = [plan.client(place) for place in np.repeat(np.arange(PLACES), counts).tolist()]
    vectors += [plan.member() for _ in range(members)]
    total: npt.NDArray[np.uint64] | None = None
    key_sum: IntVector = np.zeros(mask.ring_degree, dtype=np.int64)
    for vector in vectors:
        key = masking.sample_key(mask, os.urandom)
        packed = masking.encrypt(vector, key, rho, mask, os.urandom)
        if total is None:
            total = np.zeros(len(packed) // 6, dtype=np.uint64)
        masking.add_packed(total, packed)
        key_sum += key
    assert total is not None
    return bool((masking.open_sum(total, key_sum, len(vectors), PLACES, rho, mask) == sum(vectors)).all())


def rounds_until_found(rate: float, rounds: int, plan: Plan, members: int, random: np.random.Generator) -> int:
    """The first round after which the release is flagged; 0: never."""
    test = NoisyReleaseComparison()
    for played in range(1, rounds + 1):
        test.learn_one(opened(told(rate, random), plan, members))
        if test.p_value <= ALPHA:
            return played
    return 0


def of_committee(plan: Plan, members: int, runs: int, random: np.random.Generator) -> dict[str, Any]:
    found = np.array([rounds_until_found(BAD, 2, plan, members, random) for _ in range(runs)])
    good = [rounds_until_found(USUAL, ROUNDS_GOOD, plan, members, random) for _ in range(GOOD)]
    return {
        "epsilon_a_round": round(plan.epsilon, 4),
        "deviation_clients": round(plan.deviation, 2),
        "found_in_1_round": float((found == 1).mean()),
        "found_in_2_rounds": float((found > 0).mean()),
        "good_releases": len(good),
        "flagged_falsely": sum(one > 0 for one in good),
    }


def measure(runs: int | None) -> dict[str, Any]:
    seed = int.from_bytes(os.urandom(4), "big")
    random = np.random.default_rng(seed)
    result: dict[str, Any] = {
        "benchmark": "anomalies release",
        "seed": seed,
        "runs": runs or 200,
        "delta": DELTA,
        "alpha": ALPHA,
    }
    for law in (gaussian, laplace):
        result[f"masked_round_exact_{law.__name__}"] = masked_round(told(BAD, random), law(5, 3), 5)
        for members, threshold in COMMITTEES:
            plan = law(members, threshold)
            found = of_committee(plan, members, runs or 200, random)
            result[f"{law.__name__}_{threshold}_of_{members}_members"] = found
    return result
