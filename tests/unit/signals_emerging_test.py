"""Signatures are told once many people have them: what few have leaves in no readable form, and a sum that is opened shows only many."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aicache.privacy.errors import LocalError, RemoteError
from aicache.producers.signals import emerging
from aicache.producers.signals.emerging import Emerging, people_with, slack, table_of
from aicache.producers.vectors import vector_of
from aicache.schemas.records import Aggregate, Guarantee, Task
from aicache.streams.rounds import task as tasks

OURS, THEIRS = "sig:" + "0" * 16, "sig:" + "f" * 16
DEPTH, WIDTH = 5, 256


def task_of(**fields: Any) -> Task:
    sketch = {"sketch_depth": DEPTH, "sketch_width": WIDTH, "clip": math.sqrt(DEPTH)}
    plan = {"task": "signatures", "kind": "count-sketch", "scale": 64.0, "n_min": 10, "epsilon": 1.0, "rounds": 1}
    return tasks.from_mapping({**plan, **sketch, **fields}, "test")


TASK = task_of()


def opened(contributed: Sequence[list[str]], seed: int = 1, task: Task = TASK) -> Aggregate:
    """The sum of what these clients contribute, clipped as a client clips, with the noise of the whole committee."""
    total = np.zeros(task.length)
    for names in contributed:
        vector = vector_of(task, names)
        total += vector * min(1.0, task.clip / max(float(np.linalg.norm(vector)), 1e-9))
    noise = np.random.default_rng(seed).normal(0, tasks.present_sigma(task, len(contributed)), task.length)
    data = np.rint(total * task.scale + noise).astype("<i8").tobytes()
    promised = tasks.guarantee_of(task)
    guarantee = Guarantee(**{name: getattr(promised, name) for name in Guarantee.__dataclass_fields__})
    name = (task.deployment, task.task, task.version, "r1", 1, task.kind)
    n = len(contributed)
    return Aggregate(*name, bytes(32), 0, n, task.length, task.scale, [], data, [], guarantee)


def client() -> tuple[Emerging, list[tuple[Any, ...]]]:
    told: list[tuple[Any, ...]] = []
    return Emerging(lambda kind, items, **more: told.append((kind, items, more["release"], more["count"]))), told


def test_a_signature_waits_until_a_sum_shows_that_many_have_it_and_is_told_with_all_that_waited() -> None:
    ours, told = client()
    for _ in range(3):
        ours("failure", [OURS], release="pypi:tool@1.1")
    ours("failure", ["op:build"])
    assert told == [("failure", ["op:build"], "", 1)]
    assert ours.learn(opened([[OURS]] * 40), TASK) == []
    assert ours.learn(opened([[OURS]] * 400), TASK) == [OURS]
    assert told[1:] == [("failure", [OURS], "pypi:tool@1.1", 3)]
    ours("failure", [OURS], release="pypi:tool@1.1")
    assert told[2:] == [("failure", [OURS], "pypi:tool@1.1", 1)]
    assert (ours.waiting, ours.public) == ([], [OURS])


def test_what_one_company_has_is_never_public_and_what_many_have_soon_is() -> None:
    """Thirty people of a company share a signature; others share another; 300 sums with other noise each."""
    crowd = [[f"sig:{n % 90:016x}"] for n in range(1, 271)]
    company, many = [[OURS]] * 30, [[THEIRS]] * 160
    found_company = found_many = 0
    total = opened([*crowd, *company, *many])
    clean = np.frombuffer(total.sum, "<i8") - np.rint(
        np.random.default_rng(1).normal(0, tasks.present_sigma(TASK, 460), TASK.length)
    ).astype(np.int64)
    for seed in range(300):
        noise = np.rint(np.random.default_rng(seed + 2).normal(0, tasks.present_sigma(TASK, 460), TASK.length))
        table = table_of(replace(total, sum=(clean + noise.astype(np.int64)).astype("<i8").tobytes()), TASK)
        least = slack(table)
        found_company += people_with(table, OURS, least).at_least >= emerging.PEOPLE_MIN
        found_many += people_with(table, THEIRS, least).at_least >= emerging.PEOPLE_MIN
    assert found_company == 0
    assert found_many >= 270


def test_the_slack_is_kept_by_names_that_nobody_has() -> None:
    table = table_of(opened([[f"sig:{n % 40:016x}"] for n in range(800)]), TASK)
    least = slack(table, asked=1_000, failure=0.5)
    above = sum(people_with(table, f"sig:{n:032x}", least).at_least > 0 for n in range(20_000))
    assert above <= 20, "of a thousand names one in two times one is above"


def test_a_client_contributes_as_many_names_as_count_whole_each_in_its_turn() -> None:
    ours, _ = client()
    assert ours.provide(TASK) is None
    names = [f"sig:{n:016x}" for n in range(5)]
    ours("failure", names)
    one = [ours.provide(TASK) for _ in range(6)]
    assert one == [[name] for name in (*names, names[0])]
    two = task_of(clip=math.sqrt(2 * DEPTH))
    assert ours.provide(two) == names[1:3]
    with pytest.raises(LocalError, match="clip"):
        ours.provide(task_of(clip=1.0))
    with pytest.raises(LocalError, match="sketch"):
        ours.provide(replace(TASK, kind="histogram"))


@pytest.mark.parametrize("change", [{"sum": b"12345678"}, {"task": "other"}, {"task_version": 9}, {"scale": 0.0}])
def test_a_sum_of_another_task_is_refused_and_changes_nothing(change: dict[str, Any]) -> None:
    ours, told = client()
    ours("failure", [OURS])
    with pytest.raises(RemoteError) as refused:
        ours.learn(replace(opened([[OURS]] * 400), **change), TASK)
    assert refused.value.reason == "bad-sum"
    assert (ours.waiting, told) == ([OURS], [])


def test_what_waits_is_bounded_and_what_happened_least_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emerging, "NAMES_MAX", 3)
    ours, _ = client()
    for n, count in enumerate((5, 1, 7, 2, 9)):
        ours("failure", [f"sig:{n:016x}"], count=count)
    assert sorted(ours.waiting) == [f"sig:{n:016x}" for n in (0, 2, 4)]


def test_what_is_mixed_is_told_in_part_and_durations_are_not_held() -> None:
    ours, told = client()
    ours("used", ["pypi:numpy", OURS, "op:build"])
    assert told == [("used", ["pypi:numpy", "op:build"], "", 1)]
    assert ours.waiting == [OURS]
