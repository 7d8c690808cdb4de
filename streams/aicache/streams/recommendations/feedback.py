"""What became of answers: shown, taken, dismissed, and what the bandit learns from it.

An answer whose order the bandit may choose is kept until its time for feedback is over, whatever is told of it before: counting what
is taken at once and what is not taken later would flatter every estimate. What a client says is held against what was answered:
places and probabilities are those of the answer, never the client's own. One pseudonym has at most `OPEN_MAX` answers open at a time, so
that it moves what is learned by at most as many answers every `WINDOW_MS`; answers beyond that are given in the ranker's order, and so
are those beyond `ANSWERS_MAX` in a partition.
State: open answers, the bandit's weights, and for each namespace how far people look and the sums of the estimates. Pure.
"""

import json
import struct
from dataclasses import dataclass, field, fields

import numpy as np

from aicache.privacy.errors import LocalError
from aicache.schemas.records import UsageEvent
from aicache.streams.recommendations.bandit import (
    HEAD,
    RANK_WEIGHT,
    Appeal,
    Examination,
    Features,
    best_order,
    drawn,
    epsilon_of,
    features,
    propensity,
)
from aicache.streams.recommendations.off_policy import ONE, TERMS, Matrix, Outcome, estimates, terms

OFF, OBSERVE, ON = "off", "observe", "on"
MODES = (OFF, OBSERVE, ON)
EXPLORATION_MAX = 0.2
EXPLORATION_MIN = 0.02
"""So much is drawn for ever: without it nothing could be estimated any more."""
WINDOW_MS = 1_800_000
"""How long after an answer feedback on it counts, in the log's time."""
ANSWERS_MAX = 50_000
OPEN_MAX = 8
NAMESPACES_MAX = 64
"""Where there are more, the one with the fewest answers makes room."""
PUBLISH_EVERY = 20
"""Answers of a namespace after which its sums are published again, and the bandit's standing is looked at."""

_ANSWER, _WEIGHT, _NAMESPACE, _NUMBER = b"a", b"w", b"x", b"n"
KEYS = frozenset({_ANSWER, _WEIGHT, _NAMESPACE, _NUMBER})
"""First bytes of its keys in the changelog."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator has decided.

    Attributes:
        mode: `off`: the ranker's order, nothing is kept. `observe`: the ranker's order but for the share that is drawn; the bandit
            learns and is estimated. `on`: the bandit's order, unless the estimate says that it is worse.
        exploration: share of answers whose head is drawn, at the start; falls in mode `on`.
    """

    mode: str = OFF
    exploration: float = 0.1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise LocalError(f"there is no mode {self.mode}", got=self.mode, needed=MODES)
        if not EXPLORATION_MIN <= self.exploration <= EXPLORATION_MAX:
            raise LocalError(
                "the share of answers that is drawn is out of bounds",
                got=self.exploration,
                needed=f"{EXPLORATION_MIN} … {EXPLORATION_MAX}",
            )


@dataclass(slots=True)
class Answered:
    """An answer that waits for feedback; orders are of the ranker's ranks.

    Attributes:
        pseudonym: in hexadecimal.
        place: partition/offset of the usage record that it follows.
        time_ms: in the log's time.
        situation: attributes.
        items: the whole answer in the ranker's order.
        shares: the ranker's probabilities among the head.
        bandit: the order that the bandit would choose.
        chosen, other: the one that is shown, and the one that it is compared with: the ranker's and the bandit's, or the reverse.
        shown: the one that was answered.
        epsilon: that share.
        depth: how many places the client showed.
        taken: places of what was taken.
        dismissed: ranks.
    """

    pseudonym: str
    place: str
    namespace: str
    time_ms: int
    situation: list[str]
    items: list[str] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    bandit: list[int] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    other: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    epsilon: float = 0.0
    depth: int = 0
    taken: list[int] = field(default_factory=list)
    dismissed: list[int] = field(default_factory=list)

    @property
    def order(self) -> list[int]:
        """Of the whole answer: behind the head nothing changes."""
        return [*self.shown, *range(len(self.shown), len(self.items))]

    @property
    def propensities(self) -> list[float]:
        """Of each place of the answer: how likely what stands there stood there."""
        head = [propensity(self.chosen, self.other, at, rank, self.epsilon) for at, rank in enumerate(self.shown)]
        return head + [1.0] * (len(self.items) - len(head))

    def pack(self) -> bytes:
        """As it stands in the changelog: the fields in their order."""
        return json.dumps([getattr(self, name) for name in _FIELDS]).encode()

    def features(self, rank: int) -> Features:
        """What the bandit sees of a rank of the ranker's."""
        return features(self.situation, self.items[rank], rank, self.shares[rank])


