"""The operator's compliance file: what is learned, for which purpose, under which guarantee, and how long it is kept.

Pure: records in, text out. Names nobody: of clients only counts and the most that any of them has spent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aicache.schemas.records import Aggregate, Budget, Task
from aicache.schemas.topics import FOREVER, Topic

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task.

    Args:
        task: its name.
        purpose: whose budget it spends.
        description: what it is for, as clients are told.
        kind: sum, mean, histogram, model …
        state: active, paused, ended.
        rounds: results that the log still has.
        n_min: the smallest crowd.
        smallest_n: the smallest crowd that any of those results had; 0 without one.
        mechanism: how noise is added, and by whom.
        epsilon_round: the most that one of those rounds cost a client.
        delta: of the guarantee.
        unit: whom it protects, and against which change.
    """

    task: str
    purpose: str
    description: str
    kind: str
    state: str
    rounds: int
    n_min: int
    smallest_n: int
    mechanism: str
    epsilon_round: float
    delta: float
    unit: str


@dataclass(frozen=True, slots=True)
class PurposeReport:
    """One purpose: what clients have spent on it.

    Args:
        purpose: its name.
        clients: how many have spent anything.
        epsilon_most: the most that any of them has spent in one window.
        delta: that goes with it.
    """

    purpose: str
    clients: int
    epsilon_most: float
    delta: float


@dataclass(frozen=True, slots=True)
class Kept:
    """One topic: how long it is kept and who reads it."""

    topic: str
    kept: str
    readers: str


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    deployment: str
    made_ms: int
    tasks: Sequence[TaskReport]
    purposes: Sequence[PurposeReport]
    topics: Sequence[Kept]


def report(
    deployment: str,
    tasks: Iterable[Task],
    aggregates: Iterable[Aggregate],
    budgets: Iterable[Budget],
    topics: Iterable[Topic],
    now_ms: int,
) -> Report:
    """Put the file together from what the log says."""
    results: dict[str, list[Aggregate]] = {}
    for aggregate in aggregates:
        results.setdefault(aggregate.task, []).append(aggregate)
    spent: dict[str, list[Budget]] = {}
    for budget in budgets:
        spent.setdefault(budget.purpose, []).append(budget)
    purposes = [
        PurposeReport(
            purpose,
            len({budget.client for budget in found}),
            max(budget.epsilon for budget in found),
            max(budget.delta for budget in found),
        )
        for purpose, found in sorted(spent.items())
    ]
    return Report(
        deployment,
        now_ms,
        [_task(task, results.get(task.task, [])) for task in sorted(tasks, key=lambda task: task.task)],
        purposes,
        [Kept(topic.name, _kept(topic), topic.readers) for topic in topics],
    )


def _task(task: Task, results: Sequence[Aggregate]) -> TaskReport:
    guarantees = [result.guarantee for result in results]
    last = guarantees[-1] if guarantees else None
    return TaskReport(
        task=task.task,
        purpose=task.purpose,
        description=task.description,
        kind=task.kind,
        state=task.state,
        rounds=len(results),
        n_min=task.n_min,
        smallest_n=min((result.n for result in results), default=0),
        mechanism=f"{last.mechanism}, by the {last.noise}" if last else f"discrete-gaussian-sum, by the {task.noise}",
        epsilon_round=max((guarantee.epsilon for guarantee in guarantees), default=0.0),
        delta=task.delta,
        unit=f"{last.unit}, {last.neighbouring}" if last else "client, add-or-remove",
    )


def _kept(topic: Topic) -> str:
    if topic.retention_ms == FOREVER:
        return "the newest of each key, until it is deleted"
    return f"{topic.retention_ms / DAY_MS:g} days"


def markdown(found: Report) -> str:
    """The file as text for people."""
    made = datetime.fromtimestamp(found.made_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        f"# What {found.deployment} learns, and what protects whom",
        "",
        f"From the log, {made}.",
        "",
        "## Tasks",
        "",
    ]
    lines += [
        (
            "| task | purpose | what for | kind | state | results | smallest crowd (asked) "
            "| mechanism | epsilon a round, at most | delta | unit |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {task.task} | {task.purpose} | {task.description} | {task.kind} | {task.state} | {task.rounds} "
        f"| {task.smallest_n or '–'} ({task.n_min}) | {task.mechanism} "
        f"| {f'{task.epsilon_round:.3g}' if task.rounds else '–'} | {task.delta:g} | {task.unit} |"
        for task in found.tasks
    ]
    lines += [
        "",
        "## Purposes",
        "",
        "| purpose | clients that spent | most spent by one in a window | delta |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {item.purpose} | {item.clients} | epsilon {item.epsilon_most:.3g} | {item.delta:g} |"
        for item in found.purposes
    ]
    lines += ["", "## What is kept, how long, for whom", "", "| topic | kept | readers |", "|---|---|---|"]
    lines += [f"| {item.topic} | {item.kept} | {item.readers} |" for item in found.topics]
    return "\n".join(lines) + "\n"
