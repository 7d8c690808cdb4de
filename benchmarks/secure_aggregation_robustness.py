"""How far clients that lie within their clip move a model, with plain averaging and with each rule over group means.

A softmax classifier of 10 classes in 20 dimensions is learned by federated gradients: 600 clients, each with examples of two
classes, clipped to norm 1. Attackers send the negative of their gradient at the clip (sign-flip), a random direction a hundred times
too long that its own clip does not cut (scaling: outside the protocol, a client that does not clip), or learn from wrong labels
(label-flip). The rules see only sums of groups that are drawn anew each round, as the reducer does; noise is left out, so that what
is measured is the rule.

Usage: python benchmarks/secure_aggregation_robustness.py
"""

import numpy as np
from numpy.typing import NDArray

from aicache.streams.reducer.opening import combine_groups

CLASSES, DIMENSIONS, CLIENTS, EXAMPLES = 10, 20, 600, 20
ROUNDS, STEP, SCALE = 25, 3.0, 10_000
GROUPS = (30, 150)
"""Groups of 20 and of 4 clients: a rule over means can only work where most groups have no attacker."""
RULES = ("none", "trimmed-mean", "median", "norm-filter")
ATTACKS = ("sign-flip", "scaling", "label-flip")
SHARES = (0.1, 0.2)
SCALED = 100.0
SEEDS = (1, 2)
Array = NDArray[np.float64]


class Crowd:
    """Made-up clients and a test set, from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.centres = self.rng.standard_normal((CLASSES, DIMENSIONS))
        owned = [self.rng.choice(CLASSES, 2, replace=False) for _ in range(CLIENTS)]
        self.labels = np.stack([self.rng.choice(two, EXAMPLES) for two in owned])
        self.inputs = self.points(self.labels)
        self.test_labels = self.rng.integers(0, CLASSES, 2_000)
        self.test_inputs = self.points(self.test_labels)

    def points(self, labels: NDArray[np.int64]) -> Array:
        return self.centres[labels] + 1.5 * self.rng.standard_normal((*labels.shape, DIMENSIONS))

    def accuracy(self, weights: Array) -> float:
        return float((np.argmax(self.test_inputs @ weights, axis=1) == self.test_labels).mean())

    def gradients(self, weights: Array, labels: NDArray[np.int64]) -> Array:
        """Of the log-likelihood, one a client, shape (CLIENTS, DIMENSIONS · CLASSES), clipped to norm 1."""
        scores = self.inputs @ weights
        chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
        error = np.eye(CLASSES)[labels] - chances / chances.sum(axis=-1, keepdims=True)
        flat = np.einsum("ned,nec->ndc", self.inputs, error).reshape(CLIENTS, -1)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1.0)


def learn(attack: str, share: float, rule: str, groups: int, seed: int) -> float:
    """Accuracy after ROUNDS with this share of attackers."""
    crowd = Crowd(seed)
    bad = np.arange(CLIENTS) < round(share * CLIENTS)
    labels = crowd.labels.copy()
    if attack == "label-flip":
        labels[bad] = (labels[bad] + 1) % CLASSES
    weights = np.zeros((DIMENSIONS, CLASSES))
    direction = crowd.rng.standard_normal(DIMENSIONS * CLASSES)
    direction /= np.linalg.norm(direction)
    for _ in range(ROUNDS):
        vectors = crowd.gradients(weights, labels)
        if attack == "sign-flip":
            vectors[bad] *= -1
        elif attack == "scaling":
            vectors[bad] = SCALED * direction
        integers = np.rint(vectors * SCALE).astype(np.int64)
        group = crowd.rng.permutation(np.arange(CLIENTS) % groups)
        sums = [integers[group == g].sum(axis=0) for g in range(groups)]
        counts = [int((group == g).sum()) for g in range(groups)]
        answer = combine_groups(rule, sums, counts)
        weights += STEP * (answer / (SCALE * CLIENTS)).reshape(weights.shape)
    return crowd.accuracy(weights)


COLUMNS = [("none", 1), *((rule, groups) for groups in GROUPS for rule in RULES[1:])]
CASES = [("clean", 0.0), *((attack, share) for attack in ATTACKS for share in SHARES)]


def run() -> dict[str, float | bool]:
    """Mean accuracy over the seeds: robust_ATTACK_PERCENT_RULE_GROUPS."""
    return {
        f"robust_{attack}_{share * 100:.0f}_{rule}_{groups}": float(
            np.mean([learn(attack, share, rule, groups, seed) for seed in SEEDS])
        )
        for rule, groups in COLUMNS
        for attack, share in CASES
    }


def main() -> None:
    figures = run()
    names = ["plain average", *(f"{rule}, {groups} groups" for rule, groups in COLUMNS[1:])]
    print("| attackers | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for attack, share in CASES:
        row = [f"{figures[f'robust_{attack}_{share * 100:.0f}_{rule}_{groups}']:.2f}" for rule, groups in COLUMNS]
        print(f"| {'none' if attack == 'clean' else f'{share:.0%} {attack}'} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
