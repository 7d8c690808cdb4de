"""Deliberately wrong versions of the shipped code, each of which a promise must catch; a surviving mutant fails the run.

A mutant patches the shipped module in place; the same promise holds unpatched (audit_test.py runs every one).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from aicache.privacy import accounting, anonymize, clipping, contribution, mechanisms, noise, quantize
from aicache.producers.ledger import Ledger as ClientLedger
from aicache.streams.committee import proposals, vectors
from aicache.streams.committee.ledger import Ledger
from support import promises, promises_of_rounds

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, tuple[Callable[[Patch], None], Callable[[], None]]] = {}


def caught_by(promise: Callable[[], None]) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def register(mutate: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS[mutate.__name__] = (mutate, promise)
        return mutate

    return register


# ---------------------------------------------------------------- the client's ledger


@caught_by(promises_of_rounds.what_a_client_spends_is_on_disk_before_it_is_made)
def budget_written_after_sending(patch: Patch) -> None:
    patch.setattr(ClientLedger, "_append", ClientLedger._note)


# ---------------------------------------------------------------- noise


@caught_by(promises.the_noise_has_the_law_of_the_discrete_gaussian)
def rounded_float_noise(patch: Patch) -> None:
    def rounded(sigma: float, size: int, entropy: Callable[[int], bytes]) -> promises.IntVector:
        generator = np.random.default_rng(int.from_bytes(entropy(32), "big"))
        return np.rint(generator.normal(0, sigma, size)).astype(np.int64)

    patch.setattr(noise, "discrete_gaussian", rounded)


@caught_by(promises.every_draw_is_fresh_and_comes_from_the_byte_source)
def noise_from_numpys_generator(patch: Patch) -> None:
    generator = np.random.default_rng(1)
    patch.setattr(
        noise, "discrete_gaussian", lambda sigma, size, entropy: np.rint(generator.normal(0, sigma, size)).astype(int)
    )


@caught_by(promises.every_draw_is_fresh_and_comes_from_the_byte_source)
def seeded_word_stream(patch: Patch) -> None:
    honest = noise.WordStream.__init__
    patch.setattr(noise.WordStream, "__init__", lambda self, entropy: honest(self, lambda size: bytes(size)))


@caught_by(promises.the_tail_of_the_table_is_whole)
def tail_cut_at_four_sigma(patch: Patch) -> None:
    patch.setattr(noise, "_TAIL_BITS", 12)


@caught_by(promises.two_rounds_do_not_share_their_noise)
def noise_drawn_once_for_two_rounds(patch: Patch) -> None:
    honest = noise.discrete_gaussian
    kept: dict[tuple[float, int], promises.IntVector] = {}

    def remembered(sigma: float, size: int, entropy: Callable[[int], bytes]) -> promises.IntVector:
        if (sigma, size) not in kept:
            kept[sigma, size] = honest(sigma, size, entropy)
        return kept[sigma, size]

    patch.setattr(noise, "discrete_gaussian", remembered)


def _half_sigma(patch: Patch) -> None:
    honest = noise.discrete_gaussian
    patch.setattr(noise, "discrete_gaussian", lambda sigma, size, entropy: honest(sigma / 2, size, entropy))


@caught_by(promises.noise_by_the_clients_hides_one_client)
def half_sigma_at_the_clients(patch: Patch) -> None:
    _half_sigma(patch)


@caught_by(promises.noise_by_the_committee_hides_one_client)
def half_sigma_at_the_committee(patch: Patch) -> None:
    _half_sigma(patch)


@caught_by(promises.the_sum_carries_the_planned_noise)
def shares_too_small_for_their_number(patch: Patch) -> None:
    honest = accounting.share_sigma
    patch.setattr(accounting, "share_sigma", lambda *arguments: honest(*arguments) / math.sqrt(2))


@caught_by(promises.one_opened_round_hides_its_canaries)
def members_add_hardly_any_noise(patch: Patch) -> None:
    honest = contribution.member_message
    patch.setattr(
        contribution,
        "member_message",
        lambda length, *, sigma_share, entropy: honest(length, sigma_share=sigma_share / 30, entropy=entropy),
    )


@caught_by(promises.noise_by_the_committee_hides_one_client)
def all_members_taken_for_honest(patch: Patch) -> None:
    honest = accounting.honest_shares
    patch.setattr(
        accounting,
        "honest_shares",
        lambda kind, members, threshold, h: members if kind == "committee" else honest(kind, members, threshold, h),
    )


@caught_by(promises.the_sum_carries_the_planned_noise)
def noise_added_before_clipping(patch: Patch) -> None:
    def early(
        vector: promises.FloatVector,
        *,
        clip: float,
        scale: float,
        sigma_share: float | None,
        entropy: Callable[[int], bytes],
    ) -> promises.IntVector:
        if sigma_share is not None:
            vector = vector + noise.discrete_gaussian(sigma_share, vector.size, entropy) / scale
        return quantize.quantize(vector, clip=clip, scale=scale, entropy=entropy)

    patch.setattr(contribution, "client_message", early)


# ---------------------------------------------------------------- sensitivity


@caught_by(promises.no_client_moves_the_sum_by_more_than_the_sensitivity)
def rounding_not_counted(patch: Patch) -> None:
    patch.setattr(quantize, "sensitivity", lambda clip, scale, length: clip * scale)


@caught_by(promises.no_client_moves_the_sum_by_more_than_the_sensitivity)
def rounding_without_its_condition(patch: Patch) -> None:
    honest = quantize._norm2_bound
    patch.setattr(quantize, "sensitivity", lambda clip, scale, length: math.sqrt(honest(clip, scale, length)))
    patch.setattr(quantize, "_norm2_bound", lambda clip, scale, length: 1 << 62)


@caught_by(promises.no_client_moves_the_sum_by_more_than_the_sensitivity)
def clipping_by_the_largest_coordinate(patch: Patch) -> None:
    patch.setattr(quantize, "clip_l2", lambda vector, clip: vector / max(1.0, float(np.abs(vector).max()) / clip))


@caught_by(promises.no_client_moves_the_sum_by_more_than_the_sensitivity)
def clipping_forgotten(patch: Patch) -> None:
    patch.setattr(quantize, "clip_l2", lambda vector, clip: vector.copy())


@caught_by(promises.the_bit_of_adaptive_clipping_is_counted)
def quantile_bit_for_free(patch: Patch) -> None:
    patch.setattr(clipping.AdaptiveClip, "joint_clip", lambda self, clip: clip)


@caught_by(promises.a_clip_that_adapts_hides_one_client_and_its_bit)
def quantile_bit_beside_the_clip(patch: Patch) -> None:
    """The whole clip is left to the vector, and the bit is masked as it comes, past the quantizer's own clip."""
    real = contribution.client_message
    patch.setattr(clipping.AdaptiveClip, "vector_clip", lambda self, joint: joint)

    def beside(vector: promises.FloatVector, *, scale: float, **settings: object) -> promises.IntVector:
        message = real(vector * [*[1.0] * (vector.size - 1), 0.0], scale=scale, **settings)  # type: ignore[arg-type]
        message[-1] += round(vector[-1] * scale)
        return message

    patch.setattr(contribution, "client_message", beside)


