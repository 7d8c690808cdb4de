"""Signatures that were never seen before and came with a release: told once enough different people have them.

At least `PEOPLE_MIN` pseudonyms have to have told the signature with the release. Where a task counts signatures over people, its
count in an opened round of a count-sketch task named `signatures…`, less what other names and noise may add to it, has to be at least
`PEOPLE_PUBLIC` as well: the rule by which clients keep signatures back (`producers.signals.emerging`). Until then nothing is told of it,
neither that it is new nor that it is frequent: a signature that one company alone has stays with that company. The round's guarantee
goes into the incident. Pure.
"""

from aicache.producers.signals.emerging import PEOPLE_MIN as PEOPLE_PUBLIC
from aicache.schemas.records import Incident
from aicache.streams.anomalies import announcing, written
from aicache.streams.anomalies.announcing import GROWTH, SIGNATURE, family, name_of
from aicache.streams.anomalies.evidence import Signature, State
from aicache.streams.anomalies.opened import people_of
from aicache.streams.anomalies.people import SIGNATURE as PREFIX
from aicache.streams.runtime.contract import Step

PEOPLE_MIN = 10
LEARN_S = 3_600
"""At first every signature is new: those of the first hour are not told."""
SIGNATURES_MAX = 20_000


def is_signature(series: str) -> bool:
    """Whether a series is a signature of a stack or template."""
    return series.startswith(PREFIX)


def may_be_told(state: State, series: str) -> bool:
    """Whether enough people have a signature for anything to be told about it; always, where no task counts them."""
    if not any(plan.active for plan in state.plans.values()):
        return True
    known = state.signatures.get(series)
    return known is not None and known.estimate > 0


def meet(state: State, series: str, people: dict[str, dict[int, int]], start_s: int, step: Step) -> None:
    """Learn a window in which a signature was seen, and tell it if it is new and many have it.

    Args:
        state: changed in place.
        series: the signature.
        people: how many have told it so far, by release and partition.
        start_s: of the window.
        step: what follows is added.
    """
    known = state.signatures.get(series)
    if known is None:
        _make_room(state, step)
        # Where several releases come with it in one window, it counts for the one of most people.
        release = min(people, key=lambda name: (not name, -sum(people[name].values()), name))
        known = state.signatures[series] = Signature(start_s, release)
    known.seen_s = start_s
    for partition, count in people.get(known.release, {}).items():
        known.people[partition] = max(count, known.people.get(partition, 0))
    _ask(state, series, known)
    step.changed[written.signature_key(series)] = written.plain_value(known)
    if known.release and known.first_s >= state.began_s + LEARN_S and may_be_told(state, series):
        _decide(state, series, known, step)


def _ask(state: State, series: str, known: Signature) -> None:
    """Ask the newest opened sums how many people have the signature; once it has passed, it stays public."""
    for task in sorted(state.tables):
        table = state.tables[task]
        if known.estimate or known.checked == table.round_id:
            continue
        known.checked = table.round_id
        found = people_of(table, series)
        if found.at_least >= PEOPLE_PUBLIC:
            known.estimate, known.least, known.guarantee = found.about, found.at_least, table.guarantee


def _decide(state: State, series: str, known: Signature, step: Step) -> None:
    told = state.open.get(name_of(series, SIGNATURE, family(known.release)))
    people = sum(known.people.values())
    # What was told and is over is not new again.
    if people >= PEOPLE_MIN and (not known.told if told is None else people >= GROWTH * told.n):
        known.told = True
        announcing.publish(state, _incident(state, series, known, people, told), step)
        step.changed[written.signature_key(series)] = written.plain_value(known)


def _incident(state: State, series: str, known: Signature, people: int, told: Incident | None) -> Incident:
    if known.guarantee is None:
        said = f"{series} was first seen with {known.release}, by at least {people} people"
        seen = float(people)
    else:  # nothing but the noisy count: its guarantee would say nothing about another one
        people = round(known.estimate)
        said = (
            f"{series} was first seen with {known.release}; about {known.estimate:.0f} people have it, at least "
            f"{known.least:.0f}, counted with noise"
        )
        seen = known.estimate
    return Incident(
        deployment=state.deployment,
        incident=name_of(series, SIGNATURE, family(known.release)),
        status="opened" if told is None else "growing",
        kind=SIGNATURE,
        subject=series,
        release=known.release,
        versions=[known.release],
        since_s=known.first_s,
        updated_s=known.seen_s,
        seen=seen,
        expected=0.0,
        unit="people",
        severity=announcing.severity(seen, float(PEOPLE_MIN), 1.0),
        confidence=0.99 if known.guarantee is not None else 0.95,
        explanation=said,
        n=people,
        guarantee=known.guarantee,
    )


def _make_room(state: State, step: Step) -> None:
    """Forget the tenth that was not seen for longest, once there are too many."""
    if len(state.signatures) < SIGNATURES_MAX:
        return
    by_age = sorted(state.signatures, key=lambda name: (state.signatures[name].seen_s, name))
    for name in by_age[: max(1, SIGNATURES_MAX // 10)]:
        del state.signatures[name]
        step.changed[written.signature_key(name)] = None