_FIELDS = tuple(known.name for known in fields(Answered))


@dataclass(slots=True)
class Standing:
    """What is known in one namespace."""

    examination: Examination = field(default_factory=Examination)
    sums: Matrix = field(default_factory=lambda: np.zeros((TERMS, TERMS)))
    trusted: bool = True
    time_ms: int = 0

    def look(self) -> None:
        """The bandit is trusted until an estimate that may be looked at any time says that it is worse than the ranker."""
        found = estimates(self.sums)
        self.trusted = not found or found[-1].watched_high >= 0

    def pack(self) -> bytes:
        """As it stands in the changelog."""
        look = self.examination
        parts = [self.sums.ravel(), look.taken, look.weight, [look.number, self.trusted, self.time_ms]]
        return np.concatenate([np.asarray(part, dtype="<f8") for part in parts]).tobytes()

    @staticmethod
    def unpack(data: bytes) -> "Standing":
        """The inverse."""
        values = np.frombuffer(data, dtype="<f8")
        sums, look = values[: TERMS * TERMS], Examination()
        look.taken, look.weight = values[TERMS * TERMS :][:HEAD].copy(), values[TERMS * TERMS + HEAD :][:HEAD].copy()
        look.number = float(values[-3])
        return Standing(look, sums.reshape(TERMS, TERMS).copy(), bool(values[-2]), int(values[-1]))


