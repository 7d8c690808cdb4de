"""What the owner of a client asks on the command line, without Kafka."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from aicache.cli.app import run
from aicache.cli.frame import OK, USAGE
from aicache.privacy.accounting import ORDERS, epsilon_from_rdp
from aicache.privacy.anonymize import pseudonym
from aicache.producers.identity import FILE, PAUSED, Folder
from aicache.producers.ledger import Ledger, Limit

Capture = pytest.CaptureFixture[str]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AICACHE_CLIENT__FOLDER", str(tmp_path / "client"))
    return tmp_path / "client"


def make_client(folder: Path) -> bytes:
    private = Folder(folder)
    key = private.make_identity(os.urandom).pseudonym_key
    private.close()
    return key


def test_without_a_client_nothing_was_spent_and_all_is_left(folder: Path, capsys: Capture) -> None:
    assert run(["privacy", "show", "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert (found["now"]["epsilon_spent"], found["now"]["epsilon_left"], found["spent"]) == (0.0, 8.0, [])
    assert not folder.exists(), "looking makes nothing"


def test_what_is_left_counts_all_purposes_together(folder: Path, capsys: Capture) -> None:
    make_client(folder)
    rdp = np.asarray(ORDERS) * 0.01
    now_ms = time.time_ns() // 1_000_000
    for purpose, round_id in (("trends", "r1"), ("models", "r2")):
        Ledger(folder).charge(purpose, now_ms, round_id, rdp, Limit(8.0, 1e-5))
    assert run(["privacy", "show", "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert {row["purpose"]: row["rounds"] for row in found["spent"]} == {"trends": 1, "models": 1}
    assert found["now"]["epsilon_spent"] == pytest.approx(epsilon_from_rdp(2 * rdp, 1e-5))
    assert found["now"]["epsilon_left"] == pytest.approx(8.0 - found["now"]["epsilon_spent"])
    assert run(["privacy", "show"]) == OK
    assert "trends" in capsys.readouterr().out


def test_a_damaged_ledger_is_an_error_and_not_a_full_budget(folder: Path, capsys: Capture) -> None:
    make_client(folder)
    (folder / "ledger.jsonl").write_text("{}\n")
    assert run(["privacy", "show"]) == USAGE
    assert "line 1 of the ledger" in capsys.readouterr().err


def test_the_preview_is_the_record_under_the_clients_own_pseudonym(folder: Path, capsys: Capture) -> None:
    key = make_client(folder)
    words = ["privacy", "preview", "used", "pypi:numpy", "--tool", "ide@1.2.3", "--language", "python"]
    assert run([*words, "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    record = found["record"]
    assert record["pseudonym"] == pseudonym(key, "usage", record["period"]).hex()
    assert (record["tool"], record["language"]) == ("ide@1.2", "python")
    assert (found["sent"], found["pseudonym_made_up"]) == (False, False)
    assert run(words) == OK
    assert "nothing was sent" in capsys.readouterr().out


def test_the_preview_refuses_what_the_client_refuses_and_does_not_quote_it(folder: Path, capsys: Capture) -> None:
    assert run(["privacy", "preview", "used", "/home/anna/secret.py"]) == USAGE
    told = capsys.readouterr()
    assert "anna" not in told.out + told.err
    assert not folder.exists()


def test_a_preview_without_a_client_says_that_the_name_is_made_up(folder: Path, capsys: Capture) -> None:
    assert run(["privacy", "preview", "used", "pypi:numpy"]) == OK
    assert "an example" in capsys.readouterr().out
    assert not folder.exists()


def test_pause_reaches_a_client_that_runs_and_resume_lets_it_go_on(folder: Path, capsys: Capture) -> None:
    make_client(folder)
    running = Folder(folder)
    try:
        assert run(["pause", "--json"]) == OK
        assert json.loads(capsys.readouterr().out)["paused"]
        assert running.paused
        assert (folder / PAUSED).stat().st_mode & 0o077 == 0
        assert run(["pause", "--resume"]) == OK
        assert not running.paused
    finally:
        running.close()


def test_leaving_deletes_the_keys_and_keeps_the_ledger(folder: Path, capsys: Capture) -> None:
    make_client(folder)
    (folder / "ledger.jsonl").touch()
    assert run(["leave", "--json"]) == USAGE, "what cannot be taken back is not done without being told"
    assert (folder / FILE).exists()
    assert run(["leave", "--yes"]) == OK
    assert not (folder / FILE).exists()
    assert (folder / "ledger.jsonl").exists()


def test_a_client_that_runs_is_not_left_behind_its_back(folder: Path, capsys: Capture) -> None:
    make_client(folder)
    running = Folder(folder)
    try:
        assert run(["leave", "--yes"]) == USAGE
        assert (folder / FILE).exists()
        assert "another process" in capsys.readouterr().err
    finally:
        running.close()


@pytest.mark.parametrize("words", [["pause"], ["leave", "--yes"]])
def test_without_a_client_there_is_nothing_to_pause_or_leave(folder: Path, words: list[str], capsys: Capture) -> None:
    assert run(words) == USAGE
    assert "there is no client" in capsys.readouterr().err
    assert not folder.exists()
