"""The bandit against simulated people whose tastes are known: regret, and whether its estimates cover the truth.

usage: bandit.py [--answers N] [--runs N] [--json]

People of four languages are shown ten items in the order of a ranker that is only partly right. Who looks at rank k takes the item
by its appeal to the language; how many look that far is known here and has to be learned there. Regret: items that the best order would
have brought, minus those of the order that was shown, over all answers; beside it epsilon-greedy with the same model and with
River's, and the ranker alone. Coverage: share of runs in which the interval of the estimated lift holds the true one, the bandit
watching only.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from river.bandit import EpsilonGreedy

from aicache.schemas.records import UsageEvent
from aicache.streams.recommendations.bandit import HEAD, drawn
from aicache.streams.recommendations.feedback import OBSERVE, ON, WINDOW_MS, Answered, Feedback, Policy
from aicache.streams.recommendations.off_policy import estimates

ITEMS, LANGUAGES, NAMED = 40, 4, 10
EPSILON = 0.1
Floats = NDArray[np.float64]


class People:
    """The simulated truth.

    Args:
        seed: of tastes and of what happens.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        taste = self.random.normal(0, 0.7, ITEMS) + self.random.normal(0, 0.7, (LANGUAGES, ITEMS))
        self.appeal: Floats = 1 / (1 + np.exp(2.0 - taste))
        self.looked: Floats = (1.0 + np.arange(NAMED)) ** -0.8
        self.scores: Floats = 0.5 * taste + self.random.normal(0, 0.7, (LANGUAGES, ITEMS))

    def ask(self) -> tuple[int, list[int]]:
        """Somebody's language, and the ranker's list for it out of those items that fit what is at hand."""
        language = int(self.random.integers(LANGUAGES))
        fitting = self.random.choice(ITEMS, 20, replace=False)
        return language, fitting[np.argsort(-self.scores[language, fitting])][:NAMED].tolist()

    def value(self, language: int, order: Sequence[int]) -> float:
        """Items taken that an order brings in the mean."""
        return float(self.looked[: len(order)] @ self.appeal[language, list(order)])

    def best(self, language: int, ranked: Sequence[int]) -> float:
        """The best that changing the head can bring."""
        head = sorted(ranked[:HEAD], key=lambda item: -self.appeal[language, item])
        return self.value(language, [*head, *ranked[HEAD:]])

    def take(self, language: int, order: Sequence[int]) -> list[int]:
        """Places of what is taken."""
        return np.flatnonzero(
            self.random.random(len(order)) < self.looked * self.appeal[language, list(order)]
        ).tolist()


class Ours:
    """The product's bandit, driven as the fold drives it."""

    def __init__(self, policy: Policy, width: float = 1.0) -> None:
        self.feedback, self.policy, self.now_ms = Feedback(), policy, 0
        self.feedback.appeal.width = width
        self.wanted: list[int] = []

    def order(self, people: People, language: int, ranked: list[int]) -> list[int]:
        """The order that it shows; what it would have chosen is kept in `wanted`."""
        self.now_ms += WINDOW_MS // 20
        self.feedback.close_until(self.now_ms)
        names = [(f"pypi:item-{item}", float(people.scores[language, item])) for item in ranked]
        place, who = f"0/{self.now_ms}", f"{self.now_ms % 1_000_003:032x}"
        asked = Answered(who, place, "pypi", self.now_ms, [f"language:l{language}"])
        answered = self.feedback.answer(asked, self.policy, names)
        assert answered is not None, "one pseudonym an answer: there is room"
        self.answered = answered
        self.wanted = [ranked[rank] for rank in (*answered.bandit, *range(HEAD, NAMED))]
        return [ranked[rank] for rank in answered.order]

    def learn(self, places: list[int]) -> None:
        """What was taken."""
        answered = self.answered
        names = [answered.items[rank] for rank in answered.order]
        self._tell(answered, "shown", names, 0)
        for at in places:
            self._tell(answered, "taken", [names[at]], at)
        self.feedback.changes()

    def _tell(self, answered: Answered, kind: str, items: list[str], position: int) -> None:
        event = UsageEvent(kind, 0, items, [], "", 1, b"", position, 0.0, answered.place)
        self.feedback.hear(bytes.fromhex(answered.pseudonym), event)


