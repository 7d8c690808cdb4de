"""How incidents are told: under a stable name, seldom, and not to those who know already.

At most `HOURLY_MAX` records an hour of event time; the others wait, the most severe first, and what is over before its turn is never
told. An incident that a person has acknowledged is quiet until it is `REOPENED` times as large as they saw it, or over.
Records carry headers of CloudEvents 1.0 (Kafka binding, binary mode): a record read twice has the same `ce_id`. Pure.
"""

import hashlib
import json
import math
from dataclasses import replace
from datetime import UTC, datetime

from aicache.schemas import topics
from aicache.schemas.records import Acknowledgement, Incident
from aicache.streams.anomalies import written
from aicache.streams.anomalies.evidence import State
from aicache.streams.runtime.contract import Output, Step

FAILURES, LATENCY, RATE, DRIFT = "failure-rate", "latency", "rate-change", "duration-shift"
SIGNATURE, ASSOCIATION = "new-signature", "association"
HOUR_S = 3_600
HOURLY_MAX = 60
OPEN_MAX = 10_000
ACKNOWLEDGED_MAX = 10_000
REOPENED = 3.0
GROWTH = 1.5
"""An open incident is told again when it has grown by this factor: a bound on noise."""
FDR = 0.01
VALUE_IS_SIZE = frozenset({RATE, DRIFT, ASSOCIATION})
"""Kinds whose value says how large they are; of the others, what was counted does."""


def publish(state: State, incident: Incident, step: Step) -> None:
    """Tell an incident as it is now, now or later or not at all, and remember it."""
    name = incident.incident
    known = state.open.get(name)
    if known is None and len(state.open) >= OPEN_MAX:
        return
    acknowledged = state.acknowledged.get(name)
    quiet = False
    if acknowledged is not None and acknowledged.since_s == incident.since_s:
        over = incident.status == "resolved"
        if over or size(incident) >= REOPENED * _size_acknowledged(acknowledged, incident):
            _forget(state, name, step)
        if over or name in state.acknowledged:
            quiet = not over and known is not None and bool(known.acknowledged_ms)
            incident = _with(incident, acknowledged)
        else:
            incident = _with(incident, None)
    _remember(state, incident, step)
    if not quiet:
        _tell_in_turn(state, incident, step)


def acknowledge(state: State, name: str, acknowledged: Acknowledgement | None, step: Step) -> None:
    """A person knows of an incident, or (None) takes that back."""
    if acknowledged is None:
        _forget(state, name, step)
    else:
        if len(state.acknowledged) >= ACKNOWLEDGED_MAX:
            _forget(
                state, min(state.acknowledged, key=lambda key: (state.acknowledged[key].acknowledged_ms, key)), step
            )
        state.acknowledged[name] = acknowledged
        step.changed[written.acknowledged_key(name)] = written.CODEC.encode(acknowledged)
    known = state.open.get(name)
    if known is None or (acknowledged is not None and acknowledged.since_s != known.since_s):
        return  # of an incident that is over, or one that is not there yet: it holds once that comes
    changed = _with(known, acknowledged)
    if changed != known:
        _remember(state, changed, step)
        _tell(state, changed, step)  # an answer to a person does not wait


def touch(state: State, incident: Incident, step: Step) -> None:
    """Remember an incident as it is now without telling it."""
    _remember(state, incident, step)


def release_held(state: State, now_s: int, step: Step) -> None:
    """Tell what has waited, once an hour is over."""
    if now_s // HOUR_S <= state.hour or not state.held:
        return
    for name in sorted(state.held, key=lambda held: (-state.open[held].severity, held)):
        if not _takes_turn(state, now_s):
            return
        _tell(state, state.open[name], step)


def size(incident: Incident) -> float:
    """How large an incident is, for telling whether it has grown."""
    return incident.seen if incident.kind in VALUE_IS_SIZE else float(incident.n)


def name_of(series: str, kind: str, family: str) -> str:
    """An incident's name: the same whenever and wherever it is found."""
    return hashlib.sha256(json.dumps([series, kind, family]).encode()).hexdigest()[:16]


