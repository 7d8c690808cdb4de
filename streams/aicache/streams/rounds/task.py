"""A task: the small declared thing that rounds are made of, from a TOML file, a Python file or a mapping.

What can be derived is not asked for: the length follows from the kind, the noise from an epsilon, the version from the log.
`validate` refuses what could not work later: a sum that may wrap, noise too fine for its guarantee, an aggregate that fits no
record.
Boundary: `load` reads the file (and runs it, if it is Python: only your own).
"""

import math
import re
import runpy
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from aicache.privacy import accounting, parameters, quantize
from aicache.privacy.clipping import ADAPTIVE, PER_LAYER, ROUNDING
from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.clipping import CLIPPINGS, masked_length, rule_of
from aicache.schemas.records import AdaptiveClipping, ModelSpec, Task
from aicache.streams.reducer.opening import ROBUST_GROUPS_MIN

Nested = TypeVar("Nested", ModelSpec, AdaptiveClipping)

KINDS = ("sum", "mean", "weighted-mean", "histogram", "pairs", "count-sketch", "model", "evaluation")
ROBUST = ("none", "trimmed-mean", "median", "norm-filter")
STATES = ("active", "paused", "ended")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
LABEL_BYTES_MAX = 400_000
"""All labels together: a task has to fit its topic."""
LENGTH_MAX = 4_000_000
GROUPS_MAX = 64
DAY_MS = 86_400_000
RECORD_MARGIN_BYTES = 100_000
EVALUATION_LENGTH = 2
"""An evaluation sums hits and trials."""

DEFAULTS: Mapping[str, Any] = {
    "version": 1,
    "state": "active",
    "description": "",
    "purpose": "insights",
    "labels": [],
    "clip": 1.0,
    "clipping": "flat",
    "layers": [],
    "scale": 1_000.0,
    "noise": "committee",
    "honest": 0,
    "delta": 1e-6,
    "n_min": 100,
    "n_max": 5_000,
    "deadline_ms": 3_600_000,
    "grace_ms": 10_000,
    "interval_ms": 0,
    "rounds": 0,
    "groups": 1,
    "robust": "none",
    "members": 5,
    "threshold": 3,
    "parameters": "n10k",
    "sketch_depth": 0,
    "sketch_width": 0,
    "model": None,
    "evaluates": "",
    "clips": [],
    "adaptive": None,
}
MODEL_DEFAULTS: Mapping[str, Any] = {"step": 1.0, "momentum": 0.0, "window": 0}
ADAPTIVE_DEFAULTS: Mapping[str, Any] = {"quantile": 0.5, "rate": 0.2, "weight": 0.5}
ADAPTIVE_REACH = 16.0
"""Where a task does not say how far its clip may go: so many times up or down."""
EXTRA = ("epsilon",)
"""Besides the record's fields: instead of noise_multiplier, the epsilon of all `rounds` together, or of one without end."""


def load(path: Path, deployment: str) -> Task:
    """A task from a file: TOML, or Python that defines `task` (a mapping, or a `Task`).

    Args:
        path: the file; a `.py` is run.
        deployment: whose task it is.

    Raises:
        LocalError: no such file, not TOML, or not a task; names the file and what is wrong.
    """
    if not path.is_file():
        raise LocalError(f"{path} does not exist", got=str(path), needed="a TOML or Python file")
    if path.suffix == ".py":
        found = runpy.run_path(str(path)).get("task")
        if isinstance(found, Task):
            validate(found)
            return found
        if not isinstance(found, Mapping):
            raise LocalError(f"{path} does not define `task`", got=type(found).__name__, needed="a mapping or a Task")
        data = dict(found)
    else:
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise LocalError(f"{path} is not TOML: {error}", got=str(error), needed="TOML") from None
    try:
        return from_mapping(data, deployment)
    except LocalError as error:
        raise LocalError(f"{path}: {error}", got=error.got, needed=error.needed) from None


