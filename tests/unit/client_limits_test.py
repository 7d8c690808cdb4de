"""An owner's limits hold against an operator who picks names of purposes and opening times, and against an old ledger."""

from pathlib import Path

import numpy as np
import pytest

from aicache.privacy.errors import LocalError
from aicache.producers.board import Board
from aicache.producers.identity import Folder
from aicache.producers.ledger import DAY_MS, FILE, Ledger, Limit
from aicache.producers.session import Contribution, Limits, Pins, Session
from aicache.schemas.records import Budget, Enrolment
from support.rounds import DEPLOYMENT, START_MS, World, entropy_of

TOPICS = ("aicache.committee", "aicache.rounds", "aicache.votes")
ENTROPY = entropy_of("client")
ONE_ROUND = Limit(3.0)  # a round costs 2.4


class Owner:
    """One client of a world, its board fed from the world's log."""

    def __init__(self, folder: Path, budgets: dict[str, Limit]) -> None:
        self.world = World(clients=0)
        self.board = Board(DEPLOYMENT)
        self.read: dict[str, int] = {}
        self.limits = Limits(budgets=budgets, n_min=2)
        self.folder = folder
        private = Folder(folder)
        self.identity = private.make_identity(ENTROPY)
        private.close()
        self.board.receive(
            Enrolment(DEPLOYMENT, self.identity.client, self.identity.public_key, START_MS, False, "", b"")
        )
        self.restart()

    def restart(self) -> None:
        """A new process with the same folder."""
        roster = self.world.roster()
        pins = Pins({entry.member: entry.identity_key for entry in roster}, self.world.threshold)
        self.ledger = Ledger(self.folder)
        self.session = Session(self.board, self.identity, self.ledger, pins, self.limits)

    def propose(self, round_id: str, **changes: object) -> None:
        self.world.propose(round_id, **changes)
        for topic in TOPICS:
            rows = self.world.log.topics.get(topic, [])
            for item in rows[self.read.get(topic, 0) :]:
                self.board.receive(item.record, item.fingerprint, item.body)
            self.read[topic] = len(rows)

    def contribute(self, round_id: str, now_ms: int = START_MS) -> Contribution:
        current = self.board.rounds[round_id]
        return self.session.contribute(current, np.ones(current.proposal.length), now_ms, ENTROPY)

    def published(self, purpose: str, rounds: int) -> None:
        """The log's ledger says so."""
        spent = self.session.check(self.board.rounds["price"], START_MS) * rounds
        window_ms = START_MS - START_MS % (30 * DAY_MS)
        client = self.identity.client
        self.board.receive(Budget(DEPLOYMENT, client, purpose, window_ms, rounds, "r-log", spent.tolist(), 0.0, 1e-6))


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
