"""What a task would cost and how exact it would be: the arithmetic of `aicache privacy plan`.

Pure: numbers in, rows out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aicache.privacy.accounting import CLIENTS, COMMITTEE, check_round, honest_shares, noise_multiplier, share_sigma
from aicache.privacy.errors import LocalError
from aicache.privacy.parameters import MaskParameters, check_round_fits, quorum
from aicache.privacy.quantize import sensitivity


@dataclass(frozen=True, slots=True)
class Wish:
    """What is planned.

    Args:
        n: clients in a round.
        length: coordinates of a vector.
        clip: L2 bound of one client's vector, in the task's own unit.
        scale: integers a unit.
        rounds: how many rounds the epsilon shall cover.
        delta: of the guarantee.
        noise: who adds it: "committee" or "clients".
        honest: clients assumed honest, for noise by the clients.
        members: of the committee.
        threshold: how many open a sum.
    """

    n: int
    length: int
    clip: float
    scale: float
    rounds: int
    delta: float
    noise: str
    honest: int
    members: int
    threshold: int


@dataclass(frozen=True, slots=True)
class Planned:
    """What one epsilon means.

    Args:
        n: clients in a round.
        rounds: that the epsilon covers.
        epsilon: for all rounds together.
        noise_multiplier: σ planned for the sum, in sensitivities: what a task file takes.
        sigma: the same in integers of the grid.
        error_sum: standard error of each coordinate of the sum with every sender present, in the task's own unit.
        error_mean: the same of the mean over n clients.
        share_of_clip: error_sum against the most that all clients together can move one coordinate.
    """

    n: int
    rounds: int
    epsilon: float
    noise_multiplier: float
    sigma: float
    error_sum: float
    error_mean: float
    share_of_clip: float


def plan(wish: Wish, epsilons: Sequence[float], parameters: MaskParameters) -> list[Planned]:
    """One row for each epsilon.

    Raises:
        LocalError: a number is out of range, delta is not below 1/n, or more clients are assumed honest than there are.
        RemoteError: a round of this size could wrap around.
    """
    if wish.n < 2:
        raise LocalError(f"a crowd of {wish.n} hides nobody", got=wish.n, needed="n ≥ 2")
    check_round(noise=wish.noise, honest=wish.honest, n_min=wish.n, n_max=wish.n, delta=wish.delta)
    grid = sensitivity(wish.clip, wish.scale, wish.length)
    rows = []
    for epsilon in epsilons:
        multiplier = noise_multiplier(epsilon, wish.delta, wish.rounds)
        sigma = multiplier * grid
        present = math.sqrt(
            senders_of_noise(wish) / honest_shares(wish.noise, wish.members, wish.threshold, wish.honest)
        )
        share_sigma(wish.noise, sigma, wish.members, wish.threshold, wish.honest)  # refuses a share that is too small
        total = sigma * present
        extra = wish.members if wish.noise == COMMITTEE else 0
        check_round_fits(parameters, n_max=wish.n, scale=wish.scale, clip=wish.clip, sigma_total=total, members=extra)
        error = total / wish.scale
        rows.append(
            Planned(
                wish.n, wish.rounds, epsilon, multiplier, sigma, error, error / wish.n, error / (wish.n * wish.clip)
            )
        )
    return rows


def senders_of_noise(wish: Wish) -> int:
    """How many add their share when all are there: all members, or all clients."""
    return wish.n if wish.noise == CLIENTS else max(wish.members, quorum(wish.members, wish.threshold))
