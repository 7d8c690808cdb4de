"""The control plane as a process on a real broker: opened sums become an incident with a guarantee, an acknowledgement silences it, and
a process that is killed goes on where it stood."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aicache.local.reading import Seen, read_all
from aicache.local.writing import write
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.records import Acknowledgement, Aggregate, GroupSum, Guarantee, Incident
from aicache.streams.anomalies.announcing import GROWTH
from aicache.streams.anomalies.opened import release_labels
from aicache.streams.rounds import task as tasks
from support.processes import HEAD, Processes

CODE = (
    HEAD
    + """
from aicache.streams.anomalies.agents import run_incidents
run_incidents(settings)
"""
)
WAIT_S = 90.0
CLOSED_MS = time.time_ns() // 1_000_000  # by an old time the clock would end incidents at once


def aggregate(task: Any, number: int, counts: list[int], n: int = 5_000) -> Aggregate:
    """An opened sum; its noise is drawn, all of the committee's."""
    promised = tasks.guarantee_of(task)
    guarantee = Guarantee(**{name: getattr(promised, name) for name in Guarantee.__dataclass_fields__})
    sigma = tasks.present_sigma(task, n)
    noise = np.random.default_rng(number).normal(0, sigma, task.length)
    total = np.rint(np.array(counts) * task.scale + noise).astype("<i8").tobytes()
    name = (task.deployment, task.task, task.version, f"crashes-{number}", number, task.kind, bytes(32))
    closed_ms = CLOSED_MS + 3_600_000 * number
    groups = [GroupSum(0, n, "opened", "", total)]
    return Aggregate(*name, closed_ms, n, task.length, task.scale, task.labels, total, groups, guarantee, sigma)


def until(kafka: KafkaSettings, holds: Callable[[list[Seen]], bool]) -> list[Seen]:
    """What stands in the insight topic, once that holds."""
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        seen = read_all(kafka, topics.ANOMALIES)  # waits for the broker as long as a poll takes
        if holds(seen):
            return seen
    raise AssertionError(f"it did not come: {[one.record for one in seen]}")


def test_opened_sums_become_an_incident_that_a_person_silences_though_the_process_is_killed(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    create_topics(kafka.client_config(), kafka.prefix, topics=topics.all_topics())
    plan = {"task": "crashes", "kind": "histogram", "labels": release_labels(["pypi:tool@1.0", "pypi:tool@1.1"])}
    task = tasks.from_mapping({**plan, "scale": 64.0, "n_min": 10, "epsilon": 1.0, "rounds": 1}, kafka.deployment)
    bad = [4_410, 90, 420, 80]
    services = Processes(kafka, tmp_path)
    try:
        process = services.start(CODE)
        write(kafka, topics.TASKS, [(b"crashes", task)])
        services.ready(process)
        for number in (1, 2):
            write(kafka, topics.AGGREGATES, [(f"crashes-{number}".encode(), aggregate(task, number, bad))])
        seen = until(kafka, lambda found: len(found) >= 1)
        opened = seen[0].record
        assert isinstance(opened, Incident)
        assert (opened.status, opened.release, opened.subject) == ("opened", "pypi:tool@1.1", "task:crashes")
        assert opened.guarantee is not None
        assert opened.guarantee.epsilon >= tasks.guarantee_of(task).epsilon
        headers = dict(seen[0].headers)
        assert headers["ce_specversion"] == b"1.0"
        assert headers["ce_type"] == b"aicache.incident.opened"
        name = opened.incident.encode()
        known = Acknowledgement(
            kafka.deployment, opened.incident, opened.since_s, "ada", "known", 1, opened.seen, opened.n
        )
        before = len(seen)
        write(kafka, topics.ACKNOWLEDGEMENTS, [(name, known)])
        seen = until(kafka, lambda found: any(one.record.acknowledged_by == "ada" for one in found))  # type: ignore[union-attr]
        assert len(seen) <= before + 2
        services.kill(process)
        process = services.start(CODE)
        services.ready(process)
        quiet = len(read_all(kafka, topics.ANOMALIES))
        rounds = range(3, 3 + int(3 * opened.n / 500) + 3)
        write(kafka, topics.AGGREGATES, [(b"r", aggregate(task, number, bad)) for number in rounds])
        seen = until(kafka, lambda found: len(found) > quiet)
        loud = seen[quiet].record
        assert isinstance(loud, Incident)
        assert loud.acknowledged_by == "", "told again, and to everybody, once it is three times as large"
        assert loud.n >= 3 * opened.n > GROWTH * opened.n
    finally:
        services.stop()
