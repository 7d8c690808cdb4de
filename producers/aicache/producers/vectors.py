"""From what a client holds to the vector of a task: one pure function a kind, all behind `vector_of`.

| kind | data | vector |
|---|---|---|
| sum, mean | numbers, one a coordinate | the numbers |
| weighted-mean | (numbers, weight) | weight · numbers, then the weight |
| histogram | labels, repeated as they occurred | how often each label occurred |
| pairs | baskets (sets of labels) | how often each two labels were in one basket: upper triangle, row-major, diagonal included |
| count-sketch | names, repeated as they occurred | depth × width signed counters, row-major |
| model | examples (sets of labels) | the gradient of their log-likelihood, (inputs + 1) × outputs, row-major |
| evaluation | examples | [hits, trials] of the model's best answers |

Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError
from aicache.privacy.statements import digest
from aicache.schemas.records import Model, ModelSpec, Task

FloatVector: TypeAlias = NDArray[np.float64]
BIAS_STEP = 0.3
"""The bias learns this much slower: it stands for popularity, which every example teaches."""
BEST = 5
"""An evaluation counts a hit when the hidden label is among this many best answers."""
NEVER = -1e9
DIAGONAL = 0.3
"""What a label alone counts in a vector of pairs: counts of labels are far larger than counts of pairs, so they bear more noise."""
BASKETS_MAX = 100_000
"""Baskets of one client that count, and labels of one basket: bounds what a contribution costs to make."""
BASKET_MAX = 1_024


def vector_of(task: Task, data: Any, model: Model | None = None, spec: ModelSpec | None = None) -> FloatVector:
    """The vector that a client contributes to a task.

    Args:
        task: what is learned.
        data: what the client holds, in the form that the table above says.
        model: for model and evaluation tasks: the version to start from.
        spec: for evaluation tasks: that of the model task.

    Returns:
        Shape (task.length,), float64, before clipping.

    Raises:
        LocalError: the data does not fit the task.
    """
    match task.kind:
        case "sum" | "mean":
            vector = _numbers(data)
        case "weighted-mean":
            vector = _weighted(data)
        case "histogram":
            vector = histogram(task.labels, data)
        case "pairs":
            vector = pairs(task.labels, data)
        case "count-sketch":
            vector = count_sketch(data, task.sketch_depth, task.sketch_width)
        case "model":
            vector = gradient(_required(task.model or spec), _weights(model, task.length), data)
        case "evaluation":
            required = _required(spec)
            vector = evaluation(required, _weights(model, (len(required.inputs) + 1) * len(required.outputs)), data)
        case _:
            raise LocalError(
                "not a kind of task", got=task.kind, needed="a kind of the table in aicache.producers.vectors"
            )
    if vector.shape != (task.length,):
        raise LocalError("the vector has the wrong length", got=vector.shape, needed=(task.length,))
    if not np.isfinite(vector).all():
        raise LocalError("the vector has values that are not finite", got="NaN or infinity", needed="finite numbers")
    return vector


def _weighted(data: Any) -> FloatVector:
    try:
        numbers, weight = data
        factor = float(weight)
    except (TypeError, ValueError):
        raise LocalError(
            "the data is not numbers and their weight", got="another form", needed="(numbers, weight)"
        ) from None
    return np.append(_numbers(numbers) * factor, factor)


def _numbers(data: Any) -> FloatVector:
    try:
        vector = np.asarray(data)
    except ValueError:
        raise LocalError("the data is not a list of numbers", got="ragged", needed="numbers, one dimension") from None
    if vector.dtype.kind not in "iuf" or vector.ndim != 1:
        raise LocalError("the data is not a list of numbers", got=str(vector.dtype), needed="numbers, one dimension")
    return vector.astype(np.float64)


def _required(spec: ModelSpec | None) -> ModelSpec:
    if spec is None:
        raise LocalError("the task has no model", got=None, needed="the model's labels")
    return spec


def _weights(model: Model | None, length: int) -> FloatVector:
    if model is None or model.length != length:
        raise LocalError("the model is missing or has another length", got=model and model.length, needed=length)
    return np.frombuffer(model.weights, dtype="<f8").astype(np.float64)


def histogram(labels: Sequence[str], seen: Iterable[str]) -> FloatVector:
    """How often each label occurred.

    Raises:
        LocalError: a label is not in the vocabulary.
    """
    places = {label: place for place, label in enumerate(labels)}
    vector = np.zeros(len(labels))
    for label in seen:
        place = places.get(label) if isinstance(label, str) else None
        if place is None:
            raise LocalError("a label is not in the task's vocabulary", got="another", needed="a label of the task")
        vector[place] += 1
    return vector


def triangle_places(first: NDArray[np.int64], second: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    """Where pairs (first ≤ second) stand in the upper triangle of a matrix of `labels` rows, row-major, diagonal included."""
    places: NDArray[np.int64] = first * (2 * labels - first - 1) // 2 + second
    return places


def pairs(labels: Sequence[str], baskets: Iterable[Sequence[str]]) -> FloatVector:
    """How often each two labels were in one basket, and `DIAGONAL` for each label itself.

    The upper triangle of Σ x·xᵀ over the baskets' indicator vectors x, the diagonal weighed. A basket of m labels has the L2 norm
    √(m(m-1)/2 + 0.09m): with c labels at most and a diagonal of 1 it would be √(c(c+1)/2). The task's clip bounds the norm of all
    baskets of a client together, so a long basket counts less a pair instead of losing labels.

    Args:
        labels: the vocabulary; what is not in it is passed over.
        baskets: sets of labels; a label counts once a basket.

    Returns:
        Shape (k(k+1)/2,) for k labels, float64.

    Raises:
        LocalError: too many baskets, or a basket of too many labels.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    vector = np.zeros(len(labels) * (len(labels) + 1) // 2)
    for count, basket in enumerate(baskets):
        if isinstance(basket, str):
            raise LocalError("a basket is a set of labels", got="one label", needed="baskets: lists of labels")
        known = np.array(sorted({numbers[label] for label in basket if label in numbers}), dtype=np.int64)
        if count >= BASKETS_MAX or known.size > BASKET_MAX:
            got = (count + 1, known.size)
            raise LocalError("too many baskets or labels", got=got, needed=(BASKETS_MAX, BASKET_MAX))
        first, second = np.triu_indices(known.size)
        value = np.where(first == second, DIAGONAL, 1.0)
        vector[triangle_places(known[first], known[second], len(labels))] += value
    return vector


def sketch_places(name: str, depth: int, width: int) -> tuple[NDArray[np.int64], FloatVector]:
    """Where a name is counted in each row of a count sketch, and with which sign (Charikar, Chen, Farach-Colton 2002)."""
    columns, signs = np.zeros(depth, dtype=np.int64), np.zeros(depth)
    for row in range(depth):
        word = int.from_bytes(digest("sketch", row, name)[:8], "big")
        columns[row], signs[row] = (word >> 1) % width, 1.0 if word & 1 else -1.0
    return columns, signs


def count_sketch(names: Iterable[str], depth: int, width: int) -> FloatVector:
    """Signed counters of an open vocabulary: shape (depth · width,)."""
    table = np.zeros((depth, width))
    for name in names:
        columns, signs = sketch_places(name, depth, width)
        table[np.arange(depth), columns] += signs
    return table.ravel()


def sketch_estimate(table: FloatVector, name: str, depth: int, width: int) -> float:
    """How often a name occurred: the median over the rows; off by more than 3·‖counts‖₂/√width in few of 2^depth cases."""
    columns, signs = sketch_places(name, depth, width)
    return float(np.median(table.reshape(depth, width)[np.arange(depth), columns] * signs))


def _scores(weights: FloatVector, context: list[int], taken: list[int]) -> FloatVector:
    scores = weights[-1] + weights[context].sum(axis=0)
    scores[taken] = NEVER
    return scores


def _places(spec: ModelSpec, example: Sequence[str]) -> tuple[list[str], Mapping[str, int], Mapping[str, int]]:
    inputs = {label: place for place, label in enumerate(spec.inputs)}
    outputs = {label: place for place, label in enumerate(spec.outputs)}
    return [label for label in dict.fromkeys(example) if label in inputs or label in outputs], inputs, outputs


def gradient(spec: ModelSpec, flat: FloatVector, examples: Iterable[Sequence[str]]) -> FloatVector:
    """The gradient of the log-likelihood of each label given the others of its example, under one softmax layer.

    Args:
        spec: names of inputs and outputs.
        flat: weights, (inputs + 1) × outputs row-major; the last row is the bias.
        examples: sets of labels; labels of neither list are passed over.
    """
    weights = flat.reshape(len(spec.inputs) + 1, len(spec.outputs))
    result = np.zeros_like(weights)
    for example in examples:
        labels, inputs, outputs = _places(spec, example)
        for target in labels:
            if target not in outputs or len(labels) < 2:
                continue
            others = [label for label in labels if label != target]
            context = [inputs[label] for label in others if label in inputs]
            taken = [outputs[label] for label in others if label in outputs]
            scores = _scores(weights, context, taken)
            error = -np.exp(scores - scores.max())
            error /= -error.sum()
            error[outputs[target]] += 1.0
            result[context] += error
            result[-1] += BIAS_STEP * error
    return result.ravel()


def evaluation(spec: ModelSpec, flat: FloatVector, examples: Iterable[Sequence[str]]) -> FloatVector:
    """[hits, trials]: of each example the label with the smallest digest is hidden and asked for."""
    weights = flat.reshape(len(spec.inputs) + 1, len(spec.outputs))
    hits = trials = 0
    for example in examples:
        labels, inputs, outputs = _places(spec, example)
        candidates = [label for label in labels if label in outputs]
        if len(labels) < 2 or not candidates:
            continue
        hidden = min(candidates, key=lambda label: digest("hidden", label, *sorted(labels)))
        others = [label for label in labels if label != hidden]
        context = [inputs[label] for label in others if label in inputs]
        scores = _scores(weights, context, [outputs[label] for label in others if label in outputs])
        trials += 1
        hits += int((scores > scores[outputs[hidden]]).sum() < BEST)
    return np.array([hits, trials], dtype=np.float64)
