"""From aggregates to models: the server's step, the curve, the first model of a task.

A model task's vector is the sum of its clients' clipped gradients; the server divides by scale and n and takes a step with
momentum (federated averaging of gradients, McMahan et al. 2017, with the server momentum of Reddi et al. 2021).
An evaluation's vector is
[hits, trials]; its ratio becomes a point of the curve of the model that it measured. Pure.
"""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import accounting
from aicache.schemas.records import Aggregate, Guarantee, Metric, Model, Task
from aicache.streams.rounds.state import Changes, State, keep_model

METRICS_MAX = 200


def first_model(task: Task, now_ms: int) -> Model:
    """All weights zero: every output is as likely as any other."""
    weights = np.zeros(task.length)
    return _model(task, 0, -1, "", weights, now_ms, 0, None, [])


def _model(
    task: Task,
    version: int,
    parent: int,
    round_id: str,
    weights: NDArray[np.float64],
    now_ms: int,
    n: int,
    guarantee: Guarantee | None,
    metrics: list[Metric],
) -> Model:
    data = weights.astype("<f8").tobytes()
    return Model(
        deployment=task.deployment,
        task=task.task,
        version=version,
        parent=parent,
        round_id=round_id,
        digest=hashlib.sha256(data).digest(),
        length=task.length,
        weights=data,
        created_ms=now_ms,
        n=n,
        guarantee=guarantee,
        metrics=metrics,
    )


def step(state: State, task: Task, aggregate: Aggregate, changes: Changes) -> Model | None:
    """The next version of a task's model; None where nothing was opened."""
    if aggregate.n == 0 or task.model is None:
        return None
    before = state.models[task.task]
    total = np.frombuffer(aggregate.sum, dtype="<i8")[
        : task.length
    ]  # a clip that adapts has a coordinate of its own after it
    gradient = total.astype(np.float64) / (aggregate.scale * aggregate.n)
    momentum = state.momentum.get(task.task, np.zeros(task.length)) * task.model.momentum + gradient
    weights = np.frombuffer(before.weights, dtype="<f8") + task.model.step * momentum
    model = _model(
        task,
        before.version + 1,
        before.version,
        aggregate.round_id,
        weights,
        aggregate.closed_ms,
        aggregate.n,
        _so_far(before, aggregate),
        before.metrics,
    )
    state.momentum[task.task] = momentum
    state.models[task.task] = model
    keep_model(state, task.task, changes)
    return model


def _so_far(before: Model, aggregate: Aggregate) -> Guarantee:
    """The guarantee of all rounds that a model was learned from, for a client that took part in each."""
    spent = np.asarray(aggregate.guarantee.rdp)
    if before.guarantee is not None:
        spent = spent + np.asarray(before.guarantee.rdp)
    return replace(
        aggregate.guarantee,
        window=f"task:{aggregate.task}",
        epsilon=accounting.epsilon_from_rdp(spent, aggregate.guarantee.delta),
        rdp=spent.tolist(),
    )


def note_evaluation(state: State, task: Task, aggregate: Aggregate, version: int, changes: Changes) -> Model | None:
    """Add a point to the curve of the model that an evaluation measured; `version` is the one that was measured."""
    model = state.models.get(task.evaluates)
    if model is None or aggregate.n == 0:
        return None
    hits, trials = np.frombuffer(aggregate.sum, dtype="<i8")[:2].astype(np.float64)
    if trials <= 0:
        return None
    point = Metric(f"recall@v{version}", float(min(max(hits / trials, 0.0), 1.0)), aggregate.n)
    model = replace(model, metrics=[*model.metrics, point][-METRICS_MAX:])
    state.models[task.evaluates] = model
    keep_model(state, task.evaluates, changes)
    return model


def roll_back(newest: Model, earlier: Model, now_ms: int) -> Model:
    """The weights of an earlier version as a new one, so that versions only rise and nobody learns from two at once."""
    return replace(earlier, version=newest.version + 1, parent=earlier.version, round_id="", created_ms=now_ms)
