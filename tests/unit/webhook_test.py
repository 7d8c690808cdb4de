"""Requests of the webhook: signed CloudEvents, bounded retries against a real HTTP server, nothing of secrets in errors."""

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas.records import Guarantee, Incident
from aicache.streams.anomalies.announcing import cloud_event
from aicache.streams.webhook import sending
from aicache.streams.webhook.event import event_of, secret_of, signed_headers
from aicache.streams.webhook.sending import Sender, Sent
from support.listener import Listener

SECRET = bytes(range(32))
GUARANTEE = Guarantee(
    "discrete-gaussian-sum", "committee", "client", "add-or-remove", "round", 1.0, 1e-6, 64.0, 300.0, 2, []
)


def incident(**fields: Any) -> Incident:
    where = ("op:build", "pypi:tool@1.1", ["pypi:tool@1.1"])
    seen = (0.2, 0.02, "share of uses", 0.5, 0.99, "It fails.")
    made = Incident("test", "a" * 16, "opened", "failure-rate", *where, 1_700_000_000, 1_700_000_060, *seen, 9, None)
    return replace(made, **fields)


def event(**fields: Any) -> Any:
    made = incident(**fields)
    return event_of(dict(cloud_event(made)), made)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as found:
        yield found


def sender(listener: Listener, pauses: list[float] | None = None, path: str = "/") -> Sender:
    return Sender(
        listener.url + path, SECRET, pause=(pauses if pauses is not None else []).append, clock=lambda: 1_700_000_100
    )


def test_a_body_is_a_cloudevent_that_json_can_read() -> None:
    body = json.loads(event(guarantee=replace(GUARANTEE, epsilon=math.inf, rdp=[math.inf])).body)
    assert body["specversion"] == "1.0"
    assert body["type"] == "aicache.incident.opened"
    assert body["source"] == "aicache/test/incidents"
    assert body["time"] == "2023-11-14T22:14:20Z"
    assert body["data"]["explanation"] == "It fails."
    assert body["data"]["guarantee"]["epsilon"] is None
    assert "rdp" not in body["data"]["guarantee"]


def test_a_record_without_the_headers_of_an_event_is_none() -> None:
    with pytest.raises(RemoteError) as refused:
        event_of({"ce_id": b"x"}, incident())
    assert refused.value.reason == "no-event"


def test_whoever_has_the_secret_can_check_the_signature() -> None:
    headers = signed_headers(event(), SECRET, 1_700_000_100)
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + event().body
    expected = base64.b64encode(hmac.digest(SECRET, message, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    other = signed_headers(event(n=10), SECRET, 1_700_000_100)
    assert other["webhook-signature"] != headers["webhook-signature"]


def test_secrets_are_base64_and_long_enough() -> None:
    text = base64.b64encode(SECRET).decode()
    assert secret_of(text) == secret_of("whsec_" + text) == SECRET
    for bad in ("", "whsec_", "not base64!", base64.b64encode(b"short").decode()):
        with pytest.raises(LocalError) as refused:
            secret_of(bad)
        assert not bad or bad not in str(refused.value)


def test_an_event_arrives_once_with_its_id_and_signature(listener: Listener) -> None:
    with sender(listener) as one:
        assert one.send(event()) == Sent(True, 1, "204")
    (request,) = listener.requests
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["webhook-id"] == json.loads(request.body)["id"]
    signed = signed_headers(event(), SECRET, 1_700_000_100)
    assert request.headers["webhook-signature"] == signed["webhook-signature"]


def test_what_may_pass_is_tried_again_with_longer_and_longer_pauses_but_not_for_ever(listener: Listener) -> None:
    pauses: list[float] = []
    listener.answers = [503, 429, 500, 204]
    with sender(listener, pauses) as one:
        assert one.send(event()) == Sent(True, 4, "204")
        assert pauses == [0.5, 1.0, 2.0]
        assert len({request.headers["webhook-id"] for request in listener.requests}) == 1
        listener.answers = [503] * 99
        assert one.send(event()) == Sent(False, sending.ATTEMPTS_MAX, "refused-503")
    assert len(listener.requests) == 4 + sending.ATTEMPTS_MAX
    assert max(pauses) <= sending.PAUSE_MAX_S


@pytest.mark.parametrize("code", [400, 401, 404, 410, 301])
def test_what_will_not_pass_is_a_dead_end_at_once_and_redirections_are_not_followed(
    listener: Listener, code: int
) -> None:
    listener.answers = [code]
    with sender(listener) as one:
        assert one.send(event()) == Sent(False, 1, f"refused-{code}")
    assert len(listener.requests) == 1


def test_a_pause_that_the_answer_asks_for_is_kept_up_to_a_bound(listener: Listener) -> None:
    pauses: list[float] = []
    listener.retry_after = ["7", "999999", "Wed, 21 Oct 2015 07:28:00 GMT"]
    listener.answers = [429, 429, 429, 204]
    with sender(listener, pauses) as one:
        assert one.send(event()) == Sent(True, 4, "204")
    assert pauses == [7.0, sending.PAUSE_MAX_S, 2.0]


def test_nobody_there_and_nobody_answering_are_unreachable(monkeypatch: pytest.MonkeyPatch, listener: Listener) -> None:
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(sending, "ATTEMPTS_MAX", 2)
    listener.silent = True
    with sender(listener) as one:
        assert one.send(event()) == Sent(False, 2, "unreachable")
    listener.close()
    with sender(listener) as one:
        assert one.send(event()) == Sent(False, 2, "unreachable")


def test_an_answer_is_not_read_however_large_it_is(listener: Listener) -> None:
    listener.body_bytes = 1 << 30
    with sender(listener) as one:
        assert one.send(event()) == Sent(True, 1, "200")


def test_who_is_told_to_stop_does_not_know_whether_it_arrived(listener: Listener) -> None:
    listener.answers = [503]
    with sender(listener) as one:
        assert one.send(event(), lambda: True) is None


@pytest.mark.parametrize("url", ["ftp://host/x", "http://", "no url", "https:///secret-path"])
def test_an_address_that_is_none_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(LocalError) as refused:
        Sender(url, SECRET)
    assert url not in str(refused.value)
    assert "secret-path" not in f"{refused.value} {refused.value.got}"
