"""A step of the factorization is AdaGrad's on the likelihood of what came, as NumPy alone would take it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from aicache.streams.recommendations.factorization import ADAGRAD_START, Factorization

Examples = list[tuple[list[int], list[int]]]
MIXED: Examples = [([3, 1, 7], [2]), ([], [4, 5, 1]), ([], [6]), ([2, 3], [9]), ([], [8, 2]), ([11], [3])]


def factorization(examples: Examples, *, ordered: float = 0.4) -> Factorization:
    ranker = Factorization(dimension=10, batch=1_000)
    for number in range(12):
        ranker.vocabulary.add(f"tag:{number}")
    ranker.ordered = ordered
    for context, targets in examples:
        if context:
            ranker.learn(context, targets[0])
        else:
            ranker.learn_set(targets)
    return ranker


def shares(ranker: Factorization, examples: Examples) -> NDArray[np.float64]:
    """How much each item says of each target: shape (targets, items)."""
    decay = 1.0 - (1.0 - ranker.decay) * ranker.ordered
    rows = []
    for context, targets in examples:
        for target in targets:
            row = np.zeros(12)
            near = context or [other for other in targets if other != target]
            row[near] = decay ** np.arange(len(near))[::-1] if context else 1.0
            rows.append(row / max(np.sqrt(np.square(row).sum()), 1e-9))
    return np.array(rows)


@pytest.mark.parametrize("scale", [1.0, 60.0])
@pytest.mark.parametrize("examples", [MIXED, MIXED[:1], MIXED[1:2], MIXED[2:3]])
def test_a_step_is_that_of_adagrad_on_the_likelihood(examples: Examples, scale: float) -> None:
    """Also of vectors that have grown so much that no exponential of what they say is a number."""
    ranker = factorization([*MIXED, *MIXED])
    ranker._step()
    ranker._input *= scale
    ranker._output *= scale
    for context, targets in examples:
        ranker._wait(np.array(context, dtype=np.int64), np.array(targets))
    before = {name: array.astype(np.float64)[:12] for name, array in ranker.arrays().items()}
    inputs, outputs, bias = before["input"], before["output"], before["bias"]
    weights = shares(ranker, examples)
    targets = np.array([target for _, those in examples for target in those])
    rates = np.array([ranker.rate if len(those) > 1 else ranker.event_rate for _, those in examples for _ in those])

    hidden = weights @ inputs
    exponents = hidden @ outputs.T + bias
    exponents[weights > 0] = -np.inf
    assert (exponents.max() > 90) == (scale > 1 and len(weights[0].nonzero()[0]) > 0)
    error = -np.exp(exponents - exponents.max(axis=1, keepdims=True))
    error /= -error.sum(axis=1, keepdims=True)
    error[np.arange(len(targets)), targets] += 1.0
    bias_sum = before["bias_sum"] + np.square(error).sum(axis=0)
    output_sum = before["output_sum"] + np.square(hidden).mean(axis=1) @ np.square(error)
    back = error @ outputs
    gradient, step = weights.T @ back, weights.T @ (back * rates[:, None])
    input_sum = before["input_sum"] + np.square(gradient).mean(axis=1)
    expected = {
        "input": inputs + step / np.sqrt(input_sum + ADAGRAD_START)[:, None],
        "output": outputs + (error.T * rates) @ hidden / np.sqrt(output_sum + ADAGRAD_START)[:, None],
        "bias": bias + rates @ error / np.sqrt(bias_sum + ADAGRAD_START),
        "input_sum": input_sum,
        "output_sum": output_sum,
        "bias_sum": bias_sum,
    }

    ranker._step()
    for name, array in expected.items():
        np.testing.assert_allclose(ranker.arrays()[name][:12], array, rtol=1e-3, atol=1e-5, err_msg=name)


def test_activations_are_of_the_weighted_sum_of_what_is_at_hand() -> None:
    ranker = factorization(MIXED)
    ranker._step()
    arrays = ranker.arrays()
    for context in ([], [5], [2, 7, 3]):
        found = ranker.activations(np.array(context, dtype=np.int64), (ranker.decay, 0.5))
        hidden = shares(ranker, [(context, [0])])[0] @ arrays["input"][:12] if context else np.zeros(10)
        np.testing.assert_allclose(found[0], arrays["output"][:12] @ hidden + arrays["bias"][:12], atol=1e-5)
        np.testing.assert_allclose(found[0], ranker.activations(context, (ranker.decay,))[0], atol=1e-6)


def test_vectors_that_grow_without_bound_leave_likelihoods_finite() -> None:
    ranker = factorization(MIXED)
    ranker._make_room(12)
    ranker._output[:12] = 1e4 * np.arange(-6, 6, dtype=np.float32)[:, None] * ranker._input[3]
    ranker._step()
    assert all(np.isfinite(array).all() for array in ranker.arrays().values())
