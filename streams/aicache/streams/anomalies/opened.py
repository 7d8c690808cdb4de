"""What opened sums tell: releases compared under noise, and which signatures many people have.

A histogram task compares releases if its labels are those of `release_labels`: each client is in one place a round, the release that
it runs and whether that failed. A count-sketch task named `signatures…` counts who has which signature. σ is that of all noise in the
sum, as the sum itself tells it. Releases are compared by p-values whose levels add up to `announcing.FDR`, so that the chance of any false
one stays under it. The incident carries the guarantee of all rounds that it was found from.
The order between topics is not always the same: a sketch that is read before its task waits for it, a histogram needs none. Pure.
"""

import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace

import numpy as np

from aicache.privacy import accounting
from aicache.privacy.errors import RemoteError
from aicache.producers.signals.emerging import People, people_with, slack
from aicache.schemas.records import Aggregate, Guarantee, Incident, Task
from aicache.streams.anomalies import announcing, written
from aicache.streams.anomalies.announcing import FAILURES, GROWTH, family, level, name_of
from aicache.streams.anomalies.comparing import RATIO_MIN
from aicache.streams.anomalies.detectors.noisy_release import NoisyWindow
from aicache.streams.anomalies.evidence import Plan, Rounds, State, Table
from aicache.streams.runtime.contract import Step

SKETCH, HISTOGRAM = "count-sketch", "histogram"
SIGNATURES_TASK = "signatures"
FINE, FAILED = " fine", " failed"
TASKS_MAX = 64
TABLE_MAX = 65_536
"""Counters of a sketch that is kept: it has to fit an entry of the changelog."""
RELEASES_MAX = 1_000
EARLY_MAX = 64
"""Sketches that wait for their task."""
VERSIONS_MAX = 16
"""Versions of a task whose sketches can be read: pausing it makes a new one, too."""
QUIET_ROUNDS = 3
SUBJECT = "task:"
GAUSSIAN = "discrete-gaussian-sum"
EXTRA = (0, 1)
"""Coordinates of a sum beyond what the task counts: a clip that adapts has one of its own at the end."""


def release_labels(releases: list[str]) -> list[str]:
    """The labels of a histogram task that compares these releases."""
    return [release + end for release in releases for end in (FINE, FAILED)]


def take_task(state: State, task: Task, step: Step) -> None:
    """Learn how a task's sketches are read, if they are of use here."""
    if task.kind != SKETCH or not _is_of_use(task):
        return
    plan = state.plans.get(task.task)
    if plan is None:
        if len(state.plans) >= TASKS_MAX:
            return
        plan = state.plans[task.task] = Plan()
    if task.version >= plan.version:
        plan.version, plan.active = task.version, task.state != "ended"
    plan.shapes[task.version] = (task.sketch_depth, task.sketch_width)
    for version in sorted(plan.shapes)[:-VERSIONS_MAX]:
        del plan.shapes[version]
    step.changed[written.plan_key(task.task)] = written.plain_value(plan)
    waiting = [one for one in state.early.values() if one.task == task.task and one.task_version <= plan.version]
    for opened in sorted(waiting, key=lambda one: one.number):
        del state.early[opened.round_id]
        step.changed[written.early_key(opened.round_id)] = None
        with suppress(RemoteError):  # of what was read long ago there is no message to make a dead letter of
            take_aggregate(state, opened, step)


def _is_of_use(one: Task | Aggregate) -> bool:
    if one.kind == SKETCH:
        return one.task.startswith(SIGNATURES_TASK)
    return one.kind == HISTOGRAM and bool(one.labels) and all(label.endswith((FINE, FAILED)) for label in one.labels)


