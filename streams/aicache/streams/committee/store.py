"""A member's memory: one SQLite file that holds its keys, its promises and what it has still to publish.

Everything that a member decides is written here, in one transaction a batch, together with the place it has read to and the
records that follow from it (the outbox). Only after that transaction is on disk is anything published, and what was published
but not noted as such is published again at the next start. So a member killed at any instant repeats itself and never
contradicts itself. The private epoch key lives in the same file: there is no way to go back to an older state of the file and
keep a newer key, and a copy that was restored finds its own unknown signatures in the log (`knows_own`).
Invariant: no row of `own` is ever deleted, and a round's `decision` is written once.
Boundary: SQLite and a lock file; no Kafka.
"""

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aicache.privacy.errors import LocalError

FILE = "member.db"
LOCK = "member.lock"
SCHEMA_VERSION = 1
CACHE_KB = 8_192
BUSY_TIMEOUT_MS = 5_000
LOCK_TRIES = 5
LOCK_WAIT_S = 0.02

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE epochs (
    epoch INTEGER PRIMARY KEY, key_id BLOB NOT NULL, secret BLOB, storage_key BLOB,
    valid_from_ms INTEGER NOT NULL, valid_until_ms INTEGER NOT NULL, erased INTEGER NOT NULL DEFAULT 0);
