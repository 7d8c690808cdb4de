"""What a verifier finds beyond the kept vectors: each fault that their maker knows; and files that hold no round."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from aicache.privacy.errors import LocalError, RemoteError
from aicache.streams.rounds import exported
from aicache.streams.rounds.exported import Entry, in_memory, read, write
from aicache.streams.rounds.verify import verify_round
from support.rounds import DEPLOYMENT

MAKER = Path(__file__).parents[1] / "vectors" / "make_round_vectors.py"


def maker_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_round_vectors", MAKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return maker_module()


@pytest.fixture(scope="module")
def played(maker: ModuleType):
    return maker.play()


def entries(maker: ModuleType, rows) -> list[Entry]:
    return [Entry(topic, 0, offset, maker.CODEC.encode(record)) for topic, offset, record in rows]


def test_each_fault_is_found_by_its_check_and_nothing_unrelated_is_blamed(maker: ModuleType, played) -> None:
    play, rows = played
    keys = {
        "operator_key": play.world.operator.public_key().public_bytes_raw(),
        "identities": {number: member.core.identity for number, member in play.world.committee.items()},
    }
    assert all(check.ok for check in verify_round(in_memory(DEPLOYMENT, "tags-1", entries(maker, rows)), **keys))
    for name, (bad, check, reason) in maker.bad_ones(play, rows).items():
        checks = verify_round(in_memory(DEPLOYMENT, "tags-1", entries(maker, bad)), **keys)
        failed = {c.name: c.detail.split(":")[0] for c in checks if not c.ok}
        assert failed.get(check) == reason, (name, failed)


def test_an_older_aggregate_that_does_not_tell_its_noise_is_as_valid_as_before(maker: ModuleType, played) -> None:
    silent = maker.changed(played[1], maker.Aggregate, lambda record: maker.replace(record, sigma=0.0))
    assert silent != played[1]
    assert all(check.ok for check in verify_round(in_memory(DEPLOYMENT, "tags-1", entries(maker, silent))))


def test_what_others_write_into_the_topics_changes_nothing(maker: ModuleType, played) -> None:
    """Forged votes, openings and envelopes stand beside the real ones in the log."""
    _, rows = played
    noise = [
        (t, o + 100, r) for t, o, r in rows if t.split(".")[-1] in {"votes", "openings", "envelopes", "endorsements"}
    ]
    forged = [(t, o, maker.replace(r, signature=bytes(64))) for t, o, r in noise if hasattr(r, "signature")]
    found = [*entries(maker, [*forged, *rows]), Entry("aicache.votes", 0, 500, b"\xc3\x01garbage")]
    assert all(check.ok for check in verify_round(in_memory(DEPLOYMENT, "tags-1", found)))


def test_an_exported_round_comes_back_as_it_was(maker: ModuleType, played, tmp_path: Path) -> None:
    log = in_memory(DEPLOYMENT, "tags-1", entries(maker, played[1]))
    path = tmp_path / "round.jsonl"
    count = write(path, log)
    back = read(path)
    assert back.controls == log.controls
    assert list(back.chunks()) == list(log.chunks())
    assert count == len(log.controls) + len(list(log.chunks()))
    assert (back.deployment, back.round_id) == (DEPLOYMENT, "tags-1")


HEADER = '{"format": "aicache-round/1", "deployment": "d", "round": "r"}\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON\n",
        "[" * 100_000 + "\n",
        '{"format": "aicache-round/9"}\n',
        '{"format": "aicache-round/1", "deployment": 1, "round": "r"}\n',
        HEADER + "[]\n",
        HEADER + '{"topic": "aicache.votes", "partition": 0, "offset": true, "value": ""}\n',
        HEADER + '{"topic": "aicache.votes", "partition": 0, "offset": 1, "value": "%%%"}\n',
        HEADER + '{"topic": "aicache.votes", "partition": 0, "offset": 1}\n',
    ],
)
def test_a_file_that_is_no_exported_round_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(RemoteError) as caught:
        read(path)
    assert caught.value.reason == "bad-export"


def test_a_line_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "LINE_BYTES_MAX", 1_000)
    path = tmp_path / "long.jsonl"
    path.write_text(HEADER + "x" * 5_000)
    with pytest.raises(RemoteError, match="too long"):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="nowhere"):
        read(tmp_path / "nowhere.jsonl")
