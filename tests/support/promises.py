"""What the privacy code promises, each as a check of the shipped code: audits run them as it is, mutants break it first.

Every check draws from seeded byte sources with fixed sample sizes, so its verdict is the same in every run. With fresh seeds a
right implementation would fail one of them less than once in 10^6 runs: each of the nine bounds on epsilon is wrong with at most
10^-7 (attack.py), each goodness-of-fit threshold is 10^-8, and spreads are held to six of their standard errors.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from aicache.privacy import (
    accounting,
    anonymize,
    clipping,
    contribution,
    masking,
    mechanisms,
    noise,
    parameters,
    quantize,
)
from aicache.privacy.accounting import ORDERS
from aicache.privacy.errors import LocalError
from support import attack
from support.seeded import byte_source

MILLION = 1_000_000
P_VALUE_MIN = 1e-8

IntVector = NDArray[np.int64]
FloatVector = NDArray[np.float64]


# ---------------------------------------------------------------- audits by distinguishing


def between_half_and_claim(bound: float, claim: float) -> None:
    """An audit is honest if it proves no more than is claimed, and has eyes if it proves at least half of it."""
    assert bound <= claim, f"epsilon {bound:.3f} is proven, {claim:.3f} is claimed"
    assert bound >= claim / 2, f"only {bound:.3f} of {claim:.3f} is seen: this audit is blind"


def central_gaussian_noise_hides_one_client() -> None:
    delta, sigma = 1e-3, 1.0
    source = byte_source("central gaussian")
    worlds = [
        mechanisms.gaussian(np.full(MILLION, x), sensitivity=1.0, sigma=sigma, step=1e-6, entropy=source)
        for x in (1.0, 0.0)
    ]
    claim = worlds[0][1].at(delta)
    bound = attack.threshold_bound(worlds[0][0], worlds[1][0], [2.4, 2.8, 3.0, 3.2], delta)
    between_half_and_claim(bound, claim)


def central_geometric_noise_hides_one_client() -> None:
    source = byte_source("central geometric")
    values = [mechanisms.geometric(np.full(MILLION, x), sensitivity=1, epsilon=1.0, entropy=source)[0] for x in (1, 0)]
    bound = attack.threshold_bound(values[0].astype(np.float64), values[1].astype(np.float64), [1.0, 2.0], 0.0)
    between_half_and_claim(bound, 1.0)
    assert bound > 0.95


def randomized_response_hides_the_answer() -> None:
    source = byte_source("randomized response")
    for categories, epsilon in ((2, 1.0), (10, 2.0)):
        mechanism = mechanisms.RandomizedResponse(categories, epsilon)
        hits = [int((mechanism.respond(np.full(MILLION, a), source) == 0).sum()) for a in (0, 1)]
        bound = attack.pairwise_bound(hits[0], hits[1], MILLION, 0.0)
        between_half_and_claim(bound, mechanism.guarantee.epsilon)
        assert bound > 0.95 * epsilon


def unary_encoding_hides_the_answer() -> None:
    source = byte_source("unary encoding")
    mechanism = mechanisms.UnaryEncoding(3, 1.5)
    reports = [mechanism.respond(np.full(MILLION, a), source) for a in (0, 1)]
    hits = [int(((r[:, 0] == 1) & (r[:, 1] == 0)).sum()) for r in reports]
    bound = attack.pairwise_bound(hits[0], hits[1], MILLION, 0.0)
    between_half_and_claim(bound, mechanism.guarantee.epsilon)
    assert bound > 0.95 * mechanism.guarantee.epsilon


def one_run_of_local_answers_hides_its_canaries() -> None:
    """The answers of one run are the canaries: each a coin flip, guessed from the report (Steinke, Nasr, Jagielski 2023)."""
    source = byte_source("one run, local")
    coins = np.frombuffer(source(MILLION), dtype=np.uint8).astype(np.int64) & 1
    mechanism = mechanisms.RandomizedResponse(2, 1.0)
    right = int((mechanism.respond(coins, source) == coins).sum())
    between_half_and_claim(attack.one_run_bound(right, MILLION, MILLION, 0.0), mechanism.guarantee.epsilon)


LENGTH, CLIP, SCALE, TRIALS = 16, 1.0, 36.0, 60_000
DELTA = 1e-2


def victims(copies: int, sigma_share: float | None, source: object) -> IntVector:
    """The messages of a client whose vector is as far out as it can be, off the grid in every coordinate; shape (copies, d)."""
    vector = np.full(LENGTH, 10.0)
    return np.stack(
        [
            contribution.client_message(vector, clip=CLIP, scale=SCALE, sigma_share=sigma_share, entropy=source)  # type: ignore[arg-type]
            for _ in range(copies)
        ]
    )


def distinguish(present: IntVector, absent: IntVector, stated: accounting.RoundGuarantee) -> None:
    """Project on the direction of the victim's vector; thresholds lie where one Gaussian of the stated size gives most away."""
    statistic = [sums.sum(axis=1) / math.sqrt(LENGTH) for sums in (present, absent)]
    thresholds = [stated.sigma * at for at in (1.4, 1.7, 2.0, 2.3)]
    bound = attack.threshold_bound(statistic[0], statistic[1], thresholds, DELTA)
    between_half_and_claim(bound, accounting.epsilon_from_rdp(stated.rdp, DELTA))


