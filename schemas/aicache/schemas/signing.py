"""What the signature of each record covers, in one place for those who sign and those who check.

Every signed record has a function here that lays its fields out in the order of its schema; header fields (deployment, task,
round, rho, epoch key) stand in the statement's own header. Changing a layout makes old signatures worthless.
Pure: no clock, no entropy, no I/O.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy.statements import DIGEST_BYTES, NO_EPOCH_KEY, Field, digest, sign, statement, verify
from aicache.schemas.records import (
    Approval,
    CommitteeMember,
    Endorsement,
    Enrolment,
    Envelope,
    JoinRequest,
    Opening,
    Vote,
)

Signed: TypeAlias = Approval | CommitteeMember | Endorsement | Enrolment | Envelope | JoinRequest | Opening | Vote
OfRound: TypeAlias = Approval | Endorsement | Envelope | Opening | Vote
S = TypeVar("S", bound=Signed)

NO_RHO = bytes(DIGEST_BYTES)


def _approval(record: Approval) -> tuple[Field, ...]:
    return (record.member, record.nonce_commitment)


def _vote(record: Vote) -> tuple[Field, ...]:
    return (record.member, record.manifest_digest)


def _opening(record: Opening) -> tuple[Field, ...]:
    return (record.manifest_digest, record.member, record.group, digest("shares", record.shares))


def _endorsement(record: Endorsement) -> tuple[Field, ...]:
    entries = digest("entries", *(part for entry in record.entries for part in (entry.sender, entry.digest)))
    return (record.member, record.sequence, int(record.last), record.nonce, entries)


def _envelope(record: Envelope) -> tuple[Field, ...]:
    place = (record.place.partition, *record.place.offsets)
    sealed = digest("sealed", *record.sealed)
    return (record.sender, record.member, record.group, record.model_version, record.digest, *place, sealed)


def _member(record: CommitteeMember) -> tuple[Field, ...]:
    keys = (record.mlkem_key, record.x25519_key)
    return (
        record.member,
        record.identity_key,
        record.epoch,
        *keys,
        record.valid_from_ms,
        record.valid_until_ms,
        int(record.retired),
    )


def _join(record: JoinRequest) -> tuple[Field, ...]:
    return (record.public_key, record.requested_ms)


def _enrolment(record: Enrolment) -> tuple[Field, ...]:
    return (record.client, record.public_key, record.admitted_ms, int(record.revoked), record.reason)


_FIELDS: dict[type, Callable[..., tuple[Field, ...]]] = {
    Approval: _approval,
    CommitteeMember: _member,
    Endorsement: _endorsement,
    Enrolment: _enrolment,
    Envelope: _envelope,
    JoinRequest: _join,
    Opening: _opening,
    Vote: _vote,
}


def statement_of(record: Signed) -> bytes:
    """The bytes that the record's signature covers."""
    task, round_id, rho, epoch_key_id = "", "", NO_RHO, NO_EPOCH_KEY
    if isinstance(record, OfRound):
        task, round_id, rho, epoch_key_id = record.task, record.round_id, record.rho, record.epoch_key_id
    elif isinstance(record, CommitteeMember):
        epoch_key_id = record.epoch_key_id
    return statement(
        type(record).__name__,
        deployment=record.deployment,
        task=task,
        round_id=round_id,
        rho=rho,
        epoch_key_id=epoch_key_id,
        fields=_FIELDS[type(record)](record),
    )


def signed(record: S, key: Ed25519PrivateKey) -> S:
    """The record with its signature; what stood in the field before does not matter."""
    return replace(record, signature=sign(key, statement_of(record)))


def verify_record(record: Signed, public_key: bytes) -> None:
    """Check a record's signature.

    Raises:
        RemoteError: `bad-signature`.
    """
    verify(public_key, statement_of(record), record.signature)