def from_mapping(data: Mapping[str, Any], deployment: str) -> Task:
    """A task from plain values; what is missing has the default, or follows from what is there.

    Raises:
        LocalError: an unknown or missing key, a value of a wrong type or one that cannot be.
    """
    known = {entry.name: entry.type for entry in fields(Task)}
    unknown = sorted(set(data) - known.keys() - set(EXTRA) | ({"deployment"} & set(data)))
    if unknown:
        raise LocalError(f"unknown keys: {', '.join(unknown)}", got=unknown, needed=sorted(known))
    missing = [name for name in ("task", "kind") if name not in data]
    if missing:
        raise LocalError(f"a task needs {' and '.join(missing)}", got=sorted(data), needed=missing)
    values: dict[str, Any] = {**DEFAULTS, **data, "deployment": deployment}
    epsilon = values.pop("epsilon", None)
    if values["model"] is not None:
        values["model"] = _nested("model", values["model"], ModelSpec, MODEL_DEFAULTS)
    _complete_clipping(values, data)
    _require(values["kind"] in KINDS, f"kind is one of {', '.join(KINDS)}", values["kind"])
    values.setdefault("length", 0)
    values.setdefault("noise_multiplier", 0.0)
    typed = {name: _typed(name, values[name], known[name]) for name in known}
    typed["length"] = typed["length"] or _length(typed)
    if epsilon is not None:
        _require("noise_multiplier" not in data, "give epsilon or noise_multiplier, not both", epsilon)
        typed["noise_multiplier"] = accounting.noise_multiplier(
            _typed("epsilon", epsilon, float), typed["delta"], max(1, typed["rounds"])
        )
    _require(typed["noise_multiplier"] > 0, "a task needs epsilon or noise_multiplier", typed["noise_multiplier"])
    task = Task(**typed)
    validate(task)
    return task


def _nested(name: str, data: object, kind: type[Nested], defaults: Mapping[str, Any]) -> Nested:
    """A table within the task's own."""
    if isinstance(data, kind):
        return data
    known = {entry.name: entry.type for entry in fields(kind)}
    if not isinstance(data, Mapping):
        raise LocalError(f"{name} is a table", got=type(data).__name__, needed=sorted(known))
    values = {**defaults, **data}
    unknown, missing = sorted(values.keys() - known.keys()), sorted(known.keys() - values.keys())
    if unknown or missing:
        message = f"{name} has unknown keys {unknown}" if unknown else f"{name} lacks {missing}"
        raise LocalError(message, got=sorted(values), needed=sorted(known))
    return kind(**{key: _typed(f"{name}.{key}", values[key], wanted) for key, wanted in known.items()})


def _complete_clipping(values: dict[str, Any], data: Mapping[str, Any]) -> None:
    """What follows from the rest: a model's layers, a bound for each, the bound of all together, bounds of a clip that adapts."""
    spec = values["model"]
    if values["clipping"] == PER_LAYER and not values["layers"] and spec is not None:
        values["layers"] = [len(spec.inputs) * len(spec.outputs), len(spec.outputs)]
    layers, clips = values["layers"], values["clips"]
    if values["clipping"] == PER_LAYER and isinstance(layers, list) and layers and isinstance(clips, list):
        if not clips:
            values["clips"] = [float(_typed("clip", values["clip"], float)) / math.sqrt(len(layers))] * len(layers)
        elif "clip" not in data:
            values["clip"] = math.hypot(*(_typed("clips", clip, float) for clip in clips))
        values["clips"] = [_typed("clips", clip, float) for clip in values["clips"]]
    if values["clipping"] == ADAPTIVE:
        clip = _typed("clip", values["clip"], float)
        reach = {"clip_min": clip / ADAPTIVE_REACH, "clip_max": clip * ADAPTIVE_REACH}
        given = {} if values["adaptive"] is None else values["adaptive"]
        values["adaptive"] = _nested("adaptive", given, AdaptiveClipping, {**ADAPTIVE_DEFAULTS, **reach})


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value, if it is of the field's type; an integer may stand for a number."""
    if kind is float and type(value) is int:
        return float(value)
    if kind in (int, float, str):
        if type(value) is not kind:
            raise LocalError(f"{name} is of a wrong type", got=type(value).__name__, needed=kind.__name__)
    elif kind in (list[str], list[int], list[float]):
        item = kind.__args__[0]
        if not isinstance(value, list) or any(type(entry) is not item for entry in value):
            raise LocalError(f"{name} is a list of {item.__name__}", got=type(value).__name__, needed=str(kind))
    return value


