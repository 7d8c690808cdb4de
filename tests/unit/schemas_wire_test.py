"""A record is the same in either wire form, and what leaves Kafka is in the one that needs no registry."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aicache.privacy.errors import RemoteError
from aicache.schemas import codec as codec_module
from aicache.schemas.catalog import RECORD_TYPES, Schema, by_fingerprint, newest
from aicache.schemas.codec import Codec, SingleObject, use_framing
from aicache.streams.rounds import exported
from aicache.streams.rounds.verify import verify_round
from support.sample_records import samples

ROUND = Path(__file__).parents[1] / "vectors" / "round-good.jsonl"


class Numbered:
    """A wire form as a registry's: a byte, and the place of the schema in the catalog."""

    def header(self, schema: Schema) -> bytes:
        return b"\x00" + bytes([list(by_fingerprint()).index(schema.fingerprint)])

    def split(self, data: bytes) -> tuple[Schema, int]:
        if data[:1] != b"\x00" or data[1] >= len(by_fingerprint()):
            raise RemoteError("not numbered", reason="bad-framing")
        return list(by_fingerprint().values())[data[1]], 2


@pytest.fixture
def numbered() -> Iterator[Codec]:
    """The process has another wire form."""
    before = codec_module._process_framing
    use_framing(Numbered())
    yield Codec()
    use_framing(before)


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_a_record_goes_over_to_single_object_encoding_and_back(name: str, numbered: Codec) -> None:
    standard = Codec(SingleObject())
    record = samples()[name]
    data = numbered.encode(record)
    assert data[:1] == b"\x00"
    assert numbered.standard(data) == standard.encode(record) == standard.standard(standard.encode(record))
    assert numbered.framed(standard.encode(record)) == data


def test_digest_and_body_do_not_depend_on_the_wire_form(numbered: Codec) -> None:
    record = samples()["Proposal"]
    kind = RECORD_TYPES["Proposal"]
    assert numbered.decode(numbered.encode(record), kind) == Codec(SingleObject()).decode(
        Codec(SingleObject()).encode(record), kind
    )


def test_what_is_in_neither_form_cannot_go_over(numbered: Codec) -> None:
    with pytest.raises(RemoteError):
        numbered.standard(b"\x07nothing")
    with pytest.raises(RemoteError):
        numbered.framed(newest("Vote").fingerprint)


def test_an_exported_round_is_checked_whatever_the_wire_form_of_the_process(numbered: Codec) -> None:
    """Who checks a file has no registry, and does not need the operator's."""
    assert all(check.ok for check in verify_round(exported.read(ROUND)))
