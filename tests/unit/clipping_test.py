"""The adaptive clip follows the norms inside one guarantee, and counts of people keep a lone person out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.privacy import clipping, contribution, noise, quantize
from aicache.privacy.errors import LocalError
from aicache.privacy.guarantees import Approximate
from support.seeded import byte_source


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(1e-3, 1e3), st.floats(0.1, 4))
def test_vector_and_bit_together_stay_within_the_joint_clip(values: list[float], clip: float, weight: float) -> None:
    adaptive = clipping.AdaptiveClip(weight=weight)
    joined = adaptive.with_bit(np.array(values), clip)
    assert np.linalg.norm(joined) <= adaptive.joint_clip(clip) * (1 + 1e-15)
    assert np.linalg.norm(joined[:-1]) <= clip * (1 + 1e-15)
    assert abs(joined[-1]) == weight * clip / 2
    assert (joined[-1] > 0) == (np.linalg.norm(np.array(values)) <= clip)


def test_the_clip_settles_at_the_quantile_of_the_norms() -> None:
    norms = np.geomspace(0.1, 10, 500)
    adaptive = clipping.AdaptiveClip(quantile=0.5, rate=0.2)
    clip = 20.0
    generator = np.random.default_rng(3)
    for _ in range(120):
        bits = sum(float(adaptive.with_bit(np.array([norm]), clip)[-1]) for norm in norms)
        clip = adaptive.next_clip(clip, bits + float(generator.normal(0, 5 * clip)), len(norms))
    assert clip == pytest.approx(1.0, rel=0.2)


def test_the_bit_travels_through_the_same_sum() -> None:
    adaptive = clipping.AdaptiveClip()
    scale, clip = 1000.0, 2.0
    total = np.zeros(3, dtype=np.int64)
    source = byte_source("bit")
    for norm in (1.0, 1.9, 5.0):
        vector = adaptive.with_bit(np.array([norm, 0.0]), clip)
        total += contribution.client_message(
            vector, clip=adaptive.joint_clip(clip), scale=scale, sigma_share=None, entropy=source
        )
    share = 0.5 + total[-1] / scale / (adaptive.weight * clip * 3)
    assert share == pytest.approx(2 / 3, abs=1e-2)


@pytest.mark.parametrize("bits", [math.nan, math.inf])
def test_a_sum_that_is_no_number_does_not_move_the_clip(bits: float) -> None:
    with pytest.raises(LocalError):
        clipping.AdaptiveClip().next_clip(1.0, bits, 10)


def test_no_noise_moves_the_clip_by_more_than_one_step_or_out_of_bounds() -> None:
    adaptive = clipping.AdaptiveClip(quantile=0.5, rate=0.2)
    assert adaptive.next_clip(1.0, 1e9, 10) == pytest.approx(math.exp(-0.1))
    assert adaptive.next_clip(1.0, -1e9, 10) == pytest.approx(math.exp(0.1))
    assert adaptive.next_clip(clipping.CLIP_MAX, -1e9, 10) == clipping.CLIP_MAX


@pytest.mark.parametrize(
    "arguments", [{"quantile": 0.0}, {"quantile": 1.0}, {"rate": 0.0}, {"weight": 0.0}, {"weight": math.nan}]
)
def test_adaptive_clipping_refuses_numbers_that_mean_nothing(arguments: dict[str, float]) -> None:
    with pytest.raises(LocalError):
        clipping.AdaptiveClip(**arguments)
    for clip in (0.0, math.nan, -1.0):
        with pytest.raises(LocalError):
            clipping.AdaptiveClip().with_bit(np.ones(2), clip)
    with pytest.raises(LocalError):
        clipping.AdaptiveClip().with_bit(np.array([math.nan]), 1.0)


def one_person_shows(scale: float, threshold: int) -> float:
    """P(1 + X ≥ threshold) by adding up the law."""
    x = np.arange(0, math.ceil(60 * scale) + threshold + 50, dtype=np.float64)
    weights = np.exp(-x / scale)
    return float(weights[threshold - 1 :].sum() / (2 * weights.sum() - 1))


@given(st.floats(0.05, 20), st.floats(-9, -2))
def test_the_threshold_is_the_smallest_that_keeps_delta(scale: float, log_delta: float) -> None:
    delta = 10**log_delta
    threshold = clipping.count_threshold(scale, delta)
    assert one_person_shows(scale, threshold) <= delta * (1 + 1e-9)
    assert threshold == 2 or one_person_shows(scale, threshold - 1) > delta * (1 - 1e-9)


def test_a_lone_person_stays_out_and_many_are_counted() -> None:
    counts = clipping.PeopleCounts(epsilon=1.0, delta=1e-6)
    source = byte_source("people")
    assert counts.guarantee == Approximate(1.0, 1e-6)
    released = [counts.release({"tag:rare": 1, "tag:common": 500, "tag:nobody": 0}, source) for _ in range(300)]
    assert all("tag:rare" not in table and "tag:nobody" not in table for table in released)
    values = [table["tag:common"] for table in released]
    assert abs(float(np.mean(values)) - 500) < 0.5
    assert len(set(values)) > 3


def test_published_counts_state_the_spread_of_their_noise() -> None:
    stated = clipping.PeopleCounts(epsilon=0.5, delta=1e-6, names_max=4).published("day")
    drawn = noise.discrete_laplace(8.0, 200_000, byte_source("published"))
    assert stated.sigma == pytest.approx(float(drawn.std()), rel=0.02)
    assert (stated.sensitivity, stated.epsilon, stated.delta, stated.window) == (2.0, 0.5, 1e-6, "day")


def test_a_person_in_many_names_needs_more_noise_and_a_minimum_always_holds() -> None:
    one, ten = (clipping.PeopleCounts(1.0, 1e-6, names_max=n) for n in (1, 10))
    assert ten.scale == 10 * one.scale
    assert ten.threshold > one.threshold
    loud = clipping.PeopleCounts(100.0, 1e-3, minimum=8)
    assert loud.threshold == 8
    assert loud.release({"a": 7, "b": 9}, byte_source("minimum")) == {"b": 9}


@pytest.mark.parametrize(
    "arguments", [(0.0, 1e-6), (1.0, 0.0), (1.0, 1.0), (math.nan, 1e-6), (1.0, 1e-6, 0), (1.0, 1e-6, 1, 0)]
)
def test_counts_refuse_numbers_that_mean_nothing(arguments: tuple[float, ...]) -> None:
    with pytest.raises(LocalError):
        clipping.PeopleCounts(*arguments)  # type: ignore[arg-type]


def test_a_message_is_clipped_before_noise_is_added_and_members_add_noise_alone() -> None:
    source = byte_source("message")
    vector = np.full(400, 1e6)
    plain = contribution.client_message(vector, clip=1.0, scale=100.0, sigma_share=None, entropy=source)
    assert np.linalg.norm(plain) <= quantize.sensitivity(1.0, 100.0, 400)
    noisy = contribution.client_message(vector, clip=1.0, scale=100.0, sigma_share=50.0, entropy=source)
    assert float((noisy - 5).std()) == pytest.approx(50, rel=0.2)
    member = contribution.member_message(100_000, sigma_share=20.0, entropy=source)
    assert float(member.std()) == pytest.approx(20, rel=0.02)
    assert not contribution.member_message(5, sigma_share=None, entropy=source).any()
    with pytest.raises(LocalError):
        contribution.member_message(0, sigma_share=1.0, entropy=source)
    with pytest.raises(LocalError):
        contribution.client_message(vector, clip=1.0, scale=100.0, sigma_share=0.0, entropy=source)
