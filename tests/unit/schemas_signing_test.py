"""A signature covers every field of its record: whatever is changed, it no longer verifies."""

from dataclasses import fields, is_dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy.errors import RemoteError
from aicache.schemas.records import (
    Approval,
    CommitteeMember,
    Endorsed,
    Endorsement,
    Enrolment,
    Envelope,
    JoinRequest,
    Opening,
    Place,
    Vote,
)
from aicache.schemas.signing import Signed, signed, statement_of, verify_record

A, B = bytes(32), bytes([1]) * 32
KEY = Ed25519PrivateKey.from_private_bytes(A)
PUBLIC = KEY.public_key().public_bytes_raw()
RECORDS: list[Signed] = [
    Approval("d", "t", "r", A, 1, A, A, b""),
    Vote("d", "t", "r", A, 1, A, A, b""),
    Opening("d", "t", "r", A, A, 1, A, 0, b"shares", b""),
    Endorsement("d", "t", "r", A, 1, A, 0, [Endorsed(A, B), Endorsed(B, A)], True, A, b""),
    Envelope("d", "t", "r", A, A, 0, A, -1, -1, A, Place(0, [1, 2]), [b"one", b"two"], b""),
    CommitteeMember("d", 1, A, 1, A, b"mlkem", b"x25519", 1, 2, False, b""),
    JoinRequest("d", A, 1, b""),
    Enrolment("d", A, B, 1, False, "why", b""),
]


def others(value: object) -> list[object]:
    """Values that differ from this one in every way that its type allows."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, str):
        return [value + "x", ""]
    if isinstance(value, bytes):
        return [value + b"x", bytes(255 - byte for byte in value)]
    if isinstance(value, list):
        return [value[:1], value[::-1], [*value, value[0]], []]
    assert is_dataclass(value)
    assert not isinstance(value, type)
    return [replace(value, **{entry.name: v}) for entry in fields(value) for v in others(getattr(value, entry.name))]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_whatever_is_changed_the_signature_fails(record: Signed) -> None:
    good = signed(record, KEY)
    verify_record(good, PUBLIC)
    for entry in fields(record):
        for value in others(getattr(good, entry.name)):
            with pytest.raises(RemoteError, match="does not verify"):
                verify_record(replace(good, **{entry.name: value}), PUBLIC)


def test_records_of_two_types_never_say_the_same() -> None:
    statements = {statement_of(record) for record in RECORDS}
    assert len(statements) == len(RECORDS)
    approval, vote = RECORDS[:2]
    with pytest.raises(RemoteError):
        verify_record(replace(vote, signature=signed(approval, KEY).signature), PUBLIC)


def test_entries_cannot_be_regrouped() -> None:
    first = Endorsement("d", "t", "r", A, 1, A, 0, [Endorsed(b"ab", b"c")], False, b"", b"")
    second = replace(first, entries=[Endorsed(b"a", b"bc")])
    assert statement_of(first) != statement_of(second)
