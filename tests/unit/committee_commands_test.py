"""What the commands of a member do to its folder."""

import stat
from pathlib import Path

import pytest

from aicache.cli.app import run
from aicache.cli.frame import OK, USAGE
from aicache.privacy.errors import LocalError
from aicache.streams.committee import commands
from aicache.streams.committee.limits import Limits
from aicache.streams.committee.store import FILE, Lock, Store

KEY = bytes(range(32))


def made(folder: Path, number: int = 1, **more) -> dict:
    return commands.init(folder, number, deployment="test", operator_key=KEY, **more)


def test_init_makes_a_member_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "member-1"
    who = made(folder)
    assert who["member"] == 1
    assert who["epoch"] == 1
    assert len(bytes.fromhex(who["identity"])) == len(bytes.fromhex(who["epoch_key_id"])) == 32
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(LocalError, match="exists already"):
        made(folder)
    assert commands.status(folder)["identity"] == who["identity"]


def test_init_refuses_numbers_and_keys_that_cannot_be_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for number in (0, 65):
        with pytest.raises(LocalError, match="1 … 64"):
            made(tmp_path / "a", number)
    with pytest.raises(LocalError, match="32 bytes"):
        commands.init(tmp_path / "a", 1, deployment="test", operator_key=b"short")
    with pytest.raises(AttributeError):
        made(tmp_path / "b", pins={1: "not bytes"})
    assert not (tmp_path / "b" / FILE).exists()
    made(tmp_path / "b")


def test_status_tells_how_a_member_stands_without_starting_it(tmp_path: Path) -> None:
    made(tmp_path, limits=Limits(n_min=77))
    status = commands.status(tmp_path)
    assert not status["running"]
    assert status["rounds_open"] == status["refusals"] == []
    assert status["to_publish"] == 1, "the epoch key is announced at the first start"
    assert not status["needs_ledgers"]
    assert Limits.load(tmp_path).n_min == 77
    with pytest.raises(LocalError, match="is missing"):
        commands.status(tmp_path / "nothing")


def test_one_process_holds_a_folder_and_others_are_told_which(tmp_path: Path) -> None:
    made(tmp_path)
    lock = Lock(tmp_path)
    assert commands.status(tmp_path)["running"]
    with pytest.raises(LocalError, match="pid"):
        Lock(tmp_path)
    assert commands.rotate(tmp_path) == {"requested": True}
    with pytest.raises(LocalError, match="another process"):
        commands.rotate(tmp_path, after_loss=True)
    lock.release()
    Lock(tmp_path).release()


def test_rotate_makes_the_next_key_and_erases_the_last(tmp_path: Path) -> None:
    first = made(tmp_path)
    second = commands.rotate(tmp_path)
    assert second["epoch"] == 2
    assert second["identity"] == first["identity"]
    assert second["epoch_key_id"] != first["epoch_key_id"]
    third = commands.rotate(tmp_path, after_loss=True)
    assert third["epoch"] > 3, "numbers that the copy may not know of are left out"
    assert commands.status(tmp_path)["needs_ledgers"]


def test_a_retired_member_has_no_key_and_says_so(tmp_path: Path) -> None:
    made(tmp_path)
    assert commands.retire(tmp_path)["retired"]
    status = commands.status(tmp_path)
    assert status["retired"]
    assert status["to_publish"] == 2
    with pytest.raises(LocalError, match="no epoch key"):
        commands.retire(tmp_path)
    store = Store(tmp_path / FILE)
    assert store.one("SELECT count(*) FROM epochs WHERE secret IS NOT NULL")[0] == 0
    store.close()


def test_retiring_on_the_command_line_asks_first_and_cannot_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path)
    words = ["committee", "retire", "--member", "1", "--folder", str(tmp_path), "--json"]
    assert run(words) == USAGE
    assert "retired" not in commands.status(tmp_path)
    assert run([*words, "--yes"]) == OK
    assert '"retired": true' in capsys.readouterr().out
    assert run([*words, "--yes"]) == USAGE


def test_ledgers_go_from_members_to_a_new_one(tmp_path: Path) -> None:
    roster = {number: bytes.fromhex(made(tmp_path / str(number), number)["identity"]) for number in (1, 2, 3)}
    texts = [commands.export_ledger(tmp_path / str(number)) for number in (1, 2, 3)]
    made(tmp_path / "new", 3, replaces=True)
    with pytest.raises(LocalError, match="3 distinct members"):
        commands.import_ledgers(tmp_path / "new", texts[:2], roster=roster, threshold=2)
    assert commands.status(tmp_path / "new")["needs_ledgers"]
    assert commands.import_ledgers(tmp_path / "new", texts, roster=roster, threshold=2) == 0
    assert not commands.status(tmp_path / "new")["needs_ledgers"]


def test_a_file_that_is_no_member_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else entirely, and long enough to be looked at" * 20)
    with pytest.raises(LocalError, match="cannot be opened"):
        commands.status(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    Store(empty / FILE, create=True).close()
    with pytest.raises(LocalError, match="holds no member"):
        commands.status(empty)
    other = Store(empty / FILE)
    other.run("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(LocalError, match="version 99"):
        commands.status(empty)
