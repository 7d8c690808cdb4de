"""How what the control plane remembers is written to its changelog, an entry a thing, and read again. Pure."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from aicache.schemas.codec import Codec, SingleObject
from aicache.schemas.records import Acknowledgement, Aggregate, Guarantee, Incident
from aicache.streams.anomalies import sketches
from aicache.streams.anomalies.detectors.noisy_release import NoisyReleaseComparison
from aicache.streams.anomalies.detectors.quantiles import QuantileShift
from aicache.streams.anomalies.detectors.rate import RateChange
from aicache.streams.anomalies.detectors.release import ReleaseComparison
from aicache.streams.anomalies.evidence import Comparison, Drift, Partials, Plan, Rate, Rounds, Signature, State, Table

CODEC = Codec(SingleObject())  # of state, which stays the same whatever the wire form of topics


def load(entries: Iterable[tuple[bytes, bytes]]) -> State:
    """The state that wrote these entries."""
    state = State()
    for key, value in entries:
        kind, name = key[:1], key[1:]
        if kind == b"m":
            _load_meta(state, json.loads(value))
        elif kind in (b"w", b"c", b"r", b"i"):
            _load_judging(state, kind, name, value)
        elif kind in _LOADERS:
            _LOADERS[kind](state, name, value)
    return state


def _load_meta(state: State, fields: Sequence[Any]) -> None:
    state.deployment, state.newest_s, state.closed_s, state.tests, state.found, *more = fields
    if more:
        state.began_s, state.hour, state.told, state.compared, state.judged_s = more


def _load_judging(state: State, kind: bytes, name: bytes, value: bytes) -> None:
    if kind == b"w":
        start_s, series = json.loads(name)
        state.windows[start_s, series] = {
            (release, partition): (events, failures, _sketch(sketch), *_of_people(more))
            for release, partition, events, failures, sketch, *more in json.loads(value)
        }
    elif kind == b"c":
        number, numbers, sketch, seen_s, worse_s, recent, *people = json.loads(value)
        comparison = Comparison(number, ReleaseComparison(), _sketch(sketch), seen_s, worse_s, tuple(recent))
        comparison.people = _people(people)
        comparison.test.restore(numbers)
        series, release, what = json.loads(name)
        state.keep((series, release, what), comparison)
    elif kind == b"r":
        values, seen_s, worse_s, before, *people = json.loads(value)
        rate = Rate(RateChange(), seen_s, worse_s, before, _people(people))
        rate.detector.restore(values)
        state.rates[name.decode()] = rate
    else:
        state.open[name.decode()] = CODEC.decode(value, Incident).record


def _load_acknowledged(state: State, name: bytes, value: bytes) -> None:
    state.acknowledged[name.decode()] = CODEC.decode(value, Acknowledgement).record


def _load_held(state: State, name: bytes, value: bytes) -> None:
    state.held[name.decode()] = json.loads(value)


def _load_drift(state: State, name: bytes, value: bytes) -> None:
    header, _, detector = value.partition(b"\n")
    state.drifts[name.decode()] = Drift(QuantileShift.from_bytes(detector), *json.loads(header))


def _load_signature(state: State, name: bytes, value: bytes) -> None:
    fields = json.loads(value)
    fields["people"] = {int(partition): count for partition, count in fields["people"].items()}
    state.signatures[name.decode()] = Signature(**{**fields, "guarantee": _guarantee(fields["guarantee"])})


def _load_plan(state: State, name: bytes, value: bytes) -> None:
    fields = json.loads(value)
    if "shapes" in fields:
        shapes = {int(version): tuple(shape) for version, shape in fields.pop("shapes").items()}
        state.plans[name.decode()] = Plan(**fields, shapes=shapes)
    elif fields["depth"]:  # before the fourth version: of one version of a task alone, and of histograms, too
        shapes = {fields["version"]: (fields["depth"], fields["width"])}
        state.plans[name.decode()] = Plan(fields["version"], fields["active"], shapes)


def _load_table(state: State, name: bytes, value: bytes) -> None:
    header, _, sums = value.partition(b"\n")
    round_id, number, depth, width, scale, guarantee = json.loads(header)
    table = Table(round_id, number, depth, width, scale, sums, Guarantee(**guarantee))
    state.tables[name.decode()] = table


def _load_early(state: State, name: bytes, value: bytes) -> None:
    opened = CODEC.decode(value, Aggregate).record
    if not opened.labels:  # before the fourth version histograms waited, too
        state.early[name.decode()] = opened


def _load_learned(state: State, name: bytes, value: bytes) -> None:
    state.learned[name.decode()] = int(value)


def _load_rounds(state: State, name: bytes, value: bytes) -> None:
    header, _, test = value.partition(b"\n")
    number, *fields = json.loads(header)
    task, release = json.loads(name)
    state.rounds[task, release] = Rounds(number, NoisyReleaseComparison.from_bytes(test), *fields)


def _load_cells(state: State, name: bytes, value: bytes) -> None:
    start_s, outcome, candidate, stratum = json.loads(name)
    cells = state.periods.setdefault(start_s, {}).setdefault(outcome, {})
    state.cells += 1
    cells[candidate, stratum] = {partition: (people, failing) for partition, people, failing in json.loads(value)}


_LOADERS: dict[bytes, Callable[[State, bytes, bytes], None]] = {
    b"a": _load_acknowledged,
    b"h": _load_held,
    b"d": _load_drift,
    b"s": _load_signature,
    b"p": _load_plan,
    b"t": _load_table,
    b"e": _load_early,
    b"n": _load_learned,
    b"o": _load_rounds,
    b"x": _load_cells,
}


def meta_entry(state: State) -> tuple[bytes, bytes]:
    """The changelog's entry of what is not in any other."""
    fields = [state.deployment, state.newest_s, state.closed_s, state.tests, state.found]
    fields += [state.began_s, state.hour, state.told, state.compared, state.judged_s]
    return b"m", json.dumps(fields).encode()


