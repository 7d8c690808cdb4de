"""The samplers have the law that they claim: by their tables to the last bit, and by ten million draws."""

import math
import os
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from aicache.privacy import noise
from aicache.privacy.errors import LocalError
from support.seeded import byte_source

MANY = 10_000_000
P_VALUE_MIN = 1e-8  # a right sampler falls below this once in 10^8 seeds


def law(name: str, scale: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The normalised weights on x, in doubles; x must hold all but a negligible part of the law."""
    weights = np.exp(-(x**2) / (2 * scale**2)) if name == "gaussian" else np.exp(-np.abs(x) / scale)
    return weights / weights.sum()


def goodness(samples: NDArray[np.int64], name: str, scale: float) -> tuple[float, float]:
    """p-values of the chi-square test (cells of at least 50 expected) and of the Kolmogorov test (by DKW's inequality)."""
    reach = math.ceil(scale * (12 if name == "gaussian" else 60)) + 2
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    expected = law(name, scale, x) * len(samples)
    assert int(np.abs(samples).max()) <= reach
    seen = np.bincount(samples + reach, minlength=len(x))
    distance = float(np.abs(np.cumsum(seen) - np.cumsum(expected)).max()) / len(samples)
    kolmogorov = min(1.0, 2 * math.exp(-2 * len(samples) * distance**2))
    width = max(1, len(x) // 4000)
    cut = len(x) // width * width
    cells = [np.append(v[:cut].reshape(-1, width).sum(axis=1), v[cut:].sum()) for v in (seen, expected)]
    big = cells[1] >= 50
    grouped = [np.append(v[big], v[~big].sum()) for v in cells]
    statistic = float((((grouped[0] - grouped[1]) ** 2) / np.maximum(grouped[1], 1e-9)).sum())
    return float(stats.chi2.sf(statistic, len(grouped[0]) - 1)), kolmogorov


@pytest.mark.parametrize("sigma", [0.4, 2.0, 16.0, 316.2, 1000.0, 5000.5])
def test_ten_million_draws_look_like_the_discrete_gaussian(sigma: float) -> None:
    samples = noise.discrete_gaussian(sigma, MANY, byte_source(f"gaussian {sigma}"))
    chi_square, kolmogorov = goodness(samples, "gaussian", sigma)
    assert chi_square > P_VALUE_MIN
    assert kolmogorov > P_VALUE_MIN
    if sigma >= 2:
        assert abs(float(samples.std()) / sigma - 1) < 1e-3


@pytest.mark.parametrize("scale", [0.3, 3.0, 100.0, 700.7])
def test_draws_look_like_the_discrete_laplace_law(scale: float) -> None:
    samples = noise.discrete_laplace(scale, MANY // 4, byte_source(f"laplace {scale}"))
    chi_square, kolmogorov = goodness(samples, "laplace", scale)
    assert chi_square > P_VALUE_MIN
    assert kolmogorov > P_VALUE_MIN


def test_very_wide_noise_has_the_right_spread_and_uses_every_bit() -> None:
    sigma = 2.0**30 + 12345
    samples = noise.discrete_gaussian(sigma, 1_000_000, byte_source("wide"))
    assert stats.kstest(samples / sigma, "norm").pvalue > P_VALUE_MIN
    for bit in range(12):
        assert abs(float((samples >> bit & 1).mean()) - 0.5) < 0.005


@pytest.mark.parametrize(
    ("name", "scale", "half"),
    [
        ("gaussian", 0.05, False),
        ("gaussian", 1.0, False),
        ("gaussian", 16.0, False),
        ("gaussian", 1000.0, False),
        ("gaussian", 612.3, True),
        ("laplace", 0.1, False),
        ("laplace", 5.5, False),
        ("laplace", 100.0, True),
    ],
)
def test_the_table_is_the_law_to_a_hundred_and_twelve_bits(name: str, scale: float, half: bool) -> None:
    """Sums all differences against 60-digit decimals: this bounds the tail and the rounding at once."""
    table = noise.alias_table(name, scale, half=half)
    assert sum(table.weights) == 1 << 128
    span = len(table.weights) * 3 // 2 + 20
    values = range(0 if half else -span, span)
    with localcontext() as context:
        context.prec = 70
        exact, s = {}, Decimal(scale)
        for x in values:
            exact[x] = (-(Decimal(x) ** 2) / (2 * s * s)).exp() if name == "gaussian" else (-abs(Decimal(x)) / s).exp()
        total = sum(exact.values())
        stored = {table.first + i: Decimal(weight) / 2**128 for i, weight in enumerate(table.weights)}
        distance = sum(abs(stored.get(x, Decimal(0)) - exact[x] / total) for x in values) / 2
    assert distance < Decimal(2) ** -112
    assert noise.DISTANCE_MAX == 2.0**-112


@pytest.mark.parametrize(
    ("name", "scale"), [("gaussian", 0.05), ("gaussian", 16.0), ("gaussian", 1000.0), ("laplace", 7.0)]
)
def test_looking_up_gives_back_every_weight_exactly(name: str, scale: float) -> None:
    """Slots cut at edge and rest, times 2^-128, add up to the stored weights: the alias method loses nothing."""
    table = noise.alias_table(name, scale, half=False)
    capacity = 1 << (128 - table.bits)
    found = dict.fromkeys(range(table.first, table.first + len(table.weights)), 0)
    for slot, (edge, rest) in enumerate(zip(table.edge.tolist(), table.rest.tolist(), strict=True)):
        own = ((edge - (slot << (64 - table.bits))) << 64) + rest
        assert 0 <= own <= capacity
        if own:
            found[int(table.value[2 * slot + 1])] += own
        if own < capacity:
            found[int(table.value[2 * slot])] += capacity - own
    assert list(found.values()) == list(table.weights)


class ScriptedWords(noise.WordStream):
    """Hands out the words it is given."""

    def __init__(self, *batches: list[int]) -> None:
        self.batches = list(batches)

    def take(self, count: int) -> NDArray[np.uint64]:
        batch = self.batches.pop(0)
        assert len(batch) == count
        return np.array(batch, dtype=np.uint64)


def test_a_word_on_the_edge_is_settled_by_a_second_word() -> None:
    table = noise.alias_table("gaussian", 16.0, half=False)
    capacity = 1 << (64 - table.bits)
    cuts = [int(edge) - slot * capacity for slot, edge in enumerate(table.edge)]
    slot = next(i for i, cut in enumerate(cuts) if 0 < cut < capacity - 1 and 0 < int(table.rest[i]) < (1 << 64) - 1)
    edge, rest = int(table.edge[slot]), int(table.rest[slot])
    own, other = int(table.value[2 * slot + 1]), int(table.value[2 * slot])
    out = np.empty(4, dtype=np.int64)
    table.draw(ScriptedWords([edge - 1, edge, edge, edge + 1], [rest - 1, rest]), out)
    assert out.tolist() == [own, own, other, other]


def test_a_coin_too_close_to_call_in_doubles_is_decided_by_integers() -> None:
    gamma = Fraction(1, 1000)
    low, high = noise.exp_bounds(gamma, 200)
    edge = int(low * (1 << 64))  # the uniform number that begins with these 64 bits may be on either side
    beyond = (low * (1 << 128) - (edge << 64)).__floor__()
    asked = []

    def exact(index: int) -> Fraction:
        asked.append(index)
        return gamma

    gammas = np.full(4, float(gamma))
    words = ScriptedWords([edge - 1, edge + 1, edge, edge], [beyond - 1], [beyond + 1])
    assert noise._bernoulli_exp(gammas, words, exact).tolist() == [True, False, True, False]
    assert asked == [0, 1, 2, 3]
    assert high - low <= Fraction(1, 1 << 200)


@pytest.mark.parametrize(("law", "scale"), [("gaussian", 1500.0), ("gaussian", 2.0**21 + 77), ("laplace", 1000.0)])
def test_every_proposal_of_a_wide_law_is_accepted_exactly_when_its_coin_says_so(law: str, scale: float) -> None:
    """Draws one pass, reads the words that it used, and decides each proposal again with 60-digit decimals."""
    used: list[NDArray[np.uint64]] = []

    class RecordedWords(noise.WordStream):
        def take(self, count: int) -> NDArray[np.uint64]:
            used.append(super().take(count))
            return used[-1]

    table_max = noise.GAUSSIAN_TABLE_MAX if law == "gaussian" else noise.LAPLACE_TABLE_MAX
    shift = math.ceil(math.log2(scale / table_max))
    table = noise.alias_table(law, scale / 2**shift, half=True)
    drawn = noise._wide_pass(law, scale, shift, table, RecordedWords(byte_source(f"wide {law} {scale}")), 4000)
    first, fine_words, coins = used
    again = np.empty(4000, dtype=np.int64)
    table.draw(ScriptedWords(first.tolist()), again)
    expected = []
    for coarse, word, coin in zip(again.tolist(), fine_words.tolist(), coins.tolist(), strict=True):
        fine, negative = word >> (64 - shift), word & 1
        magnitude = (coarse << shift) + fine
        with localcontext() as context:
            context.prec = 60
            s, x, low = Decimal(scale), Decimal(magnitude), Decimal(coarse << shift)
            log_ratio = (low * low - x * x) / (2 * s * s) if law == "gaussian" else (low - x) / s
            accepted = Decimal(coin) / 2**64 < log_ratio.exp()
        if accepted and not (negative and magnitude == 0):
            expected.append(-magnitude if negative else magnitude)
    assert drawn.tolist() == expected
    assert len(expected) > 3900


@given(st.fractions(0, 40), st.integers(10, 300))
@settings(max_examples=60)
def test_bounds_on_the_exponential_hold(gamma: Fraction, bits: int) -> None:
    low, high = noise.exp_bounds(gamma, bits)
    assert 0 <= low <= high <= 1
    assert high - low <= Fraction(1, 1 << bits)
    terms, term, k = Fraction(0), Fraction(1), 0
    while term > Fraction(1, 1 << (bits + 90)) or k < gamma:  # e^γ by its series, rationals throughout
        terms += term
        k += 1
        term = term * gamma / k
        term = Fraction(int(term * (1 << 600)), 1 << 600)
    inverse = 1 / terms
    slack = Fraction(1, 1 << bits)
    assert low - slack <= inverse <= high + slack


@pytest.mark.parametrize(
    ("fast", "slow", "scale"),
    [
        (noise.discrete_gaussian, lambda e: noise.exact_discrete_gaussian(Fraction(9, 4), e), 1.5),
        (noise.discrete_laplace, lambda e: noise.exact_discrete_laplace(Fraction(5, 2), e), 2.5),
    ],
)
def test_the_reference_of_the_paper_and_the_fast_sampler_agree(
    fast: Callable[..., NDArray[np.int64]], slow: Callable[[object], int], scale: float
) -> None:
    source = byte_source(f"reference {scale}")
    reference = np.array([slow(source) for _ in range(8000)])
    name = "gaussian" if fast is noise.discrete_gaussian else "laplace"
    assert goodness(reference, name, scale)[0] > P_VALUE_MIN
    quick = fast(scale, 8000, source)
    both = np.array([np.bincount(np.clip(v, -6, 6) + 6, minlength=13) for v in (reference, quick)])
    both = both[:, both.sum(axis=0) >= 20]
    assert stats.chi2_contingency(both).pvalue > P_VALUE_MIN


def test_the_reference_coins_are_fair_to_their_probability() -> None:
    source = byte_source("coins")
    tosses = 20_000
    for gamma in (Fraction(1, 3), Fraction(7, 3)):
        heads = sum(noise.exact_bernoulli_exp(gamma, source) for _ in range(tosses))
        assert stats.binomtest(heads, tosses, math.exp(-gamma)).pvalue > P_VALUE_MIN
    rolls = np.bincount([noise.exact_uniform(7, source) for _ in range(tosses)], minlength=7)
    assert stats.chisquare(rolls).pvalue > P_VALUE_MIN


def test_every_call_asks_for_its_own_key_and_nothing_else_decides() -> None:
    asked: list[int] = []

    def counting(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    first, second = (noise.discrete_gaussian(50.0, 1000, counting) for _ in range(2))
    assert asked == [32, 32]
    assert (first != second).any()
    again = [noise.discrete_gaussian(50.0, 1000, byte_source("same")) for _ in range(2)]
    assert (again[0] == again[1]).all()


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 2.0**41, True])
@pytest.mark.parametrize("sampler", [noise.discrete_gaussian, noise.discrete_laplace])
def test_a_scale_out_of_range_draws_nothing(sampler: Callable[..., object], scale: float) -> None:
    def never(size: int) -> bytes:
        raise AssertionError("entropy was asked for")

    with pytest.raises(LocalError) as error:
        sampler(scale, 10, never)
    assert error.value.needed == (0, noise.SCALE_MAX)
    with pytest.raises(LocalError):
        sampler(1.0, -1, never)


def test_a_byte_source_that_runs_dry_is_refused() -> None:
    with pytest.raises(LocalError, match="wrong size"):
        noise.discrete_gaussian(1.0, 5, lambda size: b"short")


def test_no_samples_are_an_empty_vector() -> None:
    assert noise.discrete_gaussian(3.0, 0, os.urandom).shape == (0,)
    assert noise.discrete_gaussian(1e6, 0, os.urandom).shape == (0,)


def test_the_references_refuse_what_has_no_meaning() -> None:
    with pytest.raises(LocalError):
        noise.exact_uniform(0, os.urandom)
    with pytest.raises(LocalError):
        noise.exact_bernoulli_exp(Fraction(-1, 2), os.urandom)
