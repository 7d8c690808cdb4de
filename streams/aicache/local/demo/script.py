"""What happens in the demo, as numbers: tasks, planted faults, who misbehaves. Shared by the story and the crowd. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aicache.local.demo.questions import labels
from aicache.privacy.accounting import noise_multiplier
from aicache.schemas.records import ModelSpec, Task

CLIENTS = 1_000
PROCESSES = 2
VANISH = 0.2
N_MIN = 200
N_MAX = round(CLIENTS * (1 - VANISH) * 0.97)
"""A round closes when so many are there; a fifth has vanished by then."""
HONEST = 200
DELTA = 1e-5
MODEL_ROUNDS = 5
MODEL_EPSILON = 6.0
COUNT_ROUNDS = 2
COUNT_EPSILON = 0.5
MODEL, COUNTS = "next-tag", "tags-per-period"
GARBAGE, REPLAYER, VICTIM = 0, 1, 2
"""Clients: one seals garbage, one replays the envelope of the third as its own."""
KILLED_MEMBER = 3
CANARIES = 40

FAILING_RELEASE, FAILING_OPERATION = "pypi:tag-indexer@2.3", "op:index"
SLOW_RELEASE, SLOW_OPERATION = "pypi:tag-search@5.1", "op:search"
PLANTED = {("failure-rate", FAILING_OPERATION, FAILING_RELEASE), ("latency", SLOW_OPERATION, SLOW_RELEASE)}
"""What is to be found: kind, subject and release of each incident."""
MINUTES = 40
MINUTE_S = 0.4
"""What a simulated minute takes."""
BAD_FROM = 20
"""Of the simulated minutes before the demo, the one in which the bad releases come out."""


def tasks(deployment: str) -> list[Task]:
    """The two tasks: counts of tags with the clients' noise, a model with the committee's."""
    counts = _task(
        deployment,
        COUNTS,
        "histogram",
        len(labels()),
        "trends",
        "How often each tag is used, a period after the other.",
        "clients",
        noise_multiplier(COUNT_EPSILON, DELTA, COUNT_ROUNDS),
        COUNT_ROUNDS,
        clip=6.0,
        scale=16.0,
        model=None,
    )
    spec = ModelSpec(list(labels()), list(labels()), step=30.0, momentum=0.5, window=1)
    model = _task(
        deployment,
        MODEL,
        "model",
        (len(labels()) + 1) * len(labels()),
        "models",
        "Which tag comes next, given those that are there.",
        "committee",
        noise_multiplier(MODEL_EPSILON, DELTA, MODEL_ROUNDS),
        MODEL_ROUNDS,
        clip=1.0,
        scale=512.0,
        model=spec,
    )
    return [counts, model]


def _task(
    deployment: str,
    name: str,
    kind: str,
    length: int,
    purpose: str,
    description: str,
    noise: str,
    multiplier: float,
    rounds: int,
    *,
    clip: float,
    scale: float,
    model: ModelSpec | None,
) -> Task:
    return Task(
        deployment=deployment,
        task=name,
        version=1,
        state="active",
        kind=kind,
        description=description,
        purpose=purpose,
        length=length,
        labels=list(labels()) if kind == "histogram" else [],
        clip=clip,
        clipping="flat",
        layers=[],
        scale=scale,
        noise=noise,
        noise_multiplier=multiplier,
        honest=HONEST,
        delta=DELTA,
        n_min=N_MIN,
        n_max=N_MAX,
        deadline_ms=30_000,
        grace_ms=4_000,
        interval_ms=200,
        rounds=rounds,
        groups=1,
        robust="none",
        members=5,
        threshold=3,
        parameters="n10k",
        sketch_depth=0,
        sketch_width=0,
        model=model,
        evaluates="",
    )


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What one client saw of one operation in one simulated minute."""

    minute: int
    kind: str
    operation: str
    release: str
    count: int
    durations_s: tuple[float, ...]


FAILURES = (
    ("op:index", ("pypi:tag-indexer@2.1", "pypi:tag-indexer@2.2", FAILING_RELEASE)),
    ("op:build", ("pypi:builder@1.0", "pypi:builder@1.1")),
    ("op:lint", ("pypi:linter@0.8", "pypi:linter@0.9")),
)
DURATIONS = (
    ("op:search", ("pypi:tag-search@4.9", "pypi:tag-search@5.0", SLOW_RELEASE)),
    ("op:render", ("pypi:renderer@3.2", "pypi:renderer@3.3")),
)
FAILURE_RATE, BAD_FAILURE_RATE = 0.02, 0.10
DURATION_S, SLOW_FACTOR = 0.2, 3.0
USES = 6


def telemetry(random: np.random.Generator) -> Iterator[Telemetry]:
    """What one client saw: a few minutes of its operations; the bad releases only after they came out."""
    for minute in np.sort(random.choice(MINUTES, size=4, replace=False)).tolist():
        for operation, releases in FAILURES:
            release = _release(releases, minute, random)
            rate = BAD_FAILURE_RATE if release == FAILING_RELEASE else FAILURE_RATE
            failed = int(random.binomial(USES, rate))
            if failed:
                yield Telemetry(minute, "failure", operation, release, failed, ())
            if USES - failed:
                yield Telemetry(minute, "success", operation, release, USES - failed, ())
        for operation, releases in DURATIONS:
            release = _release(releases, minute, random)
            typical = DURATION_S * (SLOW_FACTOR if release == SLOW_RELEASE else 1.0)
            seconds = tuple((typical * random.lognormal(0.0, 0.4, size=USES)).tolist())
            yield Telemetry(minute, "duration", operation, release, USES, seconds)


def _release(releases: tuple[str, ...], minute: int, random: np.random.Generator) -> str:
    """One of the releases that are out; of three, the last is the one that comes out late."""
    out = releases if len(releases) < 3 or minute >= BAD_FROM else releases[:-1]
    return out[int(random.integers(len(out)))]