def window_key(window: tuple[int, str]) -> bytes:
    """The changelog's key of a window."""
    return b"w" + json.dumps(window).encode()


def window_value(partials: Partials) -> bytes:
    """The changelog's value of a window."""
    rows = [[release, partition, *counts] for (release, partition), counts in sorted(partials.items())]
    return json.dumps(rows).encode()


def comparison_key(test: Sequence[str]) -> bytes:
    """The changelog's key of a comparison."""
    return b"c" + json.dumps(list(test)).encode()


def comparison_value(comparison: Comparison) -> bytes:
    """The changelog's value of a comparison."""
    numbers = comparison.test.numbers()
    seen = [comparison.seen_s, comparison.worse_s, comparison.recent, comparison.people]
    return json.dumps([comparison.number, numbers, comparison.sketch, *seen]).encode()


def rate_key(series: str) -> bytes:
    """The changelog's key of a rate."""
    return b"r" + series.encode()


def rate_value(rate: Rate) -> bytes:
    """The changelog's value of a rate."""
    return json.dumps([rate.detector.values, rate.seen_s, rate.worse_s, rate.before, rate.people]).encode()


def incident_key(name: str) -> bytes:
    """The changelog's key of an incident."""
    return b"i" + name.encode()


def incident_value(incident: Incident) -> bytes:
    """The changelog's value of an incident."""
    return CODEC.encode(incident)


def acknowledged_key(name: str) -> bytes:
    """The changelog's key of an acknowledgement."""
    return b"a" + name.encode()


def held_key(name: str) -> bytes:
    """The changelog's key of an incident that waits to be told."""
    return b"h" + name.encode()


def drift_key(series: str) -> bytes:
    """The changelog's key of a series' durations."""
    return b"d" + series.encode()


def drift_value(drift: Drift) -> bytes:
    """The changelog's value of a series' durations."""
    header = [drift.before, drift.seen_s, drift.worse_s]
    return json.dumps(header).encode() + b"\n" + drift.detector.to_bytes()


def signature_key(series: str) -> bytes:
    """The changelog's key of a signature."""
    return b"s" + series.encode()


def plan_key(task: str) -> bytes:
    """The changelog's key of a task."""
    return b"p" + task.encode()


def table_key(task: str) -> bytes:
    """The changelog's key of an opened sketch."""
    return b"t" + task.encode()


def table_value(table: Table) -> bytes:
    """The changelog's value of an opened sketch."""
    header = [table.round_id, table.number, table.depth, table.width, table.scale, asdict(table.guarantee)]
    return json.dumps(header).encode() + b"\n" + table.sums


def early_key(round_id: str) -> bytes:
    """The changelog's key of an opened sketch that waits for its task."""
    return b"e" + round_id.encode()


def learned_key(task: str) -> bytes:
    """The changelog's key of the newest round that was compared."""
    return b"n" + task.encode()


def learned_value(number: int) -> bytes:
    """The changelog's value of the newest round that was compared."""
    return str(number).encode()


def rounds_key(task: str, release: str) -> bytes:
    """The changelog's key of a comparison by rounds."""
    return b"o" + json.dumps([task, release]).encode()


def rounds_value(rounds: Rounds) -> bytes:
    """The changelog's value of a comparison by rounds."""
    header = [rounds.number, rounds.clients, rounds.rdp, rounds.quiet]
    return json.dumps(header).encode() + b"\n" + rounds.test.to_bytes()


def cell_key(start_s: int, outcome: str, candidate: str, stratum: str) -> bytes:
    """The changelog's key of people by what they had."""
    return b"x" + json.dumps([start_s, outcome, candidate, stratum]).encode()


def cell_value(cell: dict[int, tuple[int, int]]) -> bytes:
    """The changelog's value of people by what they had."""
    return json.dumps([[partition, *counts] for partition, counts in sorted(cell.items())]).encode()


def plain_value(kept: Signature | Plan) -> bytes:
    """The changelog's value of what JSON can tell as it is."""
    return json.dumps(asdict(kept), sort_keys=True).encode()


def _guarantee(fields: dict[str, Any] | None) -> Guarantee | None:
    return None if fields is None else Guarantee(**fields)


def _sketch(pairs: dict[str, float]) -> sketches.Sketch:
    return {float(bucket): count for bucket, count in pairs.items()}


def _of_people(fields: list[Any]) -> tuple[int, tuple[int, ...]]:
    """What is known of people in a window; the first version knew nothing."""
    return (fields[0], tuple(fields[1])) if fields else (0, ())


def _people(fields: list[dict[str, int]]) -> dict[int, int]:
    """People by partition, as the last field of a value; the first version had none."""
    return {int(partition): count for partition, count in fields[0].items()} if fields else {}
