"""Compiled loops say what the plain ones would, also where there is no place to keep what was compiled."""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.streams.recommendations.combination import BASE, PRIOR, TIE, Combination, _bucket, _move
from aicache.streams.recommendations.compiled import compiled
from aicache.streams.recommendations.ranker import top

SCORES = st.lists(st.tuples(st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 3.0]), st.booleans()), max_size=40)


@pytest.mark.parametrize(
    "path", sorted(Path(compiled.__code__.co_filename).parent.glob("*.py")), ids=lambda path: path.stem
)
def test_a_loop_uses_nothing_of_other_modules_of_ours(path: Path) -> None:
    """Else it would be kept although what it uses has changed."""
    tree = ast.parse(path.read_text())
    imports = [
        node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aicache")
    ]
    foreign = {alias.asname or alias.name for node in imports for alias in node.names}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(mark) == "compiled" for mark in node.decorator_list):
            used = {name.id for line in node.body for name in ast.walk(line) if isinstance(name, ast.Name)}
            assert not used & foreign, (node.name, used & foreign)


@given(SCORES, st.integers(0, 50))
def test_the_best_come_first_and_the_smaller_number_of_equal_ones(rows: list[tuple[float, bool]], k: int) -> None:
    scores, allowed = np.array([score for score, _ in rows], np.float32), np.array([may for _, may in rows], np.bool_)
    expected = sorted(np.flatnonzero(allowed).tolist(), key=lambda number: (-scores[number], number))[:k]
    assert top(scores, allowed, k).tolist() == expected


@pytest.mark.parametrize("size", [1, 3, 15])
def test_a_step_of_the_weights_solves_the_system_of_curvature_and_prior(size: int) -> None:
    rng = np.random.default_rng(size)
    half = rng.normal(size=(size, 2 * size))
    curvature, gradient = half @ half.T, rng.normal(size=size)
    expected = np.linalg.solve(curvature + PRIOR * np.eye(size), gradient)
    weights = np.zeros(size, np.float32)
    _move(weights, curvature, gradient)
    assert np.allclose(weights, expected, rtol=1e-5)
    assert not gradient.any()


def test_what_has_no_place_to_be_kept_is_compiled_all_the_same() -> None:
    names: dict[str, object] = {}
    exec("def twice(number):\n    return 2 * number", names)
    twice = names["twice"]
    assert callable(twice)
    assert compiled(twice)(21) == 42


def test_a_ranking_by_its_head_alone_is_that_of_all_features() -> None:
    model = Combination()
    for number in range(60):
        model.learn_basket([f"tag:{number % 7}", f"tag:{number % 11}", f"tag:{number % 5}", "language:c"])
    head = model._stacks[1]
    head.success = 1.0
    context = model.vocabulary.known(["language:c", "tag:1", "tag:4"])
    features = model.features(context)
    assert np.array_equal(model.neighbours.base_rates(), features[BASE])
    expected = head.scores(features, _bucket(2)) + TIE * features[BASE]
    assert np.allclose(model.scores(context), expected, rtol=1e-6)
