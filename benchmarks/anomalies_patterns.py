"""A planted association of relative risk 2 among 1,000 candidates: 20,000 clients, each exposed to 10% of them, 5% fail.

In the clear there are four strata that differ in their share of failures and in what is used in them, so that ten candidates look bad
until one looks within strata. With epsilon 4 the counts are sums of clipped client vectors with the noise of three committee members
(delta 10^-6, add-or-remove), in one stratum.
"""

import os
from typing import Any

import numpy as np

from aicache.privacy import accounting
from aicache.streams.anomalies.detectors.association import Association, Counts, associations

CLIENTS, CANDIDATES, EXPOSURE, FAILURE, RISK = 20_000, 1_000, 0.10, 0.05, 2.0
STRATA, CONFOUNDED = 4, 10
EPSILON, DELTA, MEMBERS, THRESHOLD = 4.0, 1e-6, 3, 2
WEIGHT = 0.15
"""Of what is exposed without regard to failing, against what is exposed and fails: its noise matters little."""
USUAL = EXPOSURE
"""What is known of how many have a candidate: a client tells how it differs from that, which is shorter."""
CLIP = 9.6
"""L2 bound of a client; about what those that fail have, and the others a seventh of it."""


def crowd(random: np.random.Generator, strata: int) -> tuple[Any, Any, Any]:
    """Who has what (bits), who fails, and who is in which stratum; candidate 0 is planted."""
    stratum = random.integers(strata, size=CLIENTS)
    exposed = random.random((CLIENTS, CANDIDATES), dtype=np.float32) < EXPOSURE
    factor = np.linspace(0.5, 1.5, strata)[stratum] if strata > 1 else np.ones(CLIENTS)
    for candidate in range(1, CONFOUNDED + 1):
        exposed[:, candidate] = random.random(CLIENTS) < EXPOSURE * factor
    base = FAILURE / (1 + EXPOSURE * (RISK - 1))
    failing = random.random(CLIENTS) < base * factor * np.where(exposed[:, 0], RISK, 1.0)
    return exposed, failing, stratum


def clear(random: np.random.Generator) -> Counts:
    exposed, failing, stratum = crowd(random, STRATA)
    groups = [stratum == one for one in range(STRATA)]
    return Counts(
        np.array([exposed[group].sum(axis=0) for group in groups], dtype=np.float64),
        np.array([exposed[group & failing].sum(axis=0) for group in groups], dtype=np.float64),
        np.array([group.sum() for group in groups], dtype=np.float64),
        np.array([failing[group].sum() for group in groups], dtype=np.float64),
    )


def private(random: np.random.Generator) -> Counts:
    exposed, failing, _ = crowd(random, 1)
    table = exposed.astype(np.float32) - np.float32(USUAL)
    norms = np.sqrt((np.square(table).sum(axis=1) + 1) * (failing + WEIGHT**2))
    weight = np.minimum(1.0, CLIP / norms).astype(np.float32)
    sigma = CLIP * accounting.noise_multiplier(EPSILON, DELTA)
    share = sigma / accounting.honest_shares("committee", MEMBERS, THRESHOLD, 0) ** 0.5
    whole = share * MEMBERS**0.5
    light = whole / WEIGHT
    clients = weight.sum() + random.normal(0, light)
    bad = (weight * failing).sum() + random.normal(0, whole)
    return Counts(
        (weight @ table + USUAL * clients + random.normal(0, light, CANDIDATES))[None, :],
        ((weight * failing) @ table + USUAL * bad + random.normal(0, whole, CANDIDATES))[None, :],
        np.array([clients]),
        np.array([bad]),
        sigma=whole * (1 + (FAILURE / WEIGHT) ** 2) ** 0.5,
    )


class Tally:
    """What was told over all runs."""

    def __init__(self) -> None:
        self.found: list[bool] = []
        self.false_shares: list[float] = []
        self.inside: list[bool] = []

    def add(self, told: list[Association]) -> None:
        planted = [one for one in told if one.candidate == 0]
        self.found.append(bool(planted))
        self.false_shares.append((len(told) - len(planted)) / max(1, len(told)))
        self.inside += [one.low <= RISK <= one.high for one in planted]

    def result(self) -> dict[str, Any]:
        return {
            "found": round(float(np.mean(self.found)), 3),
            "false_discovery_rate": round(float(np.mean(self.false_shares)), 4),
            "interval_covers": round(float(np.mean(self.inside)), 3) if self.inside else None,
        }


def measure(runs: int | None) -> dict[str, Any]:
    seed = int.from_bytes(os.urandom(4), "big")
    result: dict[str, Any] = {"benchmark": "anomalies patterns", "seed": seed, "runs": runs or 200}
    for name, make in (("clear", clear), ("epsilon_4", private)):
        random = np.random.default_rng([seed, len(name)])
        tallies = {dependent: Tally() for dependent in (True, False)}
        for _ in range(runs or 200):
            counts = make(random)
            for dependent, tally in tallies.items():
                tally.add(associations(counts, dependent=dependent))
        result[name] = tallies[True].result() | {"if_not_dependent": tallies[False].result()}
    return result
