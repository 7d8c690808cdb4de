"""What a client has spent: a file that is on disk before anything is sent, so that it is never behind what was sent.

One line a charge, appended and synced. Each line carries a check over itself and the line before, so a flipped bit or a missing line
is noticed; a line that a crash cut short was never acted on and is cut off. When the file has grown it is written anew, shorter, and
takes the place of the old one in one step, so it stays small over years (`ledger_lines`). Totals are sums of Rényi vectors a purpose
and window; the epsilon of a total is what the owner's limit is compared with. The log keeps a ledger too (`aicache.budgets`): where it
knows of more, the file is raised to it, so a lost or restored file cannot spend again.
Boundary: one file; the time and the window come as arguments.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aicache.privacy.accounting import ORDERS, check_rdp, epsilon_from_rdp
from aicache.privacy.errors import LocalError
from aicache.producers.ledger_lines import (
    LOG_WINDOW_MS,
    Carried,
    Charge,
    Line,
    RdpVector,
    compacted,
    looks_whole,
    read_line,
    write_line,
)

FILE = "ledger.jsonl"
NEW_FILE = "ledger.jsonl.new"
COMPACT_BYTES = 256 * 1024
"""A file is written anew when it is larger than this and twice as large as when it was written anew the last time."""
ROUNDING = 1e-9
"""Two orders of adding the same charges up differ by less, relative."""
Sharing = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Limit:
    """How much an owner lets a purpose spend in a window.

    Attributes:
        epsilon: at `delta`.
        delta: of the guarantee.
        window_ms: length of the renewal window; windows begin at multiples of it. A file that was lost is rebuilt from the log,
            which knows one window of `LOG_WINDOW_MS`: a longer one is not covered then.
    """

    epsilon: float
    delta: float = 1e-6
    window_ms: int = LOG_WINDOW_MS

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < float("inf") or not 0 < self.delta < 1 or self.window_ms <= 0:
            raise LocalError(
                "a limit has epsilon > 0, 0 < delta < 1 and a window",
                got=(self.epsilon, self.delta, self.window_ms),
                needed="epsilon > 0, 0 < delta < 1, window_ms > 0",
            )

    def window_start(self, now_ms: int) -> int:
        """Start of the window that a time lies in, Unix milliseconds."""
        return now_ms - now_ms % self.window_ms


@dataclass(frozen=True, slots=True)
class Spent:
    """A total: what a purpose has cost in one window."""

    purpose: str
    window_start_ms: int
    rounds: int
    epsilon: float
    delta: float


class Ledger:
    """A client's ledger.

    Args:
        folder: the client's private folder, locked by the caller.

    Raises:
        LocalError: the file is damaged: nothing may be spent until the owner has looked at it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._totals: dict[tuple[str, int], RdpVector] = {}
        self._rounds: dict[tuple[str, int], int] = {}
        self._in_log: dict[tuple[str, int], tuple[RdpVector, int]] = {}
        self._seen: set[str] = set()
        self._lines: list[Line] = []
        self._end = 0
        self._compact_end = 0
        self._check = ""
        for line in self._read():
            self._note(line)

    # ------------------------------------------------------------ reading

    def _read(self) -> Iterator[Line]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise LocalError(
                f"the ledger {self._path} cannot be read ({error}): nothing is spent", got=str(error), needed="a file"
            ) from None
        *lines, rest = data.split(b"\n")
        merged = True
        for number, data in enumerate(lines, start=1):
            try:
                line, self._check = read_line(data, self._check)
            except ValueError:
                raise self._damaged(number) from None
            yield line
            self._end += len(data) + 1
            merged = merged and (isinstance(line, Carried) or line.rounds != 1)
            if merged:
                self._compact_end = self._end
        # A whole charge whose end of line is damaged may have been acted on: it counts, and the next one must not run into it.
        if rest and looks_whole(rest[:-1]):
            raise self._damaged(len(lines) + 1)

    def _damaged(self, number: int) -> LocalError:
        return LocalError(
            f"line {number} of the ledger {self._path} is damaged: nothing is spent. Restore the file from a backup (what is "
            "missing is then taken from the log), or remove it if it was only used within the log's last window",
            got=f"line {number}",
            needed="a charge with its check",
        )

    def _note(self, line: Line) -> None:
        self._lines.append(line)
        if isinstance(line, Carried):
            return
        key = (line.purpose, line.window_start_ms)
        rdp = np.asarray(line.rdp)
        self._totals[key] = self._totals.get(key, np.zeros(len(ORDERS))) + rdp
        self._rounds[key] = self._rounds.get(key, 0) + line.rounds
        known, rounds = self._known_in_log(line.purpose, line.log_window_start_ms)
        self._in_log[line.purpose, line.log_window_start_ms] = known + rdp, rounds + line.rounds
        self._seen.update(line.names)

    def _known_in_log(self, purpose: str, log_window_start_ms: int) -> tuple[RdpVector, int]:
        return self._in_log.get((purpose, log_window_start_ms), (np.zeros(len(ORDERS)), 0))

    # ------------------------------------------------------------ spending

    def has(self, round_id: str) -> bool:
        """Whether this round was charged already: a client contributes to a round once, whatever crashes in between."""
        return round_id in self._seen

    def after(
        self, purpose: str, window_start_ms: int, rdp: RdpVector, delta: float, shares: Sharing | None = None
    ) -> float:
        """The epsilon of the window if `rdp` were added to it; `shares` tells which other purposes count with this one."""
        before = np.zeros(len(ORDERS))
        for (other, start_ms), total in self._totals.items():
            if start_ms == window_start_ms and (other == purpose or (shares is not None and shares(other))):
                before = before + total
        return epsilon_from_rdp(before + rdp, delta)

    def check(
        self, purpose: str, opened_ms: int, round_id: str, rdp: RdpVector, limit: Limit, shares: Sharing | None = None
    ) -> None:
        """Whether `charge` would go through; nothing is charged.

        Raises:
            LocalError: as `charge`, the disk apart.
        """
        if self.has(round_id):
            raise LocalError(
                "the client has contributed to this round already", got=round_id, needed="one contribution a round"
            )
        epsilon = self.after(purpose, limit.window_start(opened_ms), rdp, limit.delta, shares)
        if epsilon > limit.epsilon:
            raise LocalError(
                f"the budget of {purpose} does not cover the round: epsilon would be {epsilon:.3f}, limit {limit.epsilon:g}",
                got=epsilon,
                needed=f"≤ {limit.epsilon:g}",
            )

    def charge(
        self, purpose: str, opened_ms: int, round_id: str, rdp: RdpVector, limit: Limit, shares: Sharing | None = None
    ) -> None:
        """Write down a round's cost; when this returns it is on disk, and only then may something be sent.

        Args:
            purpose: that of the round.
            opened_ms: the time that decides the window, Unix milliseconds.
            round_id: the round.
            rdp: its cost.
            limit: the owner's.
            shares: which other purposes the limit covers together with this one; None: none.

        Raises:
            LocalError: the round was charged before, the budget does not cover it, or the disk failed. Nothing may be sent then.
        """
        self.check(purpose, opened_ms, round_id, rdp, limit, shares)
        cost = tuple(check_rdp(rdp).tolist())
        log_window_ms = opened_ms - opened_ms % LOG_WINDOW_MS
        charge = Charge(purpose, limit.window_start(opened_ms), log_window_ms, limit.window_ms, (round_id,), 1, cost)
        if self._end > max(COMPACT_BYTES, 2 * self._compact_end):
            self._compact(opened_ms)
        self._append(charge)

    def raise_to(
        self,
        purpose: str,
        log_window_start_ms: int,
        rdp: RdpVector,
        *,
        rounds: int,
        last_round: str,
        opened_ms: int,
        limit: Limit,
    ) -> bool:
        """Take over what the log says was spent, where the file knows of less: it was lost, or restored from a backup.

        Args:
            purpose: that of the budget.
            log_window_start_ms: start of the log's window.
            rdp: the log's total of that window.
            rounds: how many the log counts in it.
            last_round: the newest of them.
            opened_ms: the time whose window of the owner is raised, where the two windows overlap.
            limit: the owner's.

        Returns:
            Whether something was missing.

        Raises:
            LocalError: the disk failed.
        """
        start_ms = limit.window_start(opened_ms)
        if log_window_start_ms + LOG_WINDOW_MS <= start_ms:
            return False
        known, known_rounds = self._known_in_log(purpose, log_window_start_ms)
        total = check_rdp(rdp)
        lacking = total > known + ROUNDING * (1.0 + known)
        if not lacking.any():
            return False
        missing = np.where(lacking, total, 0.0) - np.where(lacking, known, 0.0)
        more = max(rounds - known_rounds, 0)
        cost = tuple(missing.tolist())
        self._append(Charge(purpose, start_ms, log_window_start_ms, limit.window_ms, (last_round,), more, cost))
        return True

    def _append(self, charge: Charge) -> None:
        line, check = write_line(charge, self._check)
        try:
            made = not self._path.exists()
            with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
                file.truncate(self._end)  # what a crash cut short was never acted on
                file.seek(self._end)
                written = file.write(line)
                if written != len(line):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
            if made:
                sync_folder(self._path.parent)
        except OSError as error:
            raise self._unwritten(error) from None
        self._end += len(line)
        self._check = check
        self._note(charge)

    def _unwritten(self, error: OSError) -> LocalError:
        return LocalError(
            f"the ledger {self._path} cannot be written ({error}): nothing is sent",
            got=str(error),
            needed="space on the disk",
        )

    def _compact(self, now_ms: int) -> None:
        """Write the file anew, in as few lines as it needs; at every instant the folder holds the old file or the whole new one.

        Raises:
            LocalError: the new file is in its place, but that is not known to be on disk. Before, an error of the disk is no reason
                to stop: the old file stands, and the charge that comes next is appended to it.
        """
        lines, parts, check = compacted(self._lines, now_ms), [], ""
        for line in lines:
            part, check = write_line(line, check)
            parts.append(part)
        data = b"".join(parts)
        new = self._path.with_name(NEW_FILE)
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError:
            self._compact_end = self._end  # tried again when it has doubled
            return
        self._totals, self._rounds, self._in_log, self._seen, self._lines = {}, {}, {}, set(), []
        for line in lines:
            self._note(line)
        self._end = self._compact_end = len(data)
        self._check = check
        try:
            sync_folder(self._path.parent)
        except OSError as error:
            raise self._unwritten(error) from None

    def earlier(self, delta: float = 1e-6) -> Spent | None:
        """What windows that are long over have cost, all purposes together; None where nothing was written together so far."""
        carried = [line for line in self._lines if isinstance(line, Carried)]
        if not carried:
            return None
        rdp = np.sum([line.rdp for line in carried], axis=0)
        until_ms = max(line.until_ms for line in carried)
        return Spent("", until_ms, sum(line.rounds for line in carried), epsilon_from_rdp(rdp, delta), delta)

    def spent(self, delta: float = 1e-6) -> list[Spent]:
        """The totals of all windows that are not long over, newest first."""
        return [
            Spent(purpose, start_ms, self._rounds[purpose, start_ms], epsilon_from_rdp(rdp, delta), delta)
            for (purpose, start_ms), rdp in sorted(self._totals.items(), key=lambda entry: (-entry[0][1], entry[0][0]))
        ]


def sync_folder(folder: Path) -> None:
    """Put a folder's list of files on disk: a new file's name is not there before."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