def take_aggregate(state: State, opened: Aggregate, step: Step) -> None:
    """Learn an opened sum.

    Raises:
        RemoteError: `bad-sum`: it is none, or does not fit its task.
    """
    if not _is_of_use(opened) or opened.n == 0 or opened.guarantee.mechanism != GAUSSIAN:
        return  # of other noise, what is said here would not hold
    if len(opened.sum) != 8 * opened.length or not opened.scale > 0 or not opened.sigma >= 0:
        raise RemoteError("an opened sum does not fit", reason="bad-sum", got=len(opened.sum), needed=8 * opened.length)
    if opened.kind == SKETCH:
        _take_sketch(state, opened, step)
    elif opened.sigma:  # older records do not tell it, and with less noise than there is the levels would not hold
        _compare(state, opened, step)


def _take_sketch(state: State, opened: Aggregate, step: Step) -> None:
    plan = state.plans.get(opened.task)
    if plan is None or plan.version < opened.task_version:
        if len(opened.sum) <= 8 * TABLE_MAX and len(state.early) < EARLY_MAX:
            state.early[opened.round_id] = kept = replace(opened, groups=[])
            step.changed[written.early_key(opened.round_id)] = written.CODEC.encode(kept)
        return
    shape = plan.shapes.get(opened.task_version)
    if shape is not None:
        state.deployment = opened.deployment
        _keep(state, shape, opened, step)


def people_of(table: Table, name: str) -> People:
    """How many people have a name, by an opened sketch."""
    counters = np.frombuffer(table.sums, "<i8").reshape(table.depth, table.width) / table.scale
    return people_with(counters, name, slack(counters))


def _keep(state: State, shape: tuple[int, int], opened: Aggregate, step: Step) -> None:
    depth, width = shape
    cells = depth * width
    if opened.length - cells not in EXTRA:
        raise RemoteError("a sketch is depth × width", reason="bad-sum", got=opened.length, needed=cells)
    known = state.tables.get(opened.task)
    if cells > TABLE_MAX or (known is not None and known.number >= opened.number):
        return
    sums = opened.sum[: 8 * cells]
    table = Table(opened.round_id, opened.number, depth, width, opened.scale, sums, opened.guarantee)
    state.tables[opened.task] = table
    step.changed[written.table_key(opened.task)] = written.table_value(table)


# ---------------------------------------------------------------- releases


def _compare(state: State, opened: Aggregate, step: Step) -> None:
    if opened.length - len(opened.labels) not in EXTRA:
        got = (opened.length, len(opened.labels))
        raise RemoteError("a histogram has a count a label", reason="bad-sum", got=got, needed="as many")
    if opened.task not in state.learned and len(state.learned) >= TASKS_MAX:
        return
    if opened.number <= state.learned.get(opened.task, 0):
        return  # said again, by a reducer beside the first: evidence counts once
    state.deployment = opened.deployment
    state.learned[opened.task] = opened.number
    step.changed[written.learned_key(opened.task)] = written.learned_value(opened.number)
    people = np.frombuffer(opened.sum, "<i8")[: len(opened.labels)] / opened.scale
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for label, value in zip(opened.labels, people.tolist(), strict=True):
        failed = label.endswith(FAILED)
        release = label.removesuffix(FAILED if failed else FINE)
        counts[release][0] += value
        counts[release][1] += value * failed
    sigma = opened.sigma / opened.scale
    for release in sorted(counts):
        kin = [other for other in counts if other != release and family(other) == family(release)]
        known = state.open.get(name_of(_subject(opened.task), FAILURES, family(release)))
        bad = set(known.versions) if known else set()
        others = [other for other in kin if other not in bad] or kin
        if others:
            clients, failures = counts[release]
            window = _window(clients, failures, [counts[other] for other in others], sigma)
            _learn(state, opened, release, window, known, step)


def _window(clients: float, failures: float, others: list[list[float]], sigma: float) -> NoisyWindow:
    """What the detector is told: it takes the others for one place, so its σ covers the noise of all of them, as far as that weighs."""
    other_clients = sum(one[0] for one in others)
    weight = min(clients / other_clients, 1e3) ** 2 if other_clients > 0 else 1.0
    factor = math.sqrt((1 + len(others) * weight) / (1 + weight))
    return NoisyWindow(clients, failures, other_clients, sum(one[1] for one in others), sigma * factor)


