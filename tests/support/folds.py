"""What every fold is tested with: its log cut into batches, and what its changelog keeps of them."""

from collections.abc import Sequence
from typing import Any

from aicache.streams.runtime.contract import Batch, Fold, Message, Step


def play(fold: Fold[Any], cuts: Sequence[int], log: list[Message]) -> tuple[Any, list[Step]]:
    state, steps = fold.empty(0), []
    for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        steps.append(fold.apply(state, Batch(0, log[start:end])))
    return state, steps


def changelog(steps: Sequence[Step]) -> dict[bytes, bytes]:
    kept: dict[bytes, bytes] = {}
    for step in steps:
        for key, value in step.changed.items():
            if value is None:
                kept.pop(key, None)
            else:
                kept[key] = value
    return kept
