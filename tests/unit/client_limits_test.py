"""An owner's limits hold against an operator who picks names of purposes and opening times, and against an old ledger."""

from pathlib import Path

import pytest

from aicache.privacy.errors import LocalError
from aicache.producers.ledger import FILE, Ledger, Limit
from support.owner import Owner
from support.rounds import START_MS

ONE_ROUND = Limit(3.0)  # a round costs 2.4


def test_purposes_that_the_owner_did_not_name_share_one_limit(tmp_path: Path) -> None:
    owner = Owner(tmp_path, {"*": ONE_ROUND, "named": ONE_ROUND})
    for number, purpose in enumerate(["invented-1", "invented-2", "named"]):
        owner.propose(f"r{number}", purpose=purpose)
    owner.contribute("r0")
    with pytest.raises(LocalError, match="does not cover"):
        owner.contribute("r1")
    owner.contribute("r2")


def test_a_proposal_dated_back_is_paid_from_the_window_of_the_clients_own_clock(tmp_path: Path) -> None:
    owner = Owner(tmp_path, {"*": Limit(3.0, window_ms=1_000)})
    owner.propose("r0")
    owner.propose("r1", opened_ms=START_MS - 500)
    owner.contribute("r0")
    with pytest.raises(LocalError, match="does not cover"):
        owner.contribute("r1")


@pytest.mark.parametrize("kept", [0, 1], ids=["lost", "restored from a backup"])
def test_a_ledger_older_than_the_log_sends_nothing_then_holds_what_the_log_says(tmp_path: Path, kept: int) -> None:
    owner = Owner(tmp_path, {"*": Limit(8.0)})
    for round_id in ("price", "r0", "r1", "r2", "r3"):
        owner.propose(round_id)
    backups = [b""]
    for round_id in ("r0", "r1"):
        owner.contribute(round_id)
        backups.append((tmp_path / FILE).read_bytes())
    owner.published("trends", 2)
    full = owner.ledger.spent()
    (tmp_path / FILE).write_bytes(backups[kept])
    owner.restart()
    with pytest.raises(LocalError, match="older than the log"):
        owner.contribute("r2")
    assert not owner.ledger.has("r2")
    again = Ledger(tmp_path).spent()
    assert (again[0].rounds, again[0].epsilon) == (full[0].rounds, pytest.approx(full[0].epsilon))
    owner.contribute("r3")


def test_what_the_log_charged_to_a_purpose_of_another_name_counts_too(tmp_path: Path) -> None:
    owner = Owner(tmp_path, {"*": Limit(4.5)})
    for round_id in ("price", "r0"):
        owner.propose(round_id)
    owner.published("of another name", 3)
    for _ in range(2):
        with pytest.raises(LocalError, match=r"older than the log|does not cover"):
            owner.contribute("r0")
    assert owner.ledger.spent()[0].purpose == "of another name"
