"""One client of a world in memory, its board fed from the world's log: for tests of what a client agrees to."""

from pathlib import Path

import numpy as np

from aicache.producers.board import Board
from aicache.producers.identity import Folder
from aicache.producers.ledger import Ledger, Limit
from aicache.producers.ledger_lines import DAY_MS
from aicache.producers.session import Contribution, Limits, Pins, Session
from aicache.schemas.records import Budget, Enrolment
from support.rounds import DEPLOYMENT, START_MS, World, entropy_of

TOPICS = ("aicache.committee", "aicache.rounds", "aicache.votes")
ENTROPY = entropy_of("client")


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
        self.feed()

    def feed(self) -> None:
        """Let the board read what is new in the log."""
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
