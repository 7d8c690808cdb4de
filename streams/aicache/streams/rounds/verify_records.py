"""The control records of an exported round, sorted by kind: what the checks of `verify` look at. Pure."""

from dataclasses import dataclass, field
from typing import Any, cast

from aicache.privacy.errors import RemoteError
from aicache.schemas import topics
from aicache.schemas.codec import Codec, Decoded, SingleObject
from aicache.schemas.records import (
    Aggregate,
    Approval,
    CommitteeMember,
    Endorsement,
    Enrolment,
    Envelope,
    Manifest,
    Opening,
    Proposal,
    Record,
    RoundClosed,
    Task,
    Vote,
)
from aicache.streams.rounds.exported import Entry, RoundLog

CONTROL_RECORDS = tuple({kind for topic in topics.TOPICS if topic.name != "aicache.updates" for kind in topic.records})


@dataclass(slots=True)
class Found:
    """The records of a round, sorted by kind, and what the checks so far have established."""

    deployment: str
    round_id: str
    proposals: list[Decoded[Proposal]] = field(default_factory=list)
    committee: dict[bytes, list[CommitteeMember]] = field(default_factory=dict)
    enrolments: dict[bytes, list[tuple[int, int, Enrolment]]] = field(default_factory=dict)
    approvals: list[Approval] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    envelopes: dict[bytes, list[Envelope]] = field(default_factory=dict)
    endorsements: list[Endorsement] = field(default_factory=list)
    closings: list[RoundClosed] = field(default_factory=list)
    manifests: list[Decoded[Manifest]] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    aggregates: list[Aggregate] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    earlier: dict[str, Proposal] = field(default_factory=dict)
    """Other rounds, by name: a clip that adapts follows from one of them."""
    opened: dict[str, list[Aggregate]] = field(default_factory=dict)
    unreadable: int = 0


def sort_records(log: RoundLog) -> Found:
    """The control records by kind; those that cannot be decoded or are of other rounds are left out."""
    found = Found(log.deployment, log.round_id)
    codec = Codec(SingleObject())  # what was exported is in it, whatever wire form the topics have
    for entry in log.controls:
        try:
            decoded = codec.decode(entry.value, *CONTROL_RECORDS)
        except RemoteError:
            found.unreadable += 1
            continue
        if getattr(decoded.record, "round_id", log.round_id) == log.round_id:
            _sort(found, entry, decoded)
        elif isinstance(decoded.record, Proposal):
            found.earlier.setdefault(
                decoded.record.round_id, decoded.record
            )  # the first under a name is the one that counts
        elif isinstance(decoded.record, Aggregate):
            found.opened.setdefault(decoded.record.round_id, []).append(decoded.record)
    return found


def _sort(found: Found, entry: Entry, decoded: Decoded[Record]) -> None:
    match decoded.record:
        case Proposal():
            found.proposals.append(cast(Decoded[Proposal], decoded))
        case Manifest():
            found.manifests.append(cast(Decoded[Manifest], decoded))
        case CommitteeMember() as record:
            found.committee.setdefault(record.epoch_key_id, []).append(record)
        case Enrolment() as record:
            found.enrolments.setdefault(record.client, []).append((entry.partition, entry.offset, record))
        case Envelope() as record:
            found.envelopes.setdefault(record.sender, []).append(record)
        case record:
            for kind, rows in _plain_lists(found):
                if isinstance(record, kind):
                    rows.append(record)  # receipts are in none: they decide about liveness alone


def _plain_lists(found: Found) -> tuple[tuple[type, list[Any]], ...]:
    return (
        (Approval, found.approvals),
        (Vote, found.votes),
        (Endorsement, found.endorsements),
        (RoundClosed, found.closings),
        (Opening, found.openings),
        (Aggregate, found.aggregates),
        (Task, found.tasks),
    )