@caught_by(promises.replacing_costs_more_than_removing)
def replacing_accounted_as_removing(patch: Patch) -> None:
    patch.setattr(accounting, "neighbouring_sensitivity", lambda sensitivity, neighbouring: sensitivity)


# ---------------------------------------------------------------- the accountant


@caught_by(promises.rounds_cost_at_least_what_they_give_away)
def accountant_forgets_a_round(patch: Patch) -> None:
    honest = accounting.compose
    patch.setattr(accounting, "compose", lambda parts: honest(list(parts)[:-1] or [accounting.ORDERS * 0]))


@caught_by(promises.rounds_cost_at_least_what_they_give_away)
def conversion_with_the_square_root_of_delta(patch: Patch) -> None:
    honest = accounting.epsilon_from_rdp
    patch.setattr(accounting, "epsilon_from_rdp", lambda rdp, delta: honest(rdp, math.sqrt(delta)))


@caught_by(promises.noise_by_the_committee_hides_one_client)
def subsampling_claimed_but_not_done(patch: Patch) -> None:
    honest = accounting.gaussian_sum_rdp
    rate = 0.1
    patch.setattr(accounting, "gaussian_sum_rdp", lambda **arguments: honest(**arguments) * rate**2)


@caught_by(promises.small_shares_are_accounted_for_as_what_they_are)
def sum_of_discrete_gaussians_taken_for_one(patch: Patch) -> None:
    patch.setattr(accounting, "share_tau", lambda sigma_share, shares: 0.0)


# ---------------------------------------------------------------- local answers, people, events


def _double_epsilon(patch: Patch) -> None:
    honest = mechanisms._odds_threshold
    patch.setattr(mechanisms, "_odds_threshold", lambda epsilon, others: honest(2 * epsilon, others))


@caught_by(promises.randomized_response_hides_the_answer)
def coins_of_twice_the_epsilon(patch: Patch) -> None:
    _double_epsilon(patch)


@caught_by(promises.one_run_of_local_answers_hides_its_canaries)
def coins_of_twice_the_epsilon_in_one_run(patch: Patch) -> None:
    _double_epsilon(patch)


@caught_by(promises.unary_encoding_hides_the_answer)
def bits_of_twice_the_epsilon(patch: Patch) -> None:
    _double_epsilon(patch)


