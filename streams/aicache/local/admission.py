"""Who is enrolled: requests of clients in, enrolments signed by the operator out.

Pure: records and keys in, records out; the time is an argument.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.statements import client_id
from aicache.schemas.records import Enrolment, JoinRequest
from aicache.schemas.signing import signed, verify_record

NO_SIGNATURE = bytes(64)
PREFIX_DIGITS_MIN = 6


@dataclass(frozen=True, slots=True)
class Waiting:
    """A client that asks to be enrolled and is not.

    Args:
        client: its id.
        public_key: Ed25519, 32 bytes.
        requested_ms: when it asked, by its own clock, Unix milliseconds.
    """

    client: bytes
    public_key: bytes
    requested_ms: int


def waiting(requests: Iterable[JoinRequest], enrolled: Mapping[bytes, Enrolment], deployment: str) -> list[Waiting]:
    """Who asked and was neither admitted nor revoked, in the order of asking; forged requests are left out.

    Args:
        requests: of the topic `joins`.
        enrolled: client → its newest enrolment.
        deployment: whose.
    """
    found: dict[bytes, Waiting] = {}
    for request in requests:
        client = client_id(request.public_key)
        if request.deployment != deployment or client in enrolled or client in found:
            continue
        try:
            verify_record(request, request.public_key)
        except RemoteError:
            continue
        found[client] = Waiting(client, request.public_key, request.requested_ms)
    return list(found.values())


def chosen(known: Iterable[bytes], words: Iterable[str]) -> list[bytes]:
    """The clients that are meant by the beginnings of their ids in hexadecimal.

    Raises:
        LocalError: a word is too short, or means no client or several.
    """
    clients = list(known)
    found = []
    for word in words:
        fitting = [client for client in clients if client.hex().startswith(word.lower())]
        if len(word) < PREFIX_DIGITS_MIN or len(fitting) != 1:
            raise LocalError(
                f"{word} means {len(fitting)} clients",
                got=word,
                needed=f"at least {PREFIX_DIGITS_MIN} digits of one client's id",
            )
        found.append(fitting[0])
    return found


def admit(client: Waiting, *, deployment: str, key: Ed25519PrivateKey, now_ms: int) -> Enrolment:
    """Enrol a client."""
    enrolment = Enrolment(deployment, client.client, client.public_key, now_ms, False, "", NO_SIGNATURE)
    return signed(enrolment, key)


def revoke(enrolment: Enrolment, *, reason: str, key: Ed25519PrivateKey) -> Enrolment:
    """Take an enrolment back; the client takes part in no round that opens later."""
    revoked = Enrolment(
        enrolment.deployment, enrolment.client, enrolment.public_key, enrolment.admitted_ms, True, reason, NO_SIGNATURE
    )
    return signed(revoked, key)