def _length(values: Mapping[str, Any]) -> int:
    match values["kind"]:
        case "model":
            spec = values["model"]
            return 0 if spec is None else (len(spec.inputs) + 1) * len(spec.outputs)
        case "count-sketch":
            return int(values["sketch_depth"] * values["sketch_width"])
        case "evaluation":
            return EVALUATION_LENGTH
        case "pairs":
            return len(values["labels"]) * (len(values["labels"]) + 1) // 2
        case "weighted-mean":
            return len(values["labels"]) + 1  # the weights' sum comes last
        case _:
            return len(values["labels"])


# ---------------------------------------------------------------- rules


def validate(task: Task) -> None:
    """A task that can be run, and whose rounds members and clients can accept.

    Raises:
        LocalError: says which value, what it is and what it may be.
    """
    for check in (
        _check_words,
        _check_kind,
        _check_numbers,
        _check_clipping,
        _check_committee,
        _check_noise,
        _check_sizes,
    ):
        check(task)


def _require(holds: bool, message: str, got: object, needed: object = None) -> None:
    if not holds:
        raise LocalError(f"{message}; got {got!r}", got=got, needed=needed or message)


def _check_words(task: Task) -> None:
    _require(bool(NAME.fullmatch(task.task)), "a task's name has a-z, 0-9, '.', '_', '-', at most 63", task.task)
    _require(
        bool(NAME.fullmatch(task.purpose)), "a purpose's name has a-z, 0-9, '.', '_', '-', at most 63", task.purpose
    )
    for name, value, allowed in (
        ("state", task.state, STATES),
        ("kind", task.kind, KINDS),
        ("noise", task.noise, ("committee", "clients")),
        ("robust", task.robust, ROBUST),
        ("clipping", task.clipping, CLIPPINGS),
    ):
        _require(value in allowed, f"{name} is one of {', '.join(allowed)}", value, allowed)
    size = sum(len(label.encode()) + 4 for label in task.labels)
    _require(size <= LABEL_BYTES_MAX, f"labels take at most {LABEL_BYTES_MAX} bytes together", size)
    _require(len(set(task.labels)) == len(task.labels), "labels differ from each other", "a label twice")


def _check_numbers(task: Task) -> None:
    for name in ("clip", "scale", "noise_multiplier"):
        value = getattr(task, name)
        _require(math.isfinite(value) and value > 0, f"{name} is finite and above 0", value)
    bounds: tuple[tuple[str, int, float], ...] = (
        ("version", 1, math.inf),
        ("length", 1, LENGTH_MAX),
        ("n_min", 2, math.inf),
        ("groups", 1, GROUPS_MAX),
        ("n_max", task.n_min * task.groups, math.inf),
        ("deadline_ms", 100, 7 * DAY_MS),
        ("grace_ms", 0, 3_600_000),
        ("interval_ms", 0, 365 * DAY_MS),
        ("rounds", 0, math.inf),
    )
    for name, low, high in bounds:
        value = getattr(task, name)
        _require(low <= value <= high, f"{name} is {low} … {high:g}", value, (low, high))
    accounting.check_delta(task.delta, task.n_max)


def _check_kind(task: Task) -> None:
    is_model, is_sketch = task.kind == "model", task.kind == "count-sketch"
    _require(is_model == (task.model is not None), "a model task, and no other, has a model", task.kind)
    _require(
        (task.kind == "evaluation") == bool(task.evaluates), "an evaluation, and no other, evaluates a task", task.kind
    )
    _require(
        is_sketch == (task.sketch_depth > 0 and task.sketch_width > 0), "a count sketch has depth and width", task.kind
    )
    needed = _length(
        {name: getattr(task, name) for name in ("kind", "model", "labels", "sketch_depth", "sketch_width")}
    )
    labelled = bool(task.labels) or task.kind in ("pairs", "model", "count-sketch", "evaluation")
    _require(not labelled or task.length == needed, f"the length of this {task.kind} is {needed}", task.length, needed)
    if task.model is not None:
        spec = task.model
        for name, labels in (("inputs", spec.inputs), ("outputs", spec.outputs)):
            _require(
                bool(labels) and len(set(labels)) == len(labels), f"model.{name} are some, all different", len(labels)
            )
        _require(math.isfinite(spec.step) and spec.step > 0, "model.step is finite and above 0", spec.step)
        _require(0 <= spec.momentum < 1, "model.momentum is 0 … 1, 1 excluded", spec.momentum)
        _require(0 <= spec.window <= 64, "model.window is 0 … 64", spec.window)
    robust = task.robust == "none" or task.groups >= ROBUST_GROUPS_MIN
    _require(robust, f"a robust rule needs at least {ROBUST_GROUPS_MIN} groups", task.groups)