@caught_by(promises.central_geometric_noise_hides_one_client)
def laplace_scale_without_the_sensitivity(patch: Patch) -> None:
    patch.setattr(mechanisms, "_laplace_scale", lambda sensitivity, epsilon: 0.5 / epsilon)


@caught_by(promises.central_gaussian_noise_hides_one_client)
def standard_deviation_taken_for_the_variance(patch: Patch) -> None:
    honest = noise.discrete_gaussian
    patch.setattr(
        noise, "discrete_gaussian", lambda sigma, size, entropy: honest(math.sqrt(sigma) * 300, size, entropy)
    )


@caught_by(promises.a_lone_person_is_not_counted_in_public)
def threshold_off_by_one(patch: Patch) -> None:
    honest = clipping.count_threshold
    patch.setattr(clipping, "count_threshold", lambda scale, delta: honest(scale, delta) - 1)


@caught_by(promises.rare_items_are_suppressed)
def suppression_off_by_one(patch: Patch) -> None:
    honest = anonymize.suppress_rare
    patch.setattr(anonymize, "suppress_rare", lambda items, counts, threshold: honest(items, counts, threshold - 1))


@caught_by(promises.pseudonyms_change_with_period_and_purpose)
def pseudonym_not_rotated(patch: Patch) -> None:
    honest = anonymize.pseudonym
    patch.setattr(anonymize, "pseudonym", lambda key, purpose, period: honest(key, purpose, 0))


@caught_by(promises.pseudonyms_change_with_period_and_purpose)
def one_pseudonym_for_all_purposes(patch: Patch) -> None:
    honest = anonymize.pseudonym
    patch.setattr(anonymize, "pseudonym", lambda key, purpose, period: honest(key, "usage", period))


@caught_by(promises.planted_secrets_do_not_pass_as_items)
def any_text_passes_as_an_item(patch: Patch) -> None:
    patch.setattr(anonymize, "check_item", lambda name: name)


@caught_by(promises.versions_and_times_are_coarse)
def versions_left_whole(patch: Patch) -> None:
    patch.setattr(anonymize, "generalise_version", lambda version, parts=2: version)


# ---------------------------------------------------------------- the committee


@caught_by(promises_of_rounds.an_opened_round_carries_the_members_noise_afresh_each_time)
def members_that_add_half_of_their_share(patch: Patch) -> None:
    honest = vectors.share_sigma
    patch.setattr(vectors, "share_sigma", lambda *arguments: honest(*arguments) / 2)


@caught_by(promises_of_rounds.an_opened_round_carries_the_members_noise_afresh_each_time)
def members_that_send_the_same_noise_each_round(patch: Patch) -> None:
    honest = vectors.member_message
    made: dict[int, promises.IntVector] = {}

    def again(length: int, *, sigma_share: float | None, entropy: Callable[[int], bytes]) -> promises.IntVector:
        return made.setdefault(length, honest(length, sigma_share=sigma_share, entropy=entropy))

    patch.setattr(vectors, "member_message", again)


@caught_by(promises_of_rounds.an_overspender_is_left_out_and_the_others_are_not)
def committee_that_charges_nothing(patch: Patch) -> None:
    patch.setattr(Ledger, "charge", lambda self, clients, purpose, window_ms, rdp: None)


@caught_by(promises_of_rounds.two_rounds_at_a_time_do_not_both_spend_what_one_may)
def committee_that_forgets_what_it_promised(patch: Patch) -> None:
    patch.setattr(Ledger, "promised", lambda self, client, purpose, window_ms: np.zeros(len(accounting.ORDERS)))


@caught_by(promises_of_rounds.members_charge_what_a_round_gives_away)
def committee_that_charges_a_round_at_half_its_cost(patch: Patch) -> None:
    honest = proposals.accounting.round_guarantee

    def cheap(**arguments: object) -> accounting.RoundGuarantee:
        stated = honest(**arguments)
        return replace(stated, rdp=[value / 2 for value in stated.rdp])

    patch.setattr(proposals.accounting, "round_guarantee", cheap)


@caught_by(promises_of_rounds.members_refuse_rounds_whose_guarantee_cannot_hold)
def committee_that_approves_any_delta_and_number_of_honest_clients(patch: Patch) -> None:
    patch.setattr(proposals, "check_limits", lambda proposal, limits, now_ms: None)


@pytest.fixture(autouse=True)
def fresh_tables() -> Iterator[None]:
    """Tables that a mutant built must not outlive it."""
    noise.alias_table.cache_clear()
    yield
    noise.alias_table.cache_clear()


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_mutant_is_caught(name: str, monkeypatch: Patch) -> None:
    mutate, promise = MUTANTS[name]
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        promise()


def test_there_are_at_least_ten_mutants() -> None:
    assert len(MUTANTS) >= 10
