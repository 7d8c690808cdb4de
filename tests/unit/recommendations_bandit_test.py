"""The bandit and its estimates: bounded exploration with known probabilities, and intervals that hold the truth."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from aicache.privacy.errors import LocalError
from aicache.schemas.records import UsageEvent
from aicache.streams.recommendations.bandit import (
    HEAD,
    Appeal,
    Examination,
    best_order,
    drawn,
    epsilon_of,
    features,
    propensity,
)
from aicache.streams.recommendations.feedback import (
    NAMESPACES_MAX,
    OBSERVE,
    OFF,
    ON,
    OPEN_MAX,
    WINDOW_MS,
    Answered,
    Feedback,
    Policy,
)
from aicache.streams.recommendations.off_policy import ANSWERS_MIN, ONE, TERMS, Outcome, estimates, terms

RANKED = [(f"pypi:p{n}", 1.0 - n / 10) for n in range(10)]
CHOSEN, OTHER = [0, 1, 2, 3, 4], [3, 0, 1, 2, 4]


def asked(feedback: Feedback, policy: Policy, number: int, who: int = -1) -> Answered | None:
    name = f"{number if who < 0 else who:032x}"
    return feedback.answer(Answered(name, f"0/{number}", "pypi", number, ["language:c"]), policy, RANKED)


def tell(feedback: Feedback, answered: Answered, kind: str, items: list[str], position: int = 0) -> None:
    event = UsageEvent(kind, 0, items, [], "", 1, b"", position, 0.0, answered.place)
    feedback.hear(bytes.fromhex(answered.pseudonym), event)


def names(answered: Answered) -> list[str]:
    return [answered.items[rank] for rank in answered.order]


# ---------------------------------------------------------------- drawing


def test_probabilities_of_a_place_sum_to_one_and_are_those_of_the_draws() -> None:
    epsilon, draws = 0.2, 20_000
    seen: Counter[tuple[int, int]] = Counter()
    for number in range(draws):
        seen.update(enumerate(drawn(f"{number}", CHOSEN, OTHER, epsilon)))
    for at in range(HEAD):
        expected = [propensity(CHOSEN, OTHER, at, rank, epsilon) for rank in range(HEAD)]
        assert sum(expected) == pytest.approx(1.0)
        for rank, probability in enumerate(expected):
            assert seen[at, rank] / draws == pytest.approx(probability, abs=5 * (probability / draws) ** 0.5)


def test_a_replay_draws_the_same_and_every_order_can_be_drawn() -> None:
    orders = {tuple(drawn(f"{number}", CHOSEN, OTHER, 1.0)) for number in range(3_000)}
    assert orders == set(permutations(range(HEAD)))
    assert drawn("3/4711/pypi", CHOSEN, OTHER, 0.9) == drawn("3/4711/pypi", CHOSEN, OTHER, 0.9)


def test_exploration_falls_but_never_ends() -> None:
    shares = [epsilon_of(answers, 0.1, 0.02) for answers in (0, 100, 10_000, 10**9)]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (0.1, 0.02)


@pytest.mark.parametrize(("mode", "exploration"), [("maybe", 0.1), (ON, 0.5), (ON, 0.0)])
def test_a_policy_out_of_bounds_is_refused(mode: str, exploration: float) -> None:
    with pytest.raises(LocalError):
        Policy(mode, exploration)


# ---------------------------------------------------------------- learning


def test_without_feedback_the_bandit_keeps_the_rankers_order() -> None:
    found = [features(["language:c"], item, rank, 0.2) for rank, (item, _) in enumerate(RANKED[:HEAD])]
    assert best_order(Appeal(), found) == list(range(HEAD))


def test_what_is_taken_in_one_situation_rises_there_and_what_is_dismissed_falls() -> None:
    appeal = Appeal()
    python = [features(["language:python"], item, rank, 0.2) for rank, (item, _) in enumerate(RANKED[:HEAD])]
    rust = [features(["language:rust"], item, rank, 0.2) for rank, (item, _) in enumerate(RANKED[:HEAD])]
    for _ in range(200):
        appeal.learn(python[3], 3, 1.0, 0.5)
        appeal.learn(rust[3], 3, 0.0, 1.0)
        appeal.learn(rust[1], 1, 1.0, 1.0)
    assert best_order(appeal, python)[0] == 3
    assert best_order(appeal, rust)[0] == 1


def test_how_far_people_look_is_found_from_what_is_drawn() -> None:
    random, looked = np.random.default_rng(1), (1.0, 0.7, 0.5, 0.2, 0.1)
    appeal, examination = (0.5, 0.4, 0.3, 0.2, 0.1), Examination()
    for number in range(20_000):
        shown = drawn(f"{number}", CHOSEN, OTHER, 0.2)
        for at, rank in enumerate(shown):
            taken = float(random.random() < looked[at] * appeal[rank])
            examination.learn(at, propensity(CHOSEN, OTHER, at, rank, 0.2), taken)
    assert examination.curve() == pytest.approx(looked, abs=0.12)


# ---------------------------------------------------------------- estimates


def test_terms_of_the_order_that_was_shown_are_what_happened() -> None:
    """With probability 1 there is nothing to correct."""
    shown = list(range(HEAD))
    found = terms(Outcome(shown, [1.0] * HEAD, shown, 10, [0, 7]), lambda rank, at: 0.3)
    assert found[1:7].tolist() == pytest.approx([2.0, 1.0, 2.0, 1.0, 2.0, 2.0])


def test_estimates_are_unbiased_and_their_intervals_hold_the_truth() -> None:
    """300 runs of 1,000 answers; expectations are deliberately wrong, which a doubly robust estimate must bear."""
    random = np.random.default_rng(7)
    looked, appeal = np.array([1.0, 0.7, 0.5, 0.4, 0.3]), np.array([0.1, 0.2, 0.1, 0.4, 0.1])
    truth = float(looked @ appeal[OTHER] - looked @ appeal[CHOSEN])
    runs, n, epsilon = 300, 1_000, 0.2
    held: Counter[str] = Counter()
    lifts: dict[str, list[float]] = {}
    table = {}  # few (shown, taken) pairs differ: their terms are made once
    for run in range(runs):
        sums = np.zeros((TERMS, TERMS))
        seen: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
        for number in range(n):
            shown = tuple(drawn(f"{run}/{number}", CHOSEN, OTHER, epsilon))
            taken = tuple(np.flatnonzero(random.random(HEAD) < looked * appeal[list(shown)]).tolist())
            seen[shown, taken] += 1
        for (shown, taken), count in seen.items():
            if (shown, taken) not in table:
                known = [propensity(CHOSEN, OTHER, at, rank, epsilon) for at, rank in enumerate(shown)]
                added = terms(Outcome(shown, known, OTHER, HEAD, taken), lambda rank, at: 0.15 / (1 + at))
                table[shown, taken] = np.outer(added, added)
            sums += count * table[shown, taken]
        for found in estimates(sums):
            held[found.estimator] += found.low <= truth <= found.high
            held[found.estimator + " watched"] += found.watched_low <= truth <= found.watched_high
            lifts.setdefault(found.estimator, []).append(found.lift)
    assert set(lifts) == {"ips", "self-normalised", "doubly-robust"}
    for name, values in lifts.items():
        assert np.mean(values) == pytest.approx(truth, abs=4 * float(np.std(values)) / runs**0.5), name
        assert held[name] / runs >= 0.93, name  # 0.95, and two standard deviations of 300 runs
        assert held[name + " watched"] / runs >= 0.98, name
    assert np.std(lifts["doubly-robust"]) < np.std(lifts["ips"])


def test_few_answers_give_no_estimate() -> None:
    sums = np.zeros((TERMS, TERMS))
    sums[ONE, :] = sums[:, ONE] = ANSWERS_MIN - 1
    assert estimates(sums) == []


# ---------------------------------------------------------------- answers and what became of them


def test_only_the_order_of_the_head_changes() -> None:
    feedback, orders = Feedback(), set()
    for number in range(400):
        answered = asked(feedback, Policy(OBSERVE, 0.2), number)
        assert answered is not None
        orders.add(tuple(answered.order))
        assert sorted(answered.order[:HEAD]) == list(range(HEAD))
        assert answered.order[HEAD:] == list(range(HEAD, 10))
        assert answered.propensities[HEAD:] == [1.0] * (10 - HEAD)
    assert len(orders) > 10


def test_switched_off_nothing_is_changed_and_nothing_kept() -> None:
    feedback = Feedback()
    assert asked(feedback, Policy(OFF), 1) is None
    assert feedback.changes() == {}


def test_an_answer_counts_once_its_time_is_over_whether_something_was_taken_or_not() -> None:
    feedback = Feedback()
    first, second, unseen = (asked(feedback, Policy(OBSERVE), number) for number in (1, 2, 3))
    assert first and second and unseen
    for answered in (first, second):
        tell(feedback, answered, "shown", names(answered))
    tell(feedback, first, "taken", [names(first)[1]])
    feedback.close_until(WINDOW_MS)
    assert "pypi" in feedback.standings and feedback.standings["pypi"].sums[ONE, ONE] == 0
    feedback.close_until(WINDOW_MS + 3)
    assert feedback.standings["pypi"].sums[ONE, ONE] == 2  # what nobody saw does not count
    assert feedback.answers == {}


def test_feedback_that_does_not_fit_the_answer_is_passed_over() -> None:
    feedback = Feedback()
    answered = asked(feedback, Policy(OBSERVE), 1)
    assert answered
    tell(feedback, answered, "shown", ["pypi:p9", "pypi:p8"])
    tell(feedback, answered, "taken", ["pypi:never-named"])
    forged = UsageEvent("taken", 0, names(answered)[:1], [], "", 1, b"", 0, 1e-9, answered.place)
    feedback.hear(bytes(16), forged)  # another's answer
    assert (answered.depth, answered.taken) == (0, [])


def test_one_pseudonym_has_few_answers_open_and_can_move_no_more() -> None:
    feedback = Feedback()
    kept = [asked(feedback, Policy(OBSERVE), number, who=1) for number in range(100)]
    assert [answered is not None for answered in kept] == [True] * OPEN_MAX + [False] * (100 - OPEN_MAX)


def test_made_up_namespaces_do_not_crowd_out_one_with_answers() -> None:
    feedback, kept = Feedback(), dict[bytes, bytes | None]()
    answered = asked(feedback, Policy(OBSERVE), 0)
    assert answered
    tell(feedback, answered, "shown", names(answered))
    feedback.close_until(WINDOW_MS)
    for number in range(3 * NAMESPACES_MAX):
        name, place = f"x{number}", f"0/{number + 1}"
        ranked = [(f"{name}:a", 1.0), (f"{name}:b", 0.5)]
        assert feedback.answer(Answered(f"{number:032x}", place, name, number, []), Policy(OBSERVE), ranked)
    assert len(feedback.standings) == NAMESPACES_MAX
    assert feedback.standings["pypi"].sums[ONE, ONE] == 1
    kept.update(feedback.changes())
    again = Feedback.loaded({key: value for key, value in kept.items() if value is not None})
    assert set(again.standings) == set(feedback.standings)


def test_a_bandit_that_proves_worse_is_not_followed() -> None:
    """People take what the ranker puts first, and the bandit is made to think otherwise."""
    feedback, policy = Feedback(), Policy(ON, 0.2)
    random = np.random.default_rng(3)
    for number in range(2_500):
        feedback.appeal.mean.clear()
        feedback.appeal.variance.clear()
        for slot, _ in features([], "pypi:p4", 4, 0.1)[3:]:
            feedback.appeal.mean[slot] = 1.0
        answered = asked(feedback, policy, number)
        assert answered
        tell(feedback, answered, "shown", names(answered))
        if random.random() < 0.8 / (1 + names(answered).index("pypi:p0")):
            tell(feedback, answered, "taken", ["pypi:p0"])
        feedback.close_until(number + WINDOW_MS)
        if not feedback.standings["pypi"].trusted:
            break
    assert not feedback.standings["pypi"].trusted
    later = asked(feedback, policy, 10_000)
    assert later and later.chosen == list(range(HEAD))


def test_what_is_loaded_from_the_changelog_goes_on_the_same() -> None:
    feedback, kept = Feedback(), dict[bytes, bytes]()
    for number in range(60):
        answered = asked(feedback, Policy(ON), number)
        assert answered
        tell(feedback, answered, "shown", names(answered))
        if number % 3 == 0:
            tell(feedback, answered, "taken", [names(answered)[number % 4]])
        if number % 7 == 0:
            tell(feedback, answered, "dismissed", [names(answered)[4]])
        feedback.close_until(WINDOW_MS + number - 10)
        for key, value in feedback.changes().items():
            kept.pop(key, None) if value is None else kept.update({key: value})
    again = Feedback.loaded(kept)
    assert again.standings["pypi"].sums[ONE, ONE] > 40
    for known in (feedback, again):
        assert asked(known, Policy(ON), 99)
        known.close_until(2 * WINDOW_MS)
    assert feedback.changes() == again.changes()
