"""What a client holds becomes the vector that the task names, or an error; nothing in between."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.privacy.errors import LocalError
from aicache.producers.vectors import (
    BIAS_STEP,
    count_sketch,
    evaluation,
    gradient,
    histogram,
    sketch_estimate,
    vector_of,
)
from aicache.schemas.records import Model, ModelSpec, Task
from support.deployment import make_task

LABELS = ["a", "b", "c"]
SPEC = ModelSpec(LABELS, LABELS, 30.0, 0.5, 1)
WEIGHTS = np.random.default_rng(5).normal(size=12)


def task(kind: str, length: int, **changes: object) -> Task:
    return replace(make_task(), kind=kind, length=length, labels=LABELS, **changes)


def model(weights: np.ndarray) -> Model:
    return Model("test", "m", 1, 0, "", b"", len(weights), weights.astype("<f8").tobytes(), 0, 0, None, [])


def test_each_kind_has_its_layout() -> None:
    assert vector_of(task("sum", 2), [1, 2]).tolist() == [1, 2]
    assert vector_of(task("mean", 2), (0.5, -1)).tolist() == [0.5, -1]
    assert vector_of(task("weighted-mean", 3), ([1.0, 2.0], 3)).tolist() == [3, 6, 3]
    assert vector_of(task("histogram", 3), ["a", "c", "a"]).tolist() == [2, 0, 1]
    assert vector_of(task("count-sketch", 8, sketch_depth=2, sketch_width=4), ["x"]).shape == (8,)
    assert vector_of(task("model", 12, model=SPEC), [["a", "b"]], model(WEIGHTS)).shape == (12,)
    assert vector_of(task("evaluation", 2), [["a", "b"]], model(WEIGHTS), SPEC).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("kind", "length", "data"),
    [
        ("sum", 2, [1, 2, 3]),
        ("sum", 2, [[1, 2]]),
        ("sum", 2, ["1", "2"]),
        ("sum", 2, [1, float("nan")]),
        ("sum", 2, [1, float("inf")]),
        ("sum", 2, [1j, 2]),
        ("sum", 2, None),
        ("mean", 2, []),
        ("weighted-mean", 3, ([1.0, 2.0], float("inf"))),
        ("histogram", 3, ["a", "not in the vocabulary"]),
        ("histogram", 4, ["a"]),
        ("model", 12, [["a", "b"]]),
        ("no such kind", 2, [1, 2]),
    ],
)
def test_data_that_does_not_fit_is_an_error(kind: str, length: int, data: Any) -> None:
    with pytest.raises(LocalError):
        vector_of(task(kind, length), data)


def loss(flat: np.ndarray, example: list[str]) -> float:
    weights, total = flat.reshape(4, 3), 0.0
    for target in example:
        context = [LABELS.index(label) for label in example if label != target]
        scores = weights[3] + weights[context].sum(axis=0)
        kept = [place for place in range(3) if place not in context]
        total += scores[LABELS.index(target)] - np.log(np.exp(scores[kept]).sum())
    return total


def test_the_gradient_is_that_of_the_likelihood() -> None:
    example, step = ["a", "c"], 1e-6
    found = gradient(SPEC, WEIGHTS, [example])
    for place in range(12):
        bump = np.zeros(12)
        bump[place] = step
        slope = (loss(WEIGHTS + bump, example) - loss(WEIGHTS - bump, example)) / (2 * step)
        assert found[place] == pytest.approx(slope * (BIAS_STEP if place >= 9 else 1), abs=1e-6)


def test_examples_add_and_unknown_or_repeated_labels_teach_nothing() -> None:
    one, two = gradient(SPEC, WEIGHTS, [["a", "b"]]), gradient(SPEC, WEIGHTS, [["b", "c"]])
    assert np.allclose(gradient(SPEC, WEIGHTS, [["a", "b"], ["b", "c"]]), one + two)
    assert np.array_equal(gradient(SPEC, WEIGHTS, [["a", "a", "zz", "b"]]), one)
    assert not gradient(SPEC, WEIGHTS, [["a"], [], ["zz", "a"]]).any()


def test_an_evaluation_hides_the_same_label_whatever_the_order() -> None:
    assert (
        evaluation(SPEC, WEIGHTS, [["a", "b", "c"]]).tolist() == evaluation(SPEC, WEIGHTS, [["c", "b", "a"]]).tolist()
    )
    assert evaluation(SPEC, WEIGHTS, [["a"], []]).tolist() == [0, 0]


@given(st.lists(st.sampled_from(LABELS)), st.lists(st.sampled_from(LABELS)))
def test_histograms_and_sketches_of_two_parts_add_up(left: list[str], right: list[str]) -> None:
    assert np.array_equal(histogram(LABELS, left) + histogram(LABELS, right), histogram(LABELS, left + right))
    assert np.array_equal(count_sketch(left, 3, 16) + count_sketch(right, 3, 16), count_sketch(left + right, 3, 16))


def test_a_sketch_tells_heavy_names_within_its_bound() -> None:
    names = [f"light-{number}" for number in range(500)] + ["heavy"] * 300
    table = count_sketch(names, 5, 256)
    bound = 3 * np.sqrt(500 + 300**2) / np.sqrt(256)
    assert abs(sketch_estimate(table, "heavy", 5, 256) - 300) <= bound
    assert abs(sketch_estimate(table, "absent", 5, 256)) <= bound
