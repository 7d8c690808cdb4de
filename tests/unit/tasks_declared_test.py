"""Tasks: what a file may say, what is derived, what is refused and how, and what a simulation tells."""

import math
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from aicache.privacy import accounting
from aicache.privacy.errors import LocalError
from aicache.schemas.codec import Codec
from aicache.schemas.records import Task
from aicache.streams.rounds.simulate import simulate
from aicache.streams.rounds.task import from_mapping, guarantee_of, load, validate

BASE = {"task": "tags", "kind": "histogram", "labels": ["a", "b", "c"], "epsilon": 2.0}
MODEL = {"inputs": ["a", "b"], "outputs": ["b", "c", "d"], "step": 30, "momentum": 0.5, "window": 2}


def make(**changes: object) -> Task:
    return from_mapping({**BASE, **changes}, "demo")


def test_a_toml_file_of_four_lines_is_a_task(tmp_path: Path) -> None:
    path = tmp_path / "tags.toml"
    path.write_text('task = "tags"\nkind = "histogram"\nlabels = ["a", "b"]\nepsilon = 1.5\n')
    task = load(path, "demo")
    assert (task.deployment, task.length, task.noise, task.members, task.threshold) == ("demo", 2, "committee", 5, 3)
    assert Codec().decode(Codec().encode(task), Task).record == task


def test_a_python_file_may_compute_its_task(tmp_path: Path) -> None:
    path = tmp_path / "tags.py"
    path.write_text('task = {"task": "t", "kind": "sum", "labels": [f"l{n}" for n in range(7)], "epsilon": 1.0}\n')
    assert load(path, "demo").length == 7


def test_epsilon_is_for_all_rounds_together() -> None:
    task = make(epsilon=2.0, rounds=6)
    spent = accounting.epsilon_from_rdp([6 * value for value in guarantee_of(task).rdp], task.delta)
    assert 1.99 < spent <= 2.0


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({"kind": "weighted-mean"}, 4),
        ({"kind": "model", "labels": [], "model": MODEL}, 9),
        ({"kind": "count-sketch", "labels": [], "sketch_depth": 3, "sketch_width": 50}, 150),
        ({"kind": "evaluation", "labels": [], "evaluates": "other"}, 2),
    ],
)
def test_the_length_follows_from_the_kind(changes: dict, length: int) -> None:
    assert make(**changes).length == length


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"colour": "red"}, "colour"),
        ({"deployment": "x"}, "deployment"),
        ({"kind": "maximum"}, "kind"),
        ({"task": "Tags!"}, "name"),
        ({"n_min": 1}, "n_min"),
        ({"n_min": "ten"}, "n_min"),
        ({"n_min": 50, "n_max": 49}, "n_max"),
        ({"groups": 3, "n_min": 100, "n_max": 250}, "n_max"),
        ({"groups": 65, "n_max": 9_000}, "groups"),
        ({"clip": -1.0}, "clip"),
        ({"scale": float("nan")}, "scale"),
        ({"scale": 1e6}, "lower scale"),
        ({"scale": 0.1}, "raise the scale"),
        ({"delta": 1e-3}, "delta"),
        ({"labels": ["a", "a"]}, "labels"),
        ({"labels": ["a", 1]}, "labels"),
        ({"length": 9}, "length"),
        ({"robust": "median"}, "groups"),
        ({"noise": "clients"}, "honest"),
        ({"noise": "clients", "honest": 101}, "honest"),
        ({"members": 65}, "members"),
        ({"threshold": 6}, "threshold"),
        ({"threshold": 1}, "threshold"),
        ({"parameters": "n1m"}, "parameter"),
        ({"noise_multiplier": 1.0}, "not both"),
        ({"kind": "model", "labels": []}, "model"),
        ({"model": MODEL}, "model"),
        ({"kind": "model", "labels": [], "model": {**MODEL, "momentum": 1.0}}, "momentum"),
        ({"kind": "model", "labels": [], "model": {**MODEL, "inputs": ["a", "a"]}}, "inputs"),
        ({"kind": "model", "labels": [], "model": {**MODEL, "depth": 2}}, "depth"),
        ({"kind": "evaluation", "labels": []}, "evaluat"),
        ({"kind": "sum", "labels": [], "length": 2_000_000}, "aggregate"),
        ({"deadline_ms": 10}, "deadline_ms"),
        ({"n_max": 20_000}, "senders"),
        ({"clipping": "round"}, "clipping"),
        ({"clipping": "per-layer", "layers": [1, 1]}, "length"),
        ({"clipping": "per-layer", "layers": [1, 2], "clips": [1.0]}, "clip"),
        ({"clipping": "per-layer", "layers": [1, 2], "clips": [1.0, 1.0], "clip": 3.0}, "squared"),
        ({"clipping": "per-layer", "layers": [1, 2], "clips": [0.0, 1.0]}, "clip"),
        ({"layers": [3], "clips": [1.0]}, "contradict"),
        ({"adaptive": {}}, "table|contradict"),
        ({"clipping": "adaptive", "adaptive": {"quantile": 0.0}}, "quantile"),
        ({"clipping": "adaptive", "adaptive": {"clip_min": 2.0}}, "bounds"),
        ({"clipping": "adaptive", "adaptive": {"clip_max": 2e3}}, "lower scale"),
        ({"clipping": "adaptive", "adaptive": {"clip_min": 1e-9}, "scale": 20.0, "epsilon": 50.0}, "raise the scale"),
        ({"clipping": "adaptive", "adaptive": {"speed": 2.0}}, "speed"),
        ({"clipping": "adaptive", "kind": "pairs"}, "pairs"),
    ],
)
def test_what_cannot_work_is_refused_and_named(changes: dict, word: str) -> None:
    with pytest.raises(LocalError, match=word) as caught:
        make(**changes)
    assert caught.value.needed is not None


