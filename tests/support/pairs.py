"""A task of pairs and what rounds of it open to, without a round."""

import numpy as np

from aicache.producers.vectors import pairs
from aicache.schemas.records import Aggregate, Guarantee, Task
from aicache.streams.rounds.task import from_mapping, guarantee_of

LABELS = [f"pypi:{n}" for n in range(12)]
BASKETS = [
    [label for label in LABELS[group : group + 4] if label != LABELS[group + left_out]]
    for group in (0, 4, 8)
    for left_out in range(4)
    for _ in range(100)
]
"""Three of each group of four: none of them stands for another."""


def declared(**changes: object) -> Task:
    data = {
        "task": "together",
        "kind": "pairs",
        "labels": LABELS,
        "epsilon": 4.0,
        "clip": 2.0,
        "scale": 2_000.0,
        "rounds": 1,
    }
    return from_mapping({**data, **changes}, "d")


def aggregate(task: Task, number: int = 1, baskets: list[list[str]] = BASKETS, noise: float = 4.0) -> Aggregate:
    rng = np.random.default_rng(number)
    total = sum(pairs(task.labels, [basket]) for basket in baskets)
    values = np.rint((total + rng.normal(0, noise, task.length)) * task.scale).astype("<i8")
    guarantee = Guarantee(**{name: getattr(guarantee_of(task), name) for name in Guarantee.__slots__})
    n = len(baskets)
    return Aggregate(
        "d", task.task, 1, f"r-{number}", number, task.kind, bytes(32), 5, n, task.length, task.scale, task.labels,
        values.tobytes(), [], guarantee, noise * task.scale,
    )  # fmt: skip