class Feedback:
    """Of one partition."""

    def __init__(self) -> None:
        self.appeal = Appeal()
        self.answers: dict[int, Answered] = {}
        self.standings: dict[str, Standing] = {}
        self.due: list[str] = []
        self._number = 0
        self._by_place: dict[tuple[str, str], int] = {}
        self._open: dict[str, int] = {}
        self._changed: dict[bytes, None] = {}

    # ------------------------------------------------------------ answers

    def answer(self, answered: Answered, policy: Policy, ranked: list[tuple[str, float]]) -> Answered | None:
        """Choose the order of an answer and keep it; None where the ranker's order stands and nothing is kept.

        Args:
            answered: with what is known of it; its orders are chosen here.
            policy: the operator's.
            ranked: items and scores in the ranker's order.
        """
        head = min(HEAD, len(ranked))
        room = self._open.get(answered.pseudonym, 0) < OPEN_MAX and len(self.answers) < ANSWERS_MAX
        if policy.mode == OFF or head < 2 or not room:
            return None
        scores = np.array([score for _, score in ranked[:head]])
        odds = np.exp(scores - scores.max())
        answered.items = [item for item, _ in ranked]
        answered.shares = [round(float(share), 6) for share in odds / odds.sum()]
        standing = self._standing(answered.namespace)
        answered.bandit = best_order(self.appeal, [answered.features(rank) for rank in range(head)])
        on = policy.mode == ON and standing.trusted
        orders = list(range(head)), answered.bandit
        answered.other, answered.chosen = orders if on else orders[::-1]
        answered.epsilon = policy.exploration
        if on:
            answered.epsilon = epsilon_of(int(standing.sums[ONE, ONE]), policy.exploration, EXPLORATION_MIN)
        seed = f"{answered.place}/{answered.namespace}"
        answered.shown = drawn(seed, answered.chosen, answered.other, answered.epsilon)
        self._keep(self._number, answered)
        self._number += 1
        self._changed[_NUMBER] = None
        return answered

    def _keep(self, number: int, answered: Answered) -> None:
        self.answers[number] = answered
        self._by_place[answered.place, answered.namespace] = number
        self._open[answered.pseudonym] = self._open.get(answered.pseudonym, 0) + 1
        self._changed[_ANSWER + number.to_bytes(8, "big")] = None

    def _standing(self, namespace: str) -> Standing:
        if namespace not in self.standings:
            if len(self.standings) >= NAMESPACES_MAX:
                least = min(self.standings, key=lambda name: (self.standings[name].sums[ONE, ONE], name))
                del self.standings[least]
                self._changed[_NAMESPACE + least.encode()] = None
            self.standings[namespace] = Standing()
            self._changed[_NAMESPACE + namespace.encode()] = None
        return self.standings[namespace]

    # ------------------------------------------------------------ feedback

    def hear(self, pseudonym: bytes, event: UsageEvent) -> None:
        """Note what a client says of an answer; what does not fit the answer is passed over."""
        number = self._by_place.get((event.answer, event.items[0].partition(":")[0])) if event.items else None
        if number is None or (answered := self.answers[number]).pseudonym != pseudonym.hex():
            return
        names = [answered.items[rank] for rank in answered.order]
        if event.kind == "shown":
            end = event.position + len(event.items)
            if event.position >= 0 and names[event.position : end] == event.items:
                answered.depth = max(answered.depth, end)
        for item in event.items if event.kind in {"taken", "dismissed"} else ():
            if item not in names:
                continue
            at = names.index(item)
            answered.depth = max(answered.depth, at + 1)
            if event.kind == "taken" and at not in answered.taken:
                answered.taken.append(at)
            elif event.kind == "dismissed" and answered.order[at] not in answered.dismissed:
                answered.dismissed.append(answered.order[at])
        self._changed[_ANSWER + number.to_bytes(8, "big")] = None

    def erase(self, pseudonym: bytes) -> None:
        """Forget the open answers of a pseudonym."""
        name = pseudonym.hex()
        if name in self._open:
            for number in [number for number, answered in self.answers.items() if answered.pseudonym == name]:
                self._drop(number)

    def close_until(self, now_ms: int) -> None:
        """Learn from the answers whose time is over, in the order in which they were given."""
        while self.answers:
            number = next(iter(self.answers))
            if self.answers[number].time_ms > now_ms - WINDOW_MS:
                return
            answered = self._drop(number)
            if answered.depth:
                self._learn(answered)

    def _drop(self, number: int) -> Answered:
        answered = self.answers.pop(number)
        del self._by_place[answered.place, answered.namespace]
        self._open[answered.pseudonym] -= 1
        if not self._open[answered.pseudonym]:
            del self._open[answered.pseudonym]
        self._changed[_ANSWER + number.to_bytes(8, "big")] = None
        return answered

    def _learn(self, answered: Answered) -> None:
        standing = self._standing(answered.namespace)
        head = len(answered.shown)
        found = [answered.features(rank) for rank in range(head)]
        curve = standing.examination.curve()
        appeals = [self.appeal.expected(found[rank])[0] + RANK_WEIGHT / (1 + rank) for rank in range(head)]
        propensities = answered.propensities[:head]
        outcome = Outcome(answered.shown, propensities, answered.bandit, answered.depth, answered.taken)
        added = terms(outcome, lambda rank, at: min(max(curve[at] * appeals[rank], 0.0), 1.0))
        standing.sums += np.outer(added, added)
        standing.time_ms = answered.time_ms
        for at, rank in enumerate(answered.shown[: answered.depth]):
            taken = float(at in answered.taken)
            standing.examination.learn(at, propensities[at], taken)
            examined = 1.0 if rank in answered.dismissed else curve[at]
            for slot in self.appeal.learn(found[rank], rank, taken, examined):
                self._changed[_WEIGHT + slot.to_bytes(2, "big")] = None
        self._changed[_NAMESPACE + answered.namespace.encode()] = None
        if int(standing.sums[ONE, ONE]) % PUBLISH_EVERY == 0:
            standing.look()
            self.due.append(answered.namespace)

    def take_due(self) -> list[str]:
        """Namespaces whose sums are to be published."""
        due, self.due = list(dict.fromkeys(self.due)), []
        return due

    # ------------------------------------------------------------ the changelog

    def changes(self) -> dict[bytes, bytes | None]:
        """What has changed since the last call, by key."""
        changed = {key: self._value(key[:1], key[1:]) for key in self._changed}
        self._changed.clear()
        return changed

    def _value(self, kind: bytes, name: bytes) -> bytes | None:
        if kind == _ANSWER:
            answered = self.answers.get(int.from_bytes(name, "big"))
            return None if answered is None else answered.pack()
        if kind == _WEIGHT:
            slot = int.from_bytes(name, "big")
            return struct.pack("<dd", self.appeal.mean[slot], self.appeal.variance[slot])
        if kind == _NAMESPACE:
            standing = self.standings.get(name.decode())
            return None if standing is None else standing.pack()
        return self._number.to_bytes(8, "big")

    @staticmethod
    def loaded(entries: dict[bytes, bytes]) -> "Feedback":
        """What gave these values; keys in any order."""
        feedback = Feedback()
        for key in sorted(entries):
            kind, name, value = key[:1], key[1:], entries[key]
            if kind == _ANSWER:
                feedback._keep(int.from_bytes(name, "big"), Answered(*json.loads(value)))
            elif kind == _WEIGHT:
                slot = int.from_bytes(name, "big")
                feedback.appeal.mean[slot], feedback.appeal.variance[slot] = struct.unpack("<dd", value)
            elif kind == _NAMESPACE:
                feedback.standings[name.decode()] = Standing.unpack(value)
            elif kind == _NUMBER:
                feedback._number = int.from_bytes(value, "big")
        feedback._changed.clear()
        return feedback