def state(kind: str, honest: int) -> accounting.RoundGuarantee:
    sensitivity = quantize.sensitivity(CLIP, SCALE, LENGTH)
    return accounting.round_guarantee(
        noise=kind,
        sensitivity=sensitivity,
        sigma=40.0,
        members=5,
        threshold=3,
        honest=honest,
        length=LENGTH,
        delta=DELTA,
    )


def noise_by_the_clients_hides_one_client() -> None:
    """Whole client path, h honest clients, the victim among them; everyone else is the operator's and adds nothing."""
    honest, source = 4, byte_source("clients")
    stated = state("clients", honest)
    share = accounting.share_sigma("clients", stated.sigma, 5, 3, honest)
    sums = []
    for there in (True, False):
        own = victims(TRIALS, share, source) if there else silent(TRIALS, share, source)
        for _ in range(honest - 1):
            own = own + silent(TRIALS, share, source)
        sums.append(own)
    distinguish(sums[0], sums[1], stated)


def a_clip_that_adapts_hides_one_client_and_its_bit() -> None:
    """The victim is far beyond the clip, and its bit is as loud as it may be: the direction of both together gives most away."""
    honest, source = 4, byte_source("adaptive")
    stated = state("clients", honest)
    share = accounting.share_sigma("clients", stated.sigma, 5, 3, honest)
    rule = clipping.Clipping(CLIP, adaptive=clipping.AdaptiveClip(weight=4.0))
    joined = rule.apply(np.full(LENGTH - 1, 100.0))
    own = np.stack(
        [
            contribution.client_message(joined, clip=CLIP, scale=SCALE, sigma_share=share, entropy=source)
            for _ in range(TRIALS)
        ]
    )
    absent = silent(TRIALS, share, source)
    for _ in range(honest - 1):
        own, absent = own + silent(TRIALS, share, source), absent + silent(TRIALS, share, source)
    towards = joined / np.linalg.norm(joined)
    statistic = [sums @ towards for sums in (own, absent)]
    thresholds = [stated.sigma * at for at in (1.4, 1.7, 2.0, 2.3)]
    bound = attack.threshold_bound(statistic[0], statistic[1], thresholds, DELTA)
    between_half_and_claim(bound, accounting.epsilon_from_rdp(stated.rdp, DELTA))


def silent(copies: int, sigma_share: float | None, source: object) -> IntVector:
    """The messages of a client whose vector is zero; shape (copies, d)."""
    message = contribution.client_message(
        np.zeros(copies * LENGTH),
        clip=CLIP,
        scale=SCALE,
        sigma_share=sigma_share,
        entropy=source,  # type: ignore[arg-type]
    )
    return message.reshape(copies, LENGTH)


def noise_by_the_committee_hides_one_client() -> None:
    """The operator owns every other client and t - 1 members, who add nothing; the quorum is as small as it may be."""
    source = byte_source("committee")
    stated = state("committee", 0)
    share = accounting.share_sigma("committee", stated.sigma, 5, 3, 0)
    adding = parameters.quorum(5, 3) - (3 - 1)
    sums = []
    for there in (True, False):
        own = victims(TRIALS, None, source) if there else silent(TRIALS, None, source)
        for _ in range(adding):
            own = own + contribution.member_message(TRIALS * LENGTH, sigma_share=share, entropy=source).reshape(
                own.shape
            )
        sums.append(own)
    distinguish(sums[0], sums[1], stated)


