"""What a signature says, byte for byte, and the digests that bind a round together.

A statement is a fixed domain label followed by length-prefixed fields, so that two different statements never have the same
bytes. Every statement names the record type, the deployment, the task, the round, the round's digest rho and the signer's
epoch key; what is specific to the record follows. Digests of records are taken over the Avro body exactly as it stands in the
log, together with the writer schema's fingerprint, so that nobody ever has to encode a record again to check it.
Pure: no clock, no I/O; signing with Ed25519 (RFC 8032) is deterministic.
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from aicache.privacy.errors import LocalError, RemoteError

DIGEST_BYTES = 32
SIGNATURE_BYTES = 64
NO_EPOCH_KEY = bytes(DIGEST_BYTES)
"""Stands in the epoch-key field of statements that are not a committee member's."""

_LABEL = b"aicache/statement/1"

Field = bytes | str | int


def _encode(field: Field) -> bytes:
    if isinstance(field, int):
        body = field.to_bytes(8, "big", signed=True)
    elif isinstance(field, str):
        body = field.encode()
    else:
        body = field
    return len(body).to_bytes(4, "big") + body


def digest(label: str, *fields: Field) -> bytes:
    """SHA-256 over a domain label and length-prefixed fields.

    Args:
        label: what is digested, for example `manifest`; different labels never collide.
        fields: bytes, text (UTF-8) or integers (8 bytes, big-endian, signed).

    Returns:
        32 bytes.
    """
    return hashlib.sha256(_encode(f"aicache/{label}") + b"".join(map(_encode, fields))).digest()


def record_digest(label: str, fingerprint: bytes, body: bytes) -> bytes:
    """The digest of a record as it stands in the log: rho of a `proposal`, or the digest of a `manifest`.

    Args:
        label: `proposal` or `manifest`.
        fingerprint: CRC-64-AVRO fingerprint of the writer's schema, 8 bytes.
        body: the Avro binary body, without any wire header.
    """
    return digest(label, fingerprint, body)


def client_id(public_key: bytes) -> bytes:
    """The name of a client: the digest of its Ed25519 public key (32 raw bytes)."""
    return digest("client", public_key)


def member_sender_id(identity_key: bytes, group: int) -> bytes:
    """The name under which a committee member sends its noise vector for a group."""
    return digest("member", identity_key, group)


def share_info(rho: bytes, member: int, sender: bytes) -> bytes:
    """What a sealed share is bound to: the round, the member that may open it, and who sealed it."""
    return digest("share", rho, member, sender)


def ciphertext_digest(rho: bytes, sender: bytes, ciphertext: bytes) -> bytes:
    """H(rho ‖ sender ‖ c): names its sender and its round, so that a copied ciphertext is worth nothing under another name."""
    prefix = _encode("aicache/ciphertext") + _encode(rho) + _encode(sender)
    hasher = hashlib.sha256(prefix)
    hasher.update(ciphertext)
    return hasher.digest()


def statement(
    record: str,
    *,
    deployment: str,
    task: str,
    round_id: str,
    rho: bytes,
    epoch_key_id: bytes,
    fields: tuple[Field, ...],
) -> bytes:
    """The bytes that a signature covers.

    Args:
        record: the record's type, for example `Vote`.
        deployment: the deployment's name.
        task: the task's name; empty where the record belongs to no task.
        round_id: the round's name; empty where the record belongs to no round.
        rho: the round's digest, 32 bytes; zeros where there is none.
        epoch_key_id: the signer's epoch key, 32 bytes; `NO_EPOCH_KEY` for clients and the operator.
        fields: all that is specific to the record, in the order of its schema.
    """
    return _LABEL + b"".join(map(_encode, (record, deployment, task, round_id, rho, epoch_key_id, *fields)))


def sign(key: Ed25519PrivateKey, message: bytes) -> bytes:
    """Sign a statement (64 bytes)."""
    if not message.startswith(_LABEL):
        raise LocalError("only statements are signed", got=message[:20], needed=_LABEL)
    return key.sign(message)


def verify(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature over a statement.

    Raises:
        RemoteError: `bad-signature`, also when key or signature have the wrong size.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise RemoteError("the signature does not verify", reason="bad-signature") from None