def _check_clipping(task: Task) -> None:
    rule_of(task)
    if task.clips:
        together = math.hypot(*task.clips)
        same = math.isclose(together, task.clip, rel_tol=ROUNDING)
        _require(same, f"clip is the root of the sum of the squared clips, {together:g}", task.clip, together)
    if task.adaptive is not None:
        # Whoever solves a triangle of pairs plans by the noise of the task's one clip.
        _require(
            task.kind != "pairs", "a task of pairs has one clip for all rounds", task.clipping, "flat or per-layer"
        )
        low, high = task.adaptive.clip_min, task.adaptive.clip_max
        _require(low <= task.clip <= high, f"clip lies within its own bounds, {low:g} … {high:g}", task.clip)


def _check_committee(task: Task) -> None:
    _require(1 <= task.members <= 64, "members are 1 … 64", task.members)
    low = min(2, task.members)
    _require(low <= task.threshold <= task.members, f"threshold is {low} … members", task.threshold)
    try:
        parameters.by_name(task.parameters)
    except RemoteError as error:
        raise LocalError(str(error), got=error.got, needed=error.needed) from None


def planned_sigma(task: Task, clip: float | None = None) -> float:
    """σ of the noise planned for a sum, in steps of the integer grid; at another clip than the task's first, where it adapts."""
    whole = task.clip if clip is None else clip
    return task.noise_multiplier * quantize.sensitivity(whole, task.scale, masked_length(task))


def present_sigma(task: Task, n: int, clip: float | None = None) -> float:
    """σ of the noise in a sum to which n clients and all members have contributed: more than what is promised.

    Raises:
        LocalError: as `accounting.share_sigma`.
    """
    sigma = planned_sigma(task, clip)
    return accounting.total_sigma(task.noise, sigma, task.members, task.threshold, task.honest, n)


def _check_noise(task: Task) -> None:
    if task.noise == "clients":
        _require(1 <= task.honest <= task.n_min, "honest is 1 … n_min: no group is sure to have more", task.honest)
    bounds = [task.clip] if task.adaptive is None else [task.adaptive.clip_min, task.adaptive.clip_max]
    for clip in bounds:  # whatever clip a round may come to has to work
        try:
            accounting.share_sigma(task.noise, planned_sigma(task, clip), task.members, task.threshold, task.honest)
        except LocalError as error:
            raise LocalError(f"{error}, at a clip of {clip:g}", got=error.got, needed=error.needed) from None
        try:
            parameters.check_round_fits(
                parameters.by_name(task.parameters),
                n_max=task.n_max,
                scale=task.scale,
                clip=clip,
                sigma_total=present_sigma(task, task.n_max, clip),
                members=task.members,
            )
        except RemoteError as error:
            message = f"{error} at a clip of {clip:g}: lower scale, clip or n_max, or take n60k"
            raise LocalError(message, got=error.got, needed=error.needed) from None


def _check_sizes(task: Task) -> None:
    sums = 1 if task.groups == 1 else task.groups + 1
    _check_size("aggregate", 8 * masked_length(task) * sums + LABEL_BYTES_MAX, topics.AGGREGATES.record_bytes_max)
    if task.kind == "model":
        _check_size("model", 8 * task.length, topics.MODELS.record_bytes_max)


def _check_size(name: str, size: int, limit: int) -> None:
    fits = size + RECORD_MARGIN_BYTES <= limit
    _require(fits, f"the task's {name} has to fit a record of {limit} bytes: fewer coordinates or groups", size, limit)


def guarantee_of(task: Task) -> accounting.RoundGuarantee:
    """What one round of the task guarantees to each client, at its first clip; noise grows and shrinks with a clip that adapts."""
    return accounting.round_guarantee(
        noise=task.noise,
        sensitivity=quantize.sensitivity(task.clip, task.scale, masked_length(task)),
        sigma=planned_sigma(task),
        members=task.members,
        threshold=task.threshold,
        honest=task.honest,
        length=masked_length(task),
        delta=task.delta,
    )