def one_opened_round_hides_its_canaries() -> None:
    """One round with masks and all: 4,000 clients, each with a coordinate of its own, each there by a coin flip."""
    canaries, source = 4000, byte_source("one run, masked")
    rho, mask = bytes(32), parameters.N10K
    scale, delta = 100.0, 1e-10  # the one-run bound pays 2·canaries·delta
    sensitivity = quantize.sensitivity(CLIP, scale, canaries)
    stated = accounting.round_guarantee(
        noise="committee",
        sensitivity=sensitivity,
        sigma=sensitivity / 0.7,
        members=5,
        threshold=3,
        honest=0,
        length=canaries,
        delta=delta,
    )
    share = accounting.share_sigma("committee", stated.sigma, 5, 3, 0)
    coins = np.frombuffer(source(canaries), dtype=np.uint8) & 1
    messages = [contribution.member_message(canaries, sigma_share=share, entropy=source) for _ in range(2)]
    for index in np.flatnonzero(coins):
        vector = np.zeros(canaries)
        vector[index] = 3.0
        messages.append(contribution.client_message(vector, clip=CLIP, scale=scale, sigma_share=None, entropy=source))
    total = np.zeros(masking.packed_size(canaries, mask) // 6, dtype=np.uint64)
    keys = np.zeros(mask.ring_degree, dtype=np.int64)
    for message in messages:
        key = masking.sample_key(mask, source)
        keys += key
        masking.add_packed(total, masking.encrypt(message, key, rho, mask, source))
    opened = masking.open_sum(total, keys, len(messages), canaries, rho, mask)
    right = int(((opened > scale * CLIP / 2) == (coins == 1)).sum())
    bound = attack.one_run_bound(right, canaries, canaries, delta)
    assert bound <= stated.epsilon, f"epsilon {bound:.3f} is proven, {stated.epsilon:.3f} is claimed"
    assert bound > 0.2, f"{bound:.3f}: one run of this round should prove an epsilon of 0.2"


# ---------------------------------------------------------------- the noise


def the_sum_carries_the_planned_noise() -> None:
    """With as many honest clients as were planned, with more, and with the smallest number of members a quorum guarantees."""
    sigma, length, planned = 60.0, 200_000, 20
    source = byte_source("planned noise")
    for kind, sending, whole in (("clients", 20, 20), ("clients", 28, 20), ("committee", 2, 2)):
        share = accounting.share_sigma(kind, sigma, 5, 3, planned)
        total = np.zeros(length, dtype=np.int64)
        for _ in range(sending):
            if kind == "clients":
                total += contribution.client_message(
                    np.zeros(length), clip=1.0, scale=SCALE, sigma_share=share, entropy=source
                )
            else:
                total += contribution.member_message(length, sigma_share=share, entropy=source)
        spread = float(total.std()) / (sigma * math.sqrt(sending / whole))  # its own error is 0.16%: 1% is six of them
        assert 0.99 <= spread <= 1.01, f"{kind}: {spread:.3f} of the planned noise"


def the_noise_has_the_law_of_the_discrete_gaussian() -> None:
    for sigma in (0.6, 2.0, 30.0):
        samples = noise.discrete_gaussian(sigma, MILLION, byte_source(f"law {sigma}"))
        assert samples.dtype == np.int64
        reach = math.ceil(5 * sigma)
        x = np.arange(-reach, reach + 1)
        weights = np.exp(-(x**2) / (2 * sigma**2))
        wide = np.arange(-12 * reach, 12 * reach + 1)
        expected = np.append(weights, 0) / np.exp(-(wide**2) / (2 * sigma**2)).sum() * MILLION
        expected[-1] = MILLION - expected[:-1].sum()
        inside = samples[np.abs(samples) <= reach] + reach
        seen = np.append(np.bincount(inside, minlength=len(x)), MILLION - len(inside))
        big = expected >= 5
        statistic = float((((seen - expected) ** 2)[big] / expected[big]).sum())
        assert stats.chi2.sf(statistic, int(big.sum()) - 1) > P_VALUE_MIN, f"sigma {sigma}: not the discrete Gaussian"


def the_tail_of_the_table_is_whole() -> None:
    for sigma in (1.5, 16.0, 800.0):
        table = noise.alias_table("gaussian", sigma, half=False)
        reach = -table.first
        assert len(table.weights) == 2 * reach + 1
        beyond = math.exp(-((reach + 1) ** 2) / (2 * sigma**2)) * sigma  # over Σ of the weights, above the tail's sum
        assert beyond < 2.0**-112, f"sigma {sigma}: the tail beyond {reach} is cut"


def every_draw_is_fresh_and_comes_from_the_byte_source() -> None:
    first, second, other = byte_source("one"), byte_source("one"), byte_source("two")
    a, b, c = (noise.discrete_gaussian(20.0, 500, source) for source in (first, second, other))
    assert (a == b).all(), "something besides the byte source decides"
    assert (a != c).any(), "the byte source does not decide"
    assert (noise.discrete_gaussian(20.0, 500, first) != a).any(), "the second draw repeats the first"
    assert (noise.discrete_laplace(20.0, 500, first) != noise.discrete_laplace(20.0, 500, first)).any()


def two_rounds_do_not_share_their_noise() -> None:
    source = byte_source("two rounds")
    vector = np.full(20_000, 0.001)
    arguments = {"clip": 1.0, "scale": 1000.0, "entropy": source}
    rounds = [contribution.client_message(vector, sigma_share=50.0, **arguments) for _ in range(2)]  # type: ignore[arg-type]
    members = [contribution.member_message(20_000, sigma_share=50.0, entropy=source) for _ in range(2)]
    for one, two in (rounds, members):
        assert float((one - two).std()) > 50 * 1.3, "the noise of two rounds cancels"


# ---------------------------------------------------------------- sensitivity


def worst_vectors(clip: float, scale: float, length: int) -> list[NDArray[np.float64]]:
    flat = np.full(length, clip / math.sqrt(length))
    half = (np.floor(flat * scale) + 0.5) / scale
    spike = np.zeros(length)
    spike[0] = clip
    return [flat, half, 50 * flat, -half, spike, np.full(length, 1e-9), np.linspace(-1, 1, length) * clip]


def no_client_moves_the_sum_by_more_than_the_sensitivity() -> None:
    source = byte_source("sensitivity")
    for clip, scale, length in ((1.0, 3.0, 16), (1.0, 50.0, 4), (2.0, 1.0, 900), (0.1, 1000.0, 64), (1.0, 40.0, 40)):
        limit = quantize.sensitivity(clip, scale, length)
        for vector in worst_vectors(clip, scale, length):
            for _ in range(60):
                try:
                    message = quantize.quantize(vector, clip=clip, scale=scale, entropy=source)
                except LocalError as error:
                    raise AssertionError(f"no rounding of a clipped vector fits: {error}") from error
                assert float(np.linalg.norm(message)) <= limit * (1 + 1e-12), "a client moves the sum too far"


def the_bit_of_adaptive_clipping_is_counted() -> None:
    adaptive = clipping.AdaptiveClip()
    joined = adaptive.with_bit(np.full(9, 5.0), 2.0)
    assert float(np.linalg.norm(joined)) <= adaptive.joint_clip(2.0) * (1 + 1e-12)


# ---------------------------------------------------------------- the accountant


def gaussian_delta(ratio: float, epsilon: float) -> float:
    """The exact delta of a Gaussian at this epsilon (Balle and Wang 2018, theorem 8); ratio = sensitivity / sigma."""
    left = stats.norm.cdf(ratio / 2 - epsilon / ratio)
    right = stats.norm.logcdf(-ratio / 2 - epsilon / ratio) + epsilon
    return float(left - math.exp(right))


def rounds_cost_at_least_what_they_give_away() -> None:
    for rounds, multiplier in ((1, 1.0), (2, 1.0), (7, 3.0), (40, 10.0)):
        total = accounting.compose([accounting.gaussian_rdp(1 / multiplier)] * rounds)
        for delta in (1e-3, 1e-6):
            claim = accounting.epsilon_from_rdp(total, delta)
            exact = gaussian_delta(math.sqrt(rounds) / multiplier, claim)
            assert exact <= delta, f"{rounds} rounds: delta {exact:.2e} at epsilon {claim:.3f}, {delta:.0e} is claimed"


def small_shares_are_accounted_for_as_what_they_are() -> None:
    """Divergence of the sum of two coarse discrete Gaussians from itself moved by one, by adding up the law."""
    sigma = 0.55
    x = np.arange(-9, 10)
    one = np.exp(-(x**2) / (2 * sigma**2))
    log_law = np.log(np.convolve(one / one.sum(), one / one.sum()))
    claim = accounting.gaussian_sum_rdp(sensitivity=1.0, sigma_share=sigma, shares=2, length=1)
    for order, bound in zip(ORDERS[:16], claim[:16], strict=True):
        terms = order * log_law[:-1] + (1 - order) * log_law[1:]
        exact = float(np.logaddexp.reduce(terms)) / (order - 1)
        assert exact <= bound + 1e-9, f"order {order}: {exact:.4f} is the divergence, {bound:.4f} is claimed"


def replacing_costs_more_than_removing() -> None:
    """The worst replacement is the opposite vector: its distance must be within the stated sensitivity."""
    sensitivity = quantize.sensitivity(CLIP, SCALE, LENGTH)
    stated = accounting.neighbouring_sensitivity(sensitivity, "replace-one")
    source = byte_source("replace")
    vector = np.full(LENGTH, 10.0)
    there, opposite = (
        contribution.client_message(v, clip=CLIP, scale=SCALE, sigma_share=None, entropy=source)
        for v in (vector, -vector)
    )
    assert float(np.linalg.norm(there - opposite)) <= stated


# ---------------------------------------------------------------- people and events


def a_lone_person_is_not_counted_in_public() -> None:
    counts = clipping.PeopleCounts(epsilon=0.7, delta=1e-5, minimum=2)
    x = np.arange(0, 400, dtype=np.float64)
    weights = np.exp(-x / counts.scale)
    shows = float(weights[counts.threshold - 1 :].sum() / (2 * weights.sum() - 1))
    assert shows <= counts.delta, f"one person shows with probability {shows:.2e}, {counts.delta:.0e} is claimed"


def rare_items_are_suppressed() -> None:
    assert anonymize.suppress_rare(["tag:a", "tag:b"], {"tag:a": 5.0, "tag:b": 4.0}, 5) == ["tag:a"]


def pseudonyms_change_with_period_and_purpose() -> None:
    key, day = bytes(range(32)), 86_400_000
    names = {
        anonymize.pseudonym(key, purpose, anonymize.period_of(day * number, day))
        for purpose in ("usage", "feedback")
        for number in range(20_000, 20_010)
    }
    assert len(names) == 20, "one client's pseudonyms can be linked"


def planted_secrets_do_not_pass_as_items() -> None:
    secrets = (
        "pypi:/home/alice/secret-project",
        "alice@example.org",
        "tag:AKIAIOSFODNN7EXAMPLE secret",
        "op:curl https://build-7.corp.example",
        "rule:password = 'hunter2'",
        "host:build-7",
        "free text",
    )
    for secret in secrets:
        try:
            passed = anonymize.check_item(secret)
        except LocalError as error:
            assert secret not in str(error), "the refusal quotes what it refused"
            continue
        raise AssertionError(f"{len(passed)} characters passed")


def versions_and_times_are_coarse() -> None:
    assert anonymize.generalise_version("2.4.1+alice", 2) == "2.4"
    assert anonymize.generalise_time(1_000_123, 3600) % 3600 == 0


AUDITS = [
    central_gaussian_noise_hides_one_client,
    central_geometric_noise_hides_one_client,
    randomized_response_hides_the_answer,
    unary_encoding_hides_the_answer,
    one_run_of_local_answers_hides_its_canaries,
    noise_by_the_clients_hides_one_client,
    noise_by_the_committee_hides_one_client,
    a_clip_that_adapts_hides_one_client_and_its_bit,
    one_opened_round_hides_its_canaries,
]
PROMISES = [
    *AUDITS,
    the_sum_carries_the_planned_noise,
    the_noise_has_the_law_of_the_discrete_gaussian,
    the_tail_of_the_table_is_whole,
    every_draw_is_fresh_and_comes_from_the_byte_source,
    two_rounds_do_not_share_their_noise,
    no_client_moves_the_sum_by_more_than_the_sensitivity,
    the_bit_of_adaptive_clipping_is_counted,
    rounds_cost_at_least_what_they_give_away,
    small_shares_are_accounted_for_as_what_they_are,
    replacing_costs_more_than_removing,
    a_lone_person_is_not_counted_in_public,
    rare_items_are_suppressed,
    pseudonyms_change_with_period_and_purpose,
    planted_secrets_do_not_pass_as_items,
    versions_and_times_are_coarse,
]
