"""Recompute the lattice security of the mask's parameter sets; exit code 1 where one is below 128 classical bits.

Method: core-SVP (Alkim, Ducas, Pöppelmann, Schwabe, USENIX Security 2016, section 6): one call to a shortest-vector solver in
dimension β costs 2^(0.292β) classically and 2^(0.265β) with Grover's search; polynomial factors and memory are not counted, which
favours the attacker.
  primal: the embedded lattice of dimension d = n + m + 1 gives up its short vector when σ√β ≤ δ^(2β−d−1) q^(m/d);
  dual:   a short vector of length ℓ = δ^(d−1) q^(n/d), d = n + m, distinguishes with advantage 4 exp(−2π²(ℓσ/q)²); amplifying it
          takes the inverse square, of which one sieve yields 2^(0.2075β) vectors.
Both are minimised over the number m of samples and over β; δ(β) is Chen's estimate.

What σ is: sums of keys and of errors are revealed when a round opens. By the reduction for Hint-LWE (Kim, Lee, Seo, Song, CRYPTO
2023) a key that was drawn with σ and is hidden in a revealed sum of two honest ones is as hard to find as one of LWE with
1/σ'² = 2(1/σ² + 1/σ²), so σ' = σ/2. Every opened sum holds two honest keys at least: those of k − t + 1 ≥ 2 honest members.

The method is checked on Kyber512 (n = 512, q = 3329, centred binomial η = 3), whose authors publish for the
primal attack in the same model blocks of 406, 118 classical and 107 quantum bits (specification of round 3, table 4).
"""

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass

import numpy as np

from aicache.privacy.parameters import N10K, N60K

CLASSICAL, QUANTUM, SIEVE_YIELD = 0.292, 0.265, 0.2075
NEEDED_BITS = 128
HONEST_KEYS = 2
KYBER512 = (406, 118, 107)
"""Published: block size, classical and quantum bits, rounded down."""
BETAS = range(60, 2000)


@dataclass(frozen=True)
class Estimate:
    name: str
    attack: str
    degree: int
    modulus_bits: float
    sigma: float
    beta: int
    samples: int
    classical_bits: float
    quantum_bits: float


def log2_delta(beta: int) -> float:
    """Root Hermite factor of BKZ with blocks of β (Chen 2013), as a logarithm."""
    return (math.log2(math.pi * beta) / beta + math.log2(beta / (2 * math.pi * math.e))) / (2 * (beta - 1))


def primal(name: str, n: int, log2_q: float, sigma: float, samples_max: int) -> Estimate:
    """The smallest β that finds the secret, over all m."""
    m = np.arange(1, samples_max + 1)
    dimension = n + m + 1
    for beta in BETAS:
        reached = (2 * beta - dimension - 1) * log2_delta(beta) + log2_q * m / dimension
        margin = reached - math.log2(sigma * math.sqrt(beta))
        if margin.max() >= 0:
            best = int(m[margin.argmax()])
            return Estimate(name, "primal", n, log2_q, sigma, beta, best, CLASSICAL * beta, QUANTUM * beta)
    raise RuntimeError(f"{name}: no block size up to {BETAS[-1]} works")


def dual(name: str, n: int, log2_q: float, sigma: float, samples_max: int) -> Estimate:
    """The cheapest distinguisher, over all β and m; quantum cost at the β that is best classically, or better."""
    m = np.arange(1, samples_max + 1)
    dimension = n + m
    best: list[tuple[float, int, int]] = []
    for cost in (CLASSICAL, QUANTUM):
        found = (math.inf, 0, 0)
        for beta in BETAS:
            log2_length = (dimension - 1) * log2_delta(beta) + log2_q * n / dimension
            at = int(log2_length.argmin())
            tau = 2.0 ** (float(log2_length[at]) + math.log2(sigma) - log2_q)
            log2_advantage = min(0.0, 2 - 2 * math.pi**2 * tau**2 * math.log2(math.e))
            bits = cost * beta + max(0.0, -2 * log2_advantage - SIEVE_YIELD * beta)
            found = min(found, (bits, beta, int(m[at])))
        best.append(found)
    (classical, beta, samples), (quantum, _, _) = best
    return Estimate(name, "dual", n, log2_q, sigma, beta, samples, classical, quantum)


def estimates() -> list[Estimate]:
    """Both attacks on each distinct parameter set, and on Kyber512."""
    kyber = ("kyber512", 512, math.log2(3329), math.sqrt(3 / 2), 2 * 512)
    found = [primal(*kyber), dual(*kyber)]
    for mask in (N10K, N60K):
        # Four elements of the ring hold more samples than an attack can use.
        problem = (
            mask.name,
            mask.ring_degree,
            float(mask.modulus_bits),
            mask.sigma / HONEST_KEYS,
            4 * mask.ring_degree,
        )
        found += [primal(*problem), dual(*problem)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Core-SVP security of the mask's parameters.")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    found = estimates()
    checked = found[0]
    kyber = (checked.beta, math.floor(checked.classical_bits), math.floor(checked.quantum_bits))
    ours = min(each.classical_bits for each in found if each.name != "kyber512")
    verdict = {
        "kyber512_bits": kyber[1],
        "method_agrees": kyber == KYBER512,
        "classical_bits": round(ours, 1),
        "quantum_bits": round(min(each.quantum_bits for each in found if each.name != "kyber512"), 1),
        "needed_bits": NEEDED_BITS,
        "safe": ours >= NEEDED_BITS,
    }
    if arguments.json:
        print(json.dumps({**verdict, "estimates": [asdict(each) for each in found]}))
    else:
        print(
            f"{'set':10}{'attack':8}{'n':>6}{'log2 q':>8}{'sigma':>7}{'beta':>6}{'m':>6}{'classical':>11}{'quantum':>9}"
        )
        for each in found:
            print(
                f"{each.name:10}{each.attack:8}{each.degree:>6}{each.modulus_bits:>8.1f}{each.sigma:>7.2f}"
                f"{each.beta:>6}{each.samples:>6}{each.classical_bits:>11.1f}{each.quantum_bits:>9.1f}"
            )
        print(f"Kyber512, primal: {kyber} here, {KYBER512} published. The mask: {ours:.1f} bits, {NEEDED_BITS} needed.")
    return 0 if verdict["safe"] and verdict["method_agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())
