"""Is what the demo showed true? Each line checks one claim; the demo fails where one is not. Pure."""

from dataclasses import dataclass

import numpy as np

from aicache.local.demo import script
from aicache.local.demo.story import Story

ECHOES = frozenset({("duration-shift", script.SLOW_OPERATION, "")})
"""The slow operation as it looks over all its releases together: told where the shift comes early enough to have a before."""
PLACES_SHOWN = 5
SIGMA_TOLERANCE = 0.05
COORDINATES_MIN = 20_000
EPSILON_MAX = 8.0


@dataclass(frozen=True, slots=True)
class Line:
    """One claim."""

    claim: str
    holds: bool
    found: str


def judge(story: Story) -> list[Line]:
    """Check everything."""
    return [
        _exact(story),
        _noise(story),
        _model(story),
        _recommendations(story),
        _anomalies(story),
        _misbehaviour(story),
        _killed(story),
        _counts(story),
        _secrets(story),
    ]


def _exact(story: Story) -> Line:
    rounds = [seen for seen in story.rounds if seen.proposal.noise == "clients"]
    equal = [
        np.array_equal(np.frombuffer(seen.aggregate.sum, dtype="<i8"), seen.clear)
        and seen.clear_clients == seen.aggregate.n
        for seen in rounds
    ]
    return Line(
        "where clients add the noise, each aggregate is the clear sum, bit for bit",
        len(equal) == script.COUNT_ROUNDS and all(equal),
        f"{sum(equal)} of {script.COUNT_ROUNDS} rounds equal, {sum(s.aggregate.n for s in rounds)} contributions",
    )


def _noise(story: Story) -> Line:
    pooled = []
    for seen in story.rounds:
        if seen.proposal.noise == "committee" and seen.clear_clients == seen.aggregate.n:
            noise = np.frombuffer(seen.aggregate.sum, dtype="<i8") - seen.clear
            pooled.append(noise / seen.aggregate.sigma)
    values = np.concatenate(pooled) if pooled else np.zeros(1)
    ratio = float(np.sqrt(np.mean(np.square(values))))
    holds = values.size >= COORDINATES_MIN and abs(ratio - 1) <= SIGMA_TOLERANCE
    return Line(
        "where the committee adds it, the noise has the σ that the aggregate tells within 5%",
        holds,
        f"σ is {ratio:.3f} of what is told over {values.size:,} coordinates",
    )


def _model(story: Story) -> Line:
    final = story.recall[-1] if story.recall else 0.0
    holds = len(story.recall) >= 5 and final > story.popularity and 0 < story.epsilon <= EPSILON_MAX
    return Line(
        "the model's recall on questions that nobody held is above popularity's, at a total epsilon of at most 8",
        holds,
        f"recall {final:.3f} after {len(story.recall)} rounds, popularity {story.popularity:.3f}, epsilon {story.epsilon:.2f}, "
        f"delta {script.DELTA:g}",
    )


def _recommendations(story: Story) -> Line:
    curve = story.curve
    if curve is None or not len(curve.ours):
        return Line("recommendations are better than popularity, asked before each is learned", False, "no answers")
    return Line(
        "recommendations are better than popularity, asked before each is learned",
        bool(curve.ours[-1] > curve.popular[-1]),
        f"recall {curve.ours[-1]:.3f}, popularity {curve.popular[-1]:.3f}, {len(curve.ours):,} questions",
    )


def _anomalies(story: Story) -> Line:
    found = {(incident.kind, incident.subject, incident.release) for incident in story.incidents}
    return Line(
        "the bad release and the slow operation are found and named, and nothing else is",
        found - ECHOES == script.PLANTED,
        "; ".join(f"{kind} {subject} {release}" for kind, subject, release in sorted(found)) or "nothing",
    )


def _misbehaviour(story: Story) -> Line:
    bad = sum(part["misbehaved"] for part in story.crowd)
    vanished = sum(part["vanished"] for part in story.crowd)
    letters = sum(letter.topic == "aicache.envelopes" for letter in story.dead)
    return Line(
        "a fifth of the clients vanished, one sealed garbage, one replayed another's envelope: nothing stopped",
        bad > 0 and vanished > 0 and letters > 0,
        f"{vanished} vanished, {bad} bad envelopes, refused {letters} times by members",
    )


def _killed(story: Story) -> Line:
    return Line(
        "a committee member was killed with kill -9, came back, and no round was lost",
        bool(story.killed) and story.restarted and len(story.rounds) == script.MODEL_ROUNDS + script.COUNT_ROUNDS,
        f"{story.killed or 'nobody'} killed, {len(story.rounds)} rounds opened",
    )


def _counts(story: Story) -> Line:
    sent = sum(part["usage_records"] for part in story.crowd)
    undelivered = sum(part["undelivered"] for part in story.crowd)
    poison = {letter.processor for letter in story.dead if letter.topic == "aicache.usage"}
    holds = (
        sent == story.usage_logged - story.usage_undecodable
        and undelivered == 0
        and story.usage_undecodable == 1
        and poison == {"recommendations", "anomalies"}
    )
    return Line(
        "records in, out and dead-lettered add up",
        holds,
        f"{sent:,} usage records sent, {story.usage_logged:,} in the log, {story.usage_undecodable} of them poison, "
        f"dead-lettered by {', '.join(sorted(poison)) or 'nobody'}",
    )


def _secrets(story: Story) -> Line:
    leaked = {hit.secret for hit in story.hits if hit.secret < story.canaries}
    places = sorted({hit.place for hit in story.hits if hit.secret < story.canaries})[:PLACES_SHOWN]
    where = f" in {', '.join(places)}" if places else ""
    control = any(hit.secret == story.canaries for hit in story.hits)
    refused = sum(part["refused_secrets"] for part in story.crowd)
    return Line(
        "no planted secret is in any log segment, and the one planted in the clear is found",
        not leaked and control and refused > 0,
        f"{len(leaked)} of {story.canaries} secrets found{where}, "
        f"the control {'found' if control else 'missed'}, "
        f"{refused} attempts refused by the SDK",
    )