def family(release: str) -> str:
    """What has releases: `pypi:numpy` of `pypi:numpy@2.4`."""
    return release.rpartition("@")[0]


def severity(seen: float, expected: float, least: float) -> float:
    """From 0 for what was expected to 1 for 32 times as much."""
    return min(1.0, max(0.0, math.log2(max(seen, 1e-9) / max(expected, least)) / 5))


def level(number: int, found: int) -> float:
    """e-LOND: the level of the number-th comparison after `found` discoveries; all together stay under `FDR`.

    With `found` kept at 0 the levels add up to less than `FDR`: then the chance that any comparison is false stays under it.
    """
    return FDR * (found + 1) * 0.4 / ((number + 1) * math.log(number + 2) ** 2)


def cloud_event(incident: Incident) -> tuple[tuple[str, bytes], ...]:
    """Headers of CloudEvents 1.0, Kafka binding in binary mode."""
    word, at = incident.status, str(incident.updated_s)
    if incident.acknowledged_ms and word != "resolved":
        word, at = "acknowledged", f"{at}.{incident.acknowledged_ms}"
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", f"aicache.incident.{word}".encode()),
        ("ce_source", f"aicache/{incident.deployment}/incidents".encode()),
        ("ce_id", f"{incident.incident}-{at}-{word}".encode()),
        ("ce_time", datetime.fromtimestamp(incident.updated_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
        ("ce_subject", incident.incident.encode()),
        ("ce_dataschema", b"aicache.Incident"),
        ("content-type", b"avro/binary"),
    )


# ---------------------------------------------------------------- telling in turn


def _tell_in_turn(state: State, incident: Incident, step: Step) -> None:
    name = incident.incident
    never_told = name in state.held and state.held[name]
    if incident.status == "resolved" and never_told:
        _drop_held(state, name, step)
    elif _takes_turn(state, incident.updated_s):
        _tell(state, incident, step)
    elif incident.status == "resolved":
        _tell(state, incident, step)  # there is at most one end for each beginning
    elif name not in state.held:
        state.held[name] = incident.status == "opened"
        step.changed[written.held_key(name)] = json.dumps(state.held[name]).encode()


def _takes_turn(state: State, now_s: int) -> bool:
    if now_s // HOUR_S > state.hour:
        state.hour, state.told = now_s // HOUR_S, 0
    if state.told >= HOURLY_MAX:
        return False
    state.told += 1
    return True


def _tell(state: State, incident: Incident, step: Step) -> None:
    if state.held.get(incident.incident) and incident.status == "growing":
        incident = replace(incident, status="opened")  # the first that anybody hears of it
        if incident.incident in state.open:
            _remember(state, incident, step)
    _drop_held(state, incident.incident, step)
    step.outputs.append(Output(topics.ANOMALIES.name, incident.incident.encode(), incident, cloud_event(incident)))


def _drop_held(state: State, name: str, step: Step) -> None:
    if state.held.pop(name, None) is not None:
        step.changed[written.held_key(name)] = None


def _remember(state: State, incident: Incident, step: Step) -> None:
    key = written.incident_key(incident.incident)
    if incident.status == "resolved":
        state.open.pop(incident.incident, None)
        step.changed[key] = None
    else:
        state.open[incident.incident] = incident
        step.changed[key] = written.incident_value(incident)


def _forget(state: State, name: str, step: Step) -> None:
    if state.acknowledged.pop(name, None) is not None:
        step.changed[written.acknowledged_key(name)] = None


def _with(incident: Incident, acknowledged: Acknowledgement | None) -> Incident:
    if acknowledged is None:
        return replace(incident, acknowledged_by="", acknowledged_ms=0, note="")
    who, when, note = acknowledged.who, acknowledged.acknowledged_ms, acknowledged.note
    return replace(incident, acknowledged_by=who, acknowledged_ms=when, note=note)


def _size_acknowledged(acknowledged: Acknowledgement, incident: Incident) -> float:
    return acknowledged.seen if incident.kind in VALUE_IS_SIZE else float(acknowledged.n)