def _learn(
    state: State, opened: Aggregate, release: str, window: NoisyWindow, known: Incident | None, step: Step
) -> None:
    key = (opened.task, release)
    rounds = state.rounds.get(key)
    if rounds is None:
        if len(state.rounds) >= RELEASES_MAX:
            return
        state.compared += 1
        rounds = state.rounds[key] = Rounds(state.compared)
    rounds.test.learn_one(window)
    rounds.clients += max(window.clients, 0.0)
    now = opened.guarantee.rdp
    rounds.rdp = [a + b for a, b in zip(rounds.rdp or [0.0] * len(now), now, strict=True)]
    expected = window.other_failures / window.other_clients * window.clients if window.other_clients > 0 else 0.0
    is_worse = window.failures > RATIO_MIN * expected + 2 * math.sqrt(max(expected, 0.0) + window.sigma**2)
    rounds.quiet = 0 if is_worse else rounds.quiet + 1
    incident = _incident(state, opened, release, rounds, known)
    if known is not None and release in known.versions:
        if _is_over(state, opened.task, known):
            announcing.publish(state, replace(known, status="resolved", updated_s=opened.closed_ms // 1000), step)
            begin_anew(state, known, step)
            return
        if release == known.release and incident.n >= known.n * GROWTH:
            announcing.publish(state, incident, step)
    elif rounds.test.p_value <= level(rounds.number, 0):
        announcing.publish(state, incident, step)
    step.changed[written.rounds_key(*key)] = written.rounds_value(rounds)


def _is_over(state: State, task: str, known: Incident) -> bool:
    found = [state.rounds[task, release] for release in known.versions if (task, release) in state.rounds]
    return all(rounds.quiet >= QUIET_ROUNDS for rounds in found)


def begin_anew(state: State, incident: Incident, step: Step) -> None:
    """Forget the rounds of an incident that is over."""
    for release in incident.versions:
        key = (incident.subject.removeprefix(SUBJECT), release)
        if state.rounds.pop(key, None) is not None:
            step.changed[written.rounds_key(*key)] = None


def _subject(task: str) -> str:
    return SUBJECT + task


def _incident(state: State, opened: Aggregate, release: str, rounds: Rounds, known: Incident | None) -> Incident:
    seen, expected = rounds.test.rate, rounds.test.other_rate
    at_s = opened.closed_ms // 1000
    return Incident(
        deployment=state.deployment,
        incident=name_of(_subject(opened.task), FAILURES, family(release)),
        status="opened" if known is None else "growing",
        kind=FAILURES,
        subject=_subject(opened.task),
        release=release if known is None else known.release,
        versions=sorted({release, *(known.versions if known else [])}),
        since_s=at_s if known is None else known.since_s,
        updated_s=at_s,
        seen=seen,
        expected=expected,
        unit="share of clients",
        severity=announcing.severity(seen, expected, 1e-4),
        confidence=1.0 - rounds.test.p_value,
        explanation=(
            f"{release} fails for about {seen:.1%} of clients, other releases for {expected:.1%}, counted with noise in "
            f"{rounds.test.rounds} rounds"
        ),
        n=round(rounds.clients),
        guarantee=_together(opened, rounds),
    )


def _together(opened: Aggregate, rounds: Rounds) -> Guarantee:
    """The guarantee of all rounds that the comparison was made from."""
    one = opened.guarantee
    epsilon = accounting.epsilon_from_rdp(np.array(rounds.rdp), one.delta) if rounds.rdp else one.epsilon
    return replace(one, window=f"task:{opened.task}", epsilon=epsilon, rdp=list(rounds.rdp))