class River:
    """River's epsilon-greedy, one for each language: the head is drawn from it one by one."""

    def __init__(self) -> None:
        self.policies = [EpsilonGreedy(epsilon=EPSILON, seed=language) for language in range(LANGUAGES)]

    def order(self, people: People, language: int, ranked: list[int]) -> list[int]:
        """The order that it shows."""
        del people
        left, self.language, self.head = ranked[:HEAD], language, list[int]()
        while left:
            item = self.policies[language].pull(left)
            left.remove(item)
            self.head.append(item)
        return [*self.head, *ranked[HEAD:]]

    def learn(self, places: list[int]) -> None:
        """What was taken."""
        for at, item in enumerate(self.head):
            self.policies[self.language].update(item, at in places)


class Ranker:
    """Nothing is learned."""

    def order(self, people: People, language: int, ranked: list[int]) -> list[int]:
        """As it is."""
        del people, language
        return ranked

    def learn(self, places: list[int]) -> None:
        """Nothing."""


def regret(make: Callable[[], Ours | River | Ranker], answers: int, seed: int) -> float:
    """Items lost against the best orders, over all answers."""
    people, who, lost = People(seed), make(), 0.0
    for _ in range(answers):
        language, ranked = people.ask()
        order = who.order(people, language, ranked)
        lost += people.best(language, ranked) - people.value(language, order)
        who.learn(people.take(language, order))
    return lost


def covered(answers: int, seed: int) -> dict[str, tuple[bool, bool, float, float]]:
    """For each estimator: whether its interval holds the true lift, whether the watched one does, error and half-width."""
    people, who, truth = People(seed), Ours(Policy(OBSERVE)), 0.0
    for _ in range(answers):
        language, ranked = people.ask()
        order = who.order(people, language, ranked)
        truth += (people.value(language, who.wanted) - people.value(language, ranked)) / answers
        who.learn(people.take(language, order))
    who.feedback.close_until(who.now_ms + 2 * WINDOW_MS)
    return {
        found.estimator: (
            found.low <= truth <= found.high,
            found.watched_low <= truth <= found.watched_high,
            found.lift - truth,
            (found.high - found.low) / 2,
        )
        for found in estimates(who.feedback.standings["pypi"].sums)
    }


def measure(answers: int, runs: int) -> dict[str, object]:
    """All figures."""
    makers: dict[str, Callable[[], Ours | River | Ranker]] = {
        "aicache": lambda: Ours(Policy(ON)),
        "epsilon_greedy": lambda: Greedy(),
        "river_epsilon_greedy": River,
        "ranker": Ranker,
    }
    began = time.perf_counter()
    losses = {name: [regret(make, answers, seed) for seed in range(5)] for name, make in makers.items()}
    seconds = time.perf_counter() - began
    seen = [covered(2_000, 1_000 + seed) for seed in range(runs)]
    coverage = {
        name: {
            "covered": sum(run[name][0] for run in seen) / runs,
            "watched_covered": sum(run[name][1] for run in seen) / runs,
            "bias": float(np.mean([run[name][2] for run in seen])),
            "half_width": float(np.mean([run[name][3] for run in seen])),
        }
        for name in seen[0]
    }
    return {
        "answers": answers,
        "regret": {name: float(np.mean(loss)) for name, loss in losses.items()},
        "wins_of_5": sum(a < b for a, b in zip(losses["aicache"], losses["epsilon_greedy"], strict=True)),
        "runs": runs,
        "off_policy": coverage,
        "us_an_answer": seconds / (len(makers) * 5 * answers) * 1e6,
    }


class Greedy(Ours):
    """Epsilon-greedy with the same model: no bonus for what is uncertain, a fixed share drawn."""

    def __init__(self) -> None:
        super().__init__(Policy(OBSERVE, EPSILON), width=0.0)

    def order(self, people: People, language: int, ranked: list[int]) -> list[int]:
        """The order that it shows."""
        super().order(people, language, ranked)
        answered = self.answered
        answered.chosen = answered.other = answered.bandit
        answered.epsilon = 2 * EPSILON  # half of it is any order
        answered.shown = drawn(f"{answered.place}/greedy", answered.bandit, answered.bandit, answered.epsilon)
        return [ranked[rank] for rank in answered.order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.answers, options.runs)
    if options.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
