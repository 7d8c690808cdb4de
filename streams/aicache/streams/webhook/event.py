"""An incident as the body of a request: CloudEvents 1.0 in JSON (structured mode), signed as Standard Webhooks 1.0 says.

The signature is HMAC-SHA256 over `id.timestamp.body`: whoever has the secret can tell that the body is ours and how old it is, and
finds repetitions by the id, which is that of the record in the log. Pure.
"""

import base64
import binascii
import dataclasses
import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from typing import Any

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas.records import Incident

WRITTEN_AS = "whsec_"
SECRET_BYTES_MIN = 24
CONTENT_TYPE = "application/cloudevents+json"
ATTRIBUTES = ("specversion", "id", "source", "type", "time", "subject")


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """What is sent: its id, and the body."""

    id: str
    body: bytes


def secret_of(text: str) -> bytes:
    """The bytes of a secret as it is written down: base64, with or without `whsec_` before it.

    Raises:
        LocalError: it is none, or too short to be one.
    """
    try:
        secret = base64.b64decode(text.removeprefix(WRITTEN_AS), validate=True)
    except binascii.Error:
        raise LocalError("a webhook's secret is base64", got="another form", needed="whsec_ and base64") from None
    if len(secret) < SECRET_BYTES_MIN:
        raise LocalError("a webhook's secret is too short", got=len(secret), needed=f"≥ {SECRET_BYTES_MIN} bytes")
    return secret


def event_of(headers: Mapping[str, bytes], incident: Incident) -> Event:
    """The event of a record.

    Args:
        headers: of the record: the attributes of CloudEvents, with `ce_` before them.
        incident: its value.

    Raises:
        RemoteError: `no-event`: an attribute is missing.
    """
    missing = [name for name in ATTRIBUTES if not headers.get(f"ce_{name}")]
    if missing:
        raise RemoteError("a record is no event", reason="no-event", got=missing, needed=ATTRIBUTES)
    event: dict[str, Any] = {name: headers[f"ce_{name}"].decode("utf-8", "replace") for name in ATTRIBUTES}
    event |= {"datacontenttype": "application/json", "data": _data(incident)}
    return Event(event["id"], json.dumps(event, ensure_ascii=False, allow_nan=False).encode())


def signed_headers(event: Event, secret: bytes, now_s: int) -> dict[str, str]:
    """The headers of a request."""
    message = f"{event.id}.{now_s}.".encode() + event.body
    signature = base64.b64encode(hmac.digest(secret, message, hashlib.sha256)).decode()
    return {
        "content-type": CONTENT_TYPE,
        "webhook-id": event.id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": f"v1,{signature}",
    }


def _data(incident: Incident) -> dict[str, Any]:
    """An incident in JSON; of its guarantee, what people read. JSON has no infinity: null."""
    fields = dataclasses.asdict(incident)
    if incident.guarantee is not None:
        del fields["guarantee"]["rdp"]
        fields["guarantee"] = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in fields["guarantee"].items()
        }
    return fields