def test_layers_without_bounds_share_the_clip_and_bounds_make_it_up() -> None:
    shared = make(clipping="per-layer", layers=[1, 2], clip=5.0)
    assert shared.clips == pytest.approx([5 / math.sqrt(2)] * 2)
    given = make(clipping="per-layer", layers=[1, 2], clips=[3.0, 4])
    assert given.clip == pytest.approx(5.0)
    assert guarantee_of(given).sensitivity == guarantee_of(shared).sensitivity


def test_a_models_layers_are_its_weights_and_its_bias() -> None:
    task = make(kind="model", labels=[], model=MODEL, clipping="per-layer", clips=[0.8, 0.6])
    assert (task.layers, task.clip) == ([6, 3], 1.0)


def test_a_clip_that_adapts_costs_the_same_at_every_clip_and_has_bounds_by_itself() -> None:
    task = make(clipping="adaptive")
    assert task.adaptive is not None
    assert (task.adaptive.clip_min, task.adaptive.clip_max) == (1 / 16, 16.0)
    later = replace(task, clip=task.adaptive.clip_max)
    assert guarantee_of(later).epsilon == pytest.approx(guarantee_of(task).epsilon, rel=1e-6)


def test_noise_has_to_be_chosen() -> None:
    with pytest.raises(LocalError, match="epsilon or noise_multiplier"):
        from_mapping({"task": "tags", "kind": "histogram", "labels": ["a"]}, "demo")


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.toml", "task = \n", "TOML"),
        ("b.py", "tusk = 1\n", "does not define"),
        ("c.toml", 'kind = "sum"\n', "needs task"),
    ],
)
def test_a_file_that_is_no_task_is_named(tmp_path: Path, name: str, text: str, word: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(LocalError, match=word) as caught:
        load(path, "demo")
    assert name in str(caught.value)
    with pytest.raises(LocalError, match="does not exist"):
        load(tmp_path / "missing.toml", "demo")


@pytest.mark.parametrize("noise", ["committee", "clients"])
@pytest.mark.parametrize("kind", ["histogram", "model", "evaluation"])
def test_a_simulation_is_exact_and_as_noisy_as_planned(noise: str, kind: str) -> None:
    more: dict[str, dict] = {
        "histogram": {"labels": [f"l{n}" for n in range(1_500)]},
        "model": {"labels": [], "model": {**MODEL, "outputs": [f"o{n}" for n in range(400)]}},
        "evaluation": {"labels": [], "evaluates": "other"},
    }
    task = make(kind=kind, noise=noise, honest=15, n_min=20, rounds=3, **more[kind])
    found = simulate(task, clients=30, entropy=os.urandom, seconds=time.perf_counter)
    assert found.exact
    assert found.epsilon_all == pytest.approx(2.0, rel=1e-3)
    assert found.epsilon_round < found.epsilon_all
    if task.length > 1_000:
        assert found.error_measured == pytest.approx(found.error_planned, rel=0.12)
    assert len(found.lines()) == 5


@pytest.mark.parametrize("noise", ["committee", "clients"])
def test_a_simulation_shows_the_path_of_a_clip_that_adapts(noise: str) -> None:
    task = make(clipping="adaptive", adaptive={"rate": 0.5}, epsilon=8.0, noise=noise, honest=50)
    found = simulate(task, clients=200, entropy=os.urandom, seconds=time.perf_counter, rounds=14)
    assert found.exact
    assert len(found.clips) == 14
    assert found.clips[0] == pytest.approx(task.clip / math.sqrt(1 + 0.5**2 / 4))
    assert found.clips[-1] == pytest.approx(found.norm_wanted, rel=0.35)
    assert "the clip over 14 rounds" in found.lines()[-1]


def test_a_crowd_that_does_not_fit_is_not_simulated() -> None:
    with pytest.raises(LocalError, match="crowd"):
        simulate(make(), clients=3, entropy=os.urandom, seconds=time.perf_counter)


def test_a_task_made_by_hand_is_held_to_the_same_rules() -> None:
    validate(make())
