"""When a partition tells what it has counted, and what of it. Pure."""

import heapq

from aicache.schemas import topics
from aicache.schemas.records import FeedbackSums
from aicache.streams.recommendations import counts
from aicache.streams.recommendations.state import (
    VECTORS,
    State,
    is_model_due,
    keep_model,
    to_json,
    write_touched,
)
from aicache.streams.runtime.contract import Output, Step

ROWS_MAX = 250
"""Rows in one publication of counts: each costs a few passes over all items."""


def tell(state: State, deployment: str, partition: int, step: Step) -> None:
    """Publish counts and vectors, and keep the model, when it is time."""
    if state.now_ms - state.vectors_ms >= counts.PERIOD_MS and state.examples - state.vectors >= counts.VECTORS_EVERY:
        publish_vectors(state, deployment, partition, step)
    late = state.now_ms - state.published_ms >= counts.PERIOD_MS
    if late and counts.is_due(state.examples, state.published):
        publish(state, deployment, partition, step)
    if is_model_due(state):
        keep_model(state, step)


def publish(state: State, deployment: str, partition: int, step: Step) -> None:
    """Tell what is counted of the items that were touched most, and of those that have waited longest; the rest waits on."""
    chosen = set(heapq.nsmallest(ROWS_MAX // 2, state.touched, key=lambda name: (-state.touched[name], name)))
    for name in state.touched:
        if len(chosen) >= ROWS_MAX:
            break
        chosen.add(name)
    step.outputs += counts.rows(state.model, chosen, deployment, partition, state.examples)
    for name in chosen:
        del state.touched[name]
    state.published, state.published_ms = state.examples, state.now_ms
    write_touched(state, step)


def publish_vectors(state: State, deployment: str, partition: int, step: Step) -> None:
    """Tell some pieces of the vectors, and the weights."""
    step.outputs += counts.vectors(state.model, deployment, partition, state.examples, state.turn)
    state.vectors, state.vectors_ms, state.turn = state.examples, state.now_ms, state.turn + 1
    step.changed[VECTORS] = to_json([state.vectors, state.vectors_ms, state.turn]).encode()


def feedback_sums(state: State, deployment: str, partition: int) -> list[Output]:
    """How answers fared, for the processor that adds partitions up."""
    outputs = []
    for namespace in state.feedback.take_due():
        standing = state.feedback.standings[namespace]
        sums = standing.sums.astype("<f8").tobytes()
        record = FeedbackSums(deployment, namespace, partition, standing.time_ms // 1_000, sums)
        outputs.append(Output(topics.COUNTS.name, f"{namespace}/{partition}".encode(), record))
    return outputs