CREATE TABLE offsets (topic TEXT, part INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, part)) WITHOUT ROWID;
CREATE TABLE enrolments (
    client BLOB PRIMARY KEY, public_key BLOB NOT NULL, part INTEGER NOT NULL, admitted INTEGER NOT NULL,
    revoked INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE committee (
    epoch_key_id BLOB PRIMARY KEY, member INTEGER NOT NULL, identity BLOB NOT NULL, epoch INTEGER NOT NULL,
    retired INTEGER NOT NULL, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE rounds (
    round_id TEXT PRIMARY KEY, task TEXT NOT NULL, number INTEGER NOT NULL, rho BLOB NOT NULL, proposal BLOB,
    verdict TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', epoch INTEGER, nonce BLOB, rdp BLOB,
    purpose TEXT NOT NULL, window_ms INTEGER NOT NULL DEFAULT 0, sequence INTEGER NOT NULL DEFAULT 0,
    closed INTEGER NOT NULL DEFAULT 0, decision BLOB, counted BLOB, over INTEGER NOT NULL DEFAULT 0,
    ends_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX rounds_live ON rounds (over) WHERE over = 0;
CREATE TABLE approvals (
    round_id TEXT, member INTEGER, commitment BLOB NOT NULL, PRIMARY KEY (round_id, member)) WITHOUT ROWID;
CREATE TABLE senders (
    round_id TEXT, sender BLOB, digest BLOB NOT NULL, model_version INTEGER NOT NULL, share BLOB NOT NULL,
    PRIMARY KEY (round_id, sender));
CREATE TABLE vectors (
    round_id TEXT, grp INTEGER, digest BLOB NOT NULL, ciphertext BLOB, sealed BLOB, placed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (round_id, grp));
CREATE TABLE manifests (
    round_id TEXT, digest BLOB, reason TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (round_id, digest));
CREATE TABLE votes (round_id TEXT, member INTEGER, digest BLOB, PRIMARY KEY (round_id, member, digest)) WITHOUT ROWID;
CREATE TABLE spent (
    client BLOB, purpose TEXT, window_ms INTEGER, rounds INTEGER NOT NULL, rdp BLOB NOT NULL,
    PRIMARY KEY (client, purpose, window_ms)) WITHOUT ROWID;
CREATE TABLE reserved (client BLOB, round_id TEXT, PRIMARY KEY (client, round_id)) WITHOUT ROWID;
CREATE INDEX reserved_round ON reserved (round_id);
CREATE TABLE own (signature BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL);
CREATE TABLE refusals (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, round_id TEXT NOT NULL, sender BLOB NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE counts (reason TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
"""
REFUSALS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record that is decided, on disk, and perhaps not yet published."""

    id: int
    topic: str
    key: bytes
    value: bytes


class Lock:
    """One process a folder: the kernel drops the lock with the process, however it dies."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / LOCK).open("a+")
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:  # `locked` may be asking: it holds the lock for microseconds
                time.sleep(LOCK_WAIT_S)
        else:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise LocalError(
                f"another process (pid {holder}) already runs the member in {folder}: a member is one process",
                got=holder,
                needed="a folder that no process uses",
            )
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let the next process have the folder."""
        self._file.close()


def locked(folder: Path) -> bool:
    """Whether a process holds the folder."""
    path = folder / LOCK
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


class Store:
    """The SQLite file of one member.

    Args:
        path: the file, or `:memory:` for a store that dies with the process (tests).
        create: make a new one; else it has to exist.
        read_only: look without writing, also while the member runs.

    Raises:
        LocalError: the file is missing, exists already, is not a member's, or cannot be written.
    """

    def __init__(self, path: Path | str, *, create: bool = False, read_only: bool = False) -> None:
        self.path = str(path)
        memory = self.path == ":memory:"
        if not memory and create == Path(path).exists():
            state = "exists already" if create else "is missing"
            raise LocalError(f"the member's store {path} {state}", got=self.path, needed="init makes it, once")
        try:
            if read_only:
                self._db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)
            else:
                if create and not memory:
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                self._db = sqlite3.connect(self.path, isolation_level=None)
                self._configure()
            if create or memory:
                self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if not read_only:
                self.checkpoint()  # where the last process died between erasing a key and emptying the journal
        except sqlite3.Error as error:
            raise LocalError(
                f"the member's store {self.path} cannot be opened: {error}", got=str(error), needed="a member's store"
            ) from error
        if version != SCHEMA_VERSION:
            raise LocalError(
                f"the member's store {self.path} has version {version}, this program needs {SCHEMA_VERSION}",
                got=version,
                needed=SCHEMA_VERSION,
            )

    def _configure(self) -> None:
        # FULL: a commit has reached the disk when it returns. secure_delete: erased keys are overwritten, not just unlinked.
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            f"cache_size = -{CACHE_KB}",
        ):
            self._db.execute(f"PRAGMA {pragma}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on disk when it ends; on any error the file is as before and nothing may be published.

        Raises:
            LocalError: the disk is full or failed.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            raise LocalError(
                f"the member's store {self.path} cannot be written ({error}): nothing of this batch was published; "
                "free space on its disk and start the member again",
                got=str(error),
                needed="a disk that takes writes",
            ) from error
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def one(self, sql: str, *values: Any) -> Any:
        """The first row, or None."""
        return self._db.execute(sql, values).fetchone()

    def all(self, sql: str, *values: Any) -> list[Any]:
        """All rows."""
        return self._db.execute(sql, values).fetchall()

    def each(self, sql: str, *values: Any) -> Iterator[Any]:
        """Row by row, for what may be large."""
        return iter(self._db.execute(sql, values))

    def run(self, sql: str, *values: Any) -> int:
        """Change something (inside a transaction); how many rows changed."""
        return self._db.execute(sql, values).rowcount

    def meta(self, name: str) -> Any:
        """A setting of the member, or None."""
        row = self.one("SELECT value FROM meta WHERE name = ?", name)
        return None if row is None else row[0]

    def set_meta(self, name: str, value: bytes | str | int) -> None:
        """Write a setting."""
        self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)

    def meta_json(self, name: str) -> Any:
        """A setting that is a small structure, or None."""
        value = self.meta(name)
        return None if value is None else json.loads(value)

    def next_offset(self, topic: str, partition: int) -> int:
        """Where reading goes on."""
        row = self.one("SELECT next FROM offsets WHERE topic = ? AND part = ?", topic, partition)
        return 0 if row is None else int(row[0])

    def set_next_offset(self, topic: str, partition: int, offset: int) -> None:
        """Reading goes on at this offset."""
        self.run("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", topic, partition, offset)

    def post(self, topic: str, key: bytes, value: bytes, signature: bytes | None = None) -> None:
        """Decide to publish; `signature` is remembered for good, so that the record is known again when it is read back."""
        if signature is not None:
            self.run("INSERT OR IGNORE INTO own VALUES (?)", signature)
        self.run("INSERT INTO outbox (topic, key, value) VALUES (?, ?, ?)", topic, key, value)

    def outbox(self, limit: int) -> list[Outgoing]:
        """What is decided and not yet noted as published, oldest first."""
        return [
            Outgoing(*row) for row in self.all("SELECT id, topic, key, value FROM outbox ORDER BY id LIMIT ?", limit)
        ]

    def published(self, ids: list[int]) -> None:
        """The broker has confirmed these."""
        self._db.executemany("DELETE FROM outbox WHERE id = ?", [(number,) for number in ids])

    def knows_own(self, signature: bytes) -> bool:
        """Whether a signature of this member was made with this store."""
        return self.one("SELECT 1 FROM own WHERE signature = ?", signature) is not None

    def refuse(self, at_ms: int, round_id: str, sender: bytes, reason: str, detail: str) -> None:
        """Remember a refusal for the owner of the member; the oldest are forgotten, the counts are not."""
        self.run("INSERT INTO counts VALUES (?, 1) ON CONFLICT (reason) DO UPDATE SET n = n + 1", reason)
        self.run(
            "INSERT INTO refusals (at_ms, round_id, sender, reason, detail) VALUES (?, ?, ?, ?, ?)",
            at_ms,
            round_id,
            sender,
            reason,
            detail,
        )
        self.run("DELETE FROM refusals WHERE id <= (SELECT max(id) FROM refusals) - ?", REFUSALS_KEPT)

    def checkpoint(self) -> bool:
        """Move the journal into the file and empty it: after keys were erased, no copy of them stays in the journal.

        Returns:
            False where somebody was reading: the journal is as it was, try again.
        """
        return int(self.one("PRAGMA wal_checkpoint(TRUNCATE)")[0]) == 0
