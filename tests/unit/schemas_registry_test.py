"""Confluent framing over a registry that is played in memory: ids are asked for once, and only our schemas are decoded."""

import json
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import codec
from aicache.schemas.catalog import RECORD_TYPES, newest
from aicache.schemas.codec import Codec
from aicache.schemas.records import RoundClosed, Vote
from aicache.schemas.registry import UNKNOWN_IDS_MAX, ConfluentFraming, Registry, ours, register_all
from support.sample_records import samples

URL = "http://registry.test/apis/ccompat/v7"
RECORD = samples()["RoundClosed"]


class Played:
    """A registry: what it holds, and every request that it got."""

    def __init__(self) -> None:
        self.schemas: list[tuple[str, str]] = []
        self.level = "NONE"
        self.requests: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/apis/ccompat/v7")
        self.requests.append(f"{request.method} {path}")
        body: dict[str, Any] = json.loads(request.content or b"{}")
        if path == "/config":
            self.level = body.get("compatibility", self.level)
            return httpx.Response(200, json={"compatibilityLevel": self.level, "compatibility": self.level})
        if path.startswith("/schemas/ids/"):
            number = int(path.rpartition("/")[2])
            if not 1 <= number <= len(self.schemas):
                return httpx.Response(404, json={"error_code": 40403})
            return httpx.Response(200, json={"schema": self.schemas[number - 1][1]})
        entry = (path.split("/")[2], body["schema"])
        if entry not in self.schemas:
            if not path.endswith("/versions"):
                return httpx.Response(404, json={"error_code": 40403})
            self.schemas.append(entry)
        return httpx.Response(200, json={"id": self.schemas.index(entry) + 1})


@pytest.fixture
def played() -> Played:
    return Played()


def registry(answer: Callable[[httpx.Request], httpx.Response]) -> Registry:
    made = Registry(URL)
    made.close()
    made._http = httpx.Client(transport=httpx.MockTransport(answer))
    return made


def test_what_is_written_is_read_and_only_known_ids_are_needed(played: Played) -> None:
    register_all(registry(played.answer))
    framing = ConfluentFraming(registry(played.answer))
    framing.check()
    asked = len(played.requests)
    wire = Codec(framing)
    for name, record in samples().items():
        data = wire.encode(record)
        assert data[:1] == b"\x00"
        assert wire.decode(data, RECORD_TYPES[name]).record == record
        assert data[5:] == Codec().encode(record)[10:], "the digest is over the same body in both wire forms"
    assert len(played.requests) == asked


def test_an_id_is_asked_for_once(played: Played) -> None:
    register_all(registry(played.answer))
    data = Codec(ConfluentFraming(registry(played.answer))).encode(RECORD)
    reader = Codec(ConfluentFraming(registry(played.answer)))
    played.requests.clear()
    for _ in range(3):
        assert reader.decode(data, RoundClosed).record == RECORD
    for _ in range(3):
        with pytest.raises(RemoteError):
            reader.decode(b"\x00\x7f\xff\xff\xff" + data[5:], RoundClosed)
    assert len(played.requests) == 2


def test_an_unknown_id_is_refused(played: Played) -> None:
    with pytest.raises(RemoteError) as caught:
        Codec(ConfluentFraming(registry(played.answer))).decode(b"\x00\x00\x00\x00\x09body", RoundClosed)
    assert caught.value.reason == "unknown-schema"


def test_a_registered_schema_that_is_not_ours_is_refused(played: Played) -> None:
    other = {"type": "record", "name": "aicache.RoundClosed", "fields": [{"name": "x", "type": "bytes"}]}
    played.schemas = [("aicache.RoundClosed", json.dumps(other)), ("x", "no schema"), ("x", "[" * 100_000)]
    for number in (1, 2, 3):
        with pytest.raises(RemoteError) as caught:
            Codec(ConfluentFraming(registry(played.answer))).decode(b"\x00\x00\x00\x00" + bytes([number]), RoundClosed)
        assert caught.value.reason == "unknown-schema"


def test_a_schema_is_ours_by_its_canonical_form() -> None:
    source = {**newest("Vote").source, "doc": "other words"}
    assert ours(json.dumps(source, indent=7)) is newest("Vote")


def test_ids_asked_for_in_vain_are_remembered_up_to_a_bound(played: Played) -> None:
    framing = ConfluentFraming(registry(played.answer))
    for number in range(1, UNKNOWN_IDS_MAX + 10):
        framing._remember(number, None)
    assert len(framing._schemas) == UNKNOWN_IDS_MAX


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00\x00\x00", b"\xc3\x01" + bytes(20)])
def test_what_is_not_confluent_framing_is_refused(played: Played, data: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        Codec(ConfluentFraming(registry(played.answer))).decode(data, Vote)
    assert caught.value.reason == "bad-framing"
    assert played.requests == []


def test_a_producer_never_registers(played: Played) -> None:
    with pytest.raises(LocalError, match="aicache topics create"):
        Codec(ConfluentFraming(registry(played.answer))).encode(RECORD)
    assert played.schemas == []


def test_a_registry_that_does_not_guard_compatibility_is_refused_at_start(played: Played) -> None:
    register_all(registry(played.answer))
    played.level = "BACKWARD"
    with pytest.raises(LocalError, match="FULL_TRANSITIVE"):
        ConfluentFraming(registry(played.answer)).check()


@pytest.mark.parametrize("status", [401, 409, 500, 503])
def test_a_registry_that_fails_is_our_error_and_not_the_records(status: int) -> None:
    framing = ConfluentFraming(registry(lambda _: httpx.Response(status, json={})))
    with pytest.raises(LocalError, match=f"registry.test.*{status}"):
        framing.split(b"\x00\x00\x00\x00\x01")


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[])])
def test_what_is_no_registry_is_named(answer: httpx.Response) -> None:
    with pytest.raises(LocalError, match="registry"):
        registry(lambda _: answer).level()


def test_a_registry_that_is_away_is_named() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(LocalError, match=r"registry\.test.*connection refused"):
        ConfluentFraming(registry(away)).check()


def test_without_httpx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(LocalError, match=r"aicache\[registry\]"):
        Registry(URL)


def test_a_url_without_a_scheme_is_refused() -> None:
    with pytest.raises(LocalError, match="http"):
        Registry("localhost:8081")


def test_the_wire_form_of_a_process_is_that_of_codecs_without_one(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "_process_framing", codec.SingleObject())
    assert Codec().encode(RECORD)[:2] == b"\xc3\x01"
    register_all(registry(played.answer))
    codec.use_framing(ConfluentFraming(registry(played.answer)))
    assert Codec().encode(RECORD)[:1] == b"\x00"
    assert Codec(codec.SingleObject()).encode(RECORD)[:2] == b"\xc3\x01"
