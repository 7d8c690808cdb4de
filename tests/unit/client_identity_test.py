"""Keys are made once, read by their owner alone, used by one process at a time; silence is a wish that others see."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aicache.privacy.errors import LocalError
from aicache.producers.identity import FILE, Folder, set_paused, write_private
from support.rounds import entropy_of

TRY = "import sys, pathlib; from aicache.producers.identity import Folder; Folder(pathlib.Path(sys.argv[1])).close()"


def made(folder: Path) -> Folder:
    private = Folder(folder)
    private.make_identity(entropy_of("identity"))
    return private


def test_keys_are_the_same_after_a_restart_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "client"
    private = made(folder)
    first = private.identity()
    private.close()
    again = Folder(folder)
    second = again.identity()
    again.close()
    assert first is not None
    assert second is not None
    assert (first.client, first.pseudonym_key) == (second.client, second.pseudonym_key)
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_keys_are_never_made_over_others(tmp_path: Path) -> None:
    private = made(tmp_path)
    with pytest.raises(LocalError, match="already"):
        private.make_identity(os.urandom)
    private.close()


def test_a_second_user_of_the_folder_is_refused_in_this_process_and_in_another(tmp_path: Path) -> None:
    private = made(tmp_path)
    with pytest.raises(LocalError, match="another process"):
        Folder(tmp_path)
    other = subprocess.run([sys.executable, "-c", TRY, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "another process" in other.stderr
    private.close()
    subprocess.run([sys.executable, "-c", TRY, str(tmp_path)], check=True)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "signing_key": "00", "pseudonym_key": "00"}', "\0" * 64]
)
def test_a_damaged_identity_is_an_error_and_not_made_anew(tmp_path: Path, text: str) -> None:
    write_private(tmp_path / FILE, text.encode())
    private = Folder(tmp_path)
    with pytest.raises(LocalError, match="not a client's identity"):
        private.identity()
    private.close()
    assert (tmp_path / FILE).read_text() == text


def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    private = made(tmp_path)
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(LocalError, match="others may read"):
        private.identity()
    private.close()


def test_forgetting_deletes_the_keys(tmp_path: Path) -> None:
    private = made(tmp_path)
    private.forget()
    private.forget()
    assert private.identity() is None
    private.close()


def test_a_pause_asked_for_elsewhere_is_seen_and_lifted(tmp_path: Path) -> None:
    private = made(tmp_path)
    assert not private.paused
    set_paused(tmp_path, paused=True)
    assert private.paused
    set_paused(tmp_path, paused=False)
    set_paused(tmp_path, paused=False)
    assert not private.paused
    private.close()
    with pytest.raises(LocalError, match="not a client's folder"):
        set_paused(tmp_path / "nowhere", paused=True)


def test_a_disk_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_private(tmp_path / "file", b"before")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocalError, match="No space"):
        write_private(tmp_path / "file", b"after")
    assert (tmp_path / "file").read_bytes() == b"before"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match="file"):
        Folder(tmp_path / "file" / "client")
