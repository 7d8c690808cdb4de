"""Pairs of labels become a triangle on the client, and weights of recommendation where the noisy sum opens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.privacy.errors import LocalError
from aicache.producers.vectors import DIAGONAL, pairs, triangle_places
from aicache.streams.recommendations import gram

LABELS = [f"item:{n}" for n in range(12)]
BASKETS = st.lists(st.lists(st.sampled_from(LABELS), max_size=12), max_size=8)


def indicators(baskets: list[list[str]]) -> np.ndarray:
    rows = np.zeros((len(baskets), len(LABELS)))
    for row, basket in zip(rows, baskets, strict=True):
        row[[LABELS.index(label) for label in basket]] = 1
    return rows


@given(BASKETS)
def test_a_vector_of_pairs_is_the_triangle_of_the_gram_matrix(baskets: list[list[str]]) -> None:
    rows = indicators(baskets)
    whole = rows.T @ rows
    np.fill_diagonal(whole, np.diag(whole) * DIAGONAL)
    vector = pairs(LABELS, baskets)
    assert np.allclose(vector, whole[np.triu_indices(len(LABELS))])
    assert np.allclose(gram.square(vector, len(LABELS)), whole)


@given(st.integers(1, 40))
def test_places_in_the_triangle_are_those_of_numpy(labels: int) -> None:
    first, second = np.triu_indices(labels)
    assert np.array_equal(triangle_places(first, second, labels), np.arange(labels * (labels + 1) // 2))


def test_a_basket_of_m_labels_has_the_stated_norm() -> None:
    vector = pairs(LABELS, [LABELS[:7]])
    assert np.linalg.norm(vector) == pytest.approx(np.sqrt(7 * 6 / 2 + DIAGONAL**2 * 7))


def test_what_is_not_in_the_vocabulary_is_passed_over_and_a_label_counts_once() -> None:
    assert np.array_equal(pairs(LABELS, [["item:1", "other", "item:1"]]), pairs(LABELS, [["item:1"]]))


def test_one_label_is_no_basket_and_a_basket_has_a_largest_size() -> None:
    with pytest.raises(LocalError, match="a set of labels"):
        pairs(LABELS, ["item:1"])
    many = [f"item:{n}" for n in range(1_025)]
    with pytest.raises(LocalError, match="too many"):
        pairs(many, [many])


def planted(rng: np.random.Generator, people: int = 4_000, labels: int = 60) -> np.ndarray:
    """Baskets of six from one of twelve groups of five labels, popular and rare ones, and one label from anywhere."""
    groups = rng.choice(12, size=people, p=np.linspace(2, 0.2, 12) / np.linspace(2, 0.2, 12).sum())
    rows = np.zeros((people, labels))
    for row, group in zip(rows, groups, strict=True):
        row[group * 5 + rng.choice(5, size=4, replace=False)] = 1
        row[rng.integers(labels)] = 1
    return rows


def triangle(rows: np.ndarray, clip: float) -> np.ndarray:
    sizes = rows.sum(axis=1)
    norms = np.sqrt(sizes * (sizes - 1) / 2 + DIAGONAL**2 * sizes)
    whole = rows.T @ (rows * np.minimum(1, clip / norms)[:, None])
    np.fill_diagonal(whole, np.diag(whole) * DIAGONAL)
    return whole[np.triu_indices(len(whole))]


def found(weights: np.ndarray) -> float:
    """How many of the four others of its group are an item's four best neighbours."""
    best = np.argsort(-weights, axis=1)[:, :4]
    return float(np.mean(best // 5 == np.arange(len(weights))[:, None] // 5))


def test_weights_find_what_goes_together_with_noise_and_without() -> None:
    rng = np.random.default_rng(3)
    clear = triangle(planted(rng), 2.0)
    assert found(gram.solve(clear, 60, 0.0).weights) == 1.0
    sigma = 8.0
    noisy = clear + rng.normal(0, sigma, clear.shape)
    shrunk = found(gram.solve(noisy, 60, sigma).weights)
    as_it_is = gram.square(noisy, 60)
    np.fill_diagonal(as_it_is, np.diag(as_it_is) / DIAGONAL)
    assert shrunk > 0.85
    assert shrunk > found(gram.ease(as_it_is, 2 * sigma * np.sqrt(60))) + 0.03


def test_nothing_but_noise_gives_hardly_any_weight() -> None:
    rng = np.random.default_rng(4)
    solved = gram.solve(rng.normal(0, 5.0, 60 * 61 // 2), 60, 5.0)
    assert np.abs(solved.weights).max() < 0.2
    assert solved.popularity.sum() == pytest.approx(1.0)


def test_the_same_sum_gives_the_same_bits() -> None:
    rng = np.random.default_rng(5)
    noisy = triangle(planted(rng, 500), 2.0) + rng.normal(0, 3.0, 60 * 61 // 2)
    assert gram.solve(noisy, 60, 3.0).weights.tobytes() == gram.solve(noisy, 60, 3.0).weights.tobytes()


@pytest.mark.parametrize(
    ("values", "labels", "sigma"),
    [(np.zeros(3), 3, 1.0), (np.array([1.0, np.nan, 1.0]), 2, 1.0), (np.zeros(3), 2, -1.0), (np.zeros(1), 1, 1.0)],
)
def test_bad_sums_are_refused(values: np.ndarray, labels: int, sigma: float) -> None:
    with pytest.raises(LocalError):
        gram.solve(values, labels, sigma)
