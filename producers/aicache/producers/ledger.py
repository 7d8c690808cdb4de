"""What a client has spent: a file that is on disk before anything is sent, so that it is never behind what was sent.

One line a charge, appended and synced; a line that a crash cut short was never acted on and is cut off. Totals are sums of Rényi
vectors a purpose and window; the epsilon of a total is what the owner's limit is compared with. The log keeps a ledger too
(`aicache.budgets`): where it knows of more, the file is raised to it, so a lost or restored file cannot spend again.
Boundary: one file; the time and the window come as arguments.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.accounting import ORDERS, epsilon_from_rdp
from aicache.privacy.errors import LocalError

FILE = "ledger.jsonl"
RdpVector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Limit:
    """How much an owner lets a purpose spend in a window.

    Attributes:
        epsilon: at `delta`.
        delta: of the guarantee.
        window_ms: length of the renewal window; windows begin at multiples of it.
    """

    epsilon: float
    delta: float = 1e-6
    window_ms: int = 365 * 86_400_000

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
        self._seen: set[str] = set()
        self._end = 0
        for line in self._lines():
            self._note(line)

    def _lines(self) -> Iterator[dict[str, object]]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            self._end += len(line) + 1
            try:
                fields = json.loads(line)
                if len(fields["rdp"]) != len(ORDERS):
                    raise ValueError
                yield fields
            except (ValueError, KeyError, TypeError):
                raise LocalError(
                    f"line {number} of {self._path} is damaged: nothing is spent until it is repaired or, with all of the "
                    "window's budget given up, deleted",
                    got=f"line {number}",
                    needed="a charge",
                ) from None

    def _note(self, fields: dict[str, object]) -> None:
        key = (str(fields["purpose"]), int(fields["window_start_ms"]))  # type: ignore[call-overload]
        self._totals[key] = self._totals.get(key, np.zeros(len(ORDERS))) + np.asarray(fields["rdp"], dtype=np.float64)
        self._rounds[key] = self._rounds.get(key, 0) + int(fields["rounds"])  # type: ignore[call-overload]
        self._seen.add(str(fields["round"]))

    def has(self, round_id: str) -> bool:
        """Whether this round was charged already: a client contributes to a round once, whatever crashes in between."""
        return round_id in self._seen

    def after(self, purpose: str, window_start_ms: int, rdp: RdpVector, delta: float) -> float:
        """The epsilon of the window if `rdp` were added to it."""
        before = self._totals.get((purpose, window_start_ms), np.zeros(len(ORDERS)))
        return epsilon_from_rdp(before + rdp, delta)

    def charge(self, purpose: str, window_start_ms: int, round_id: str, rdp: RdpVector, limit: Limit) -> None:
        """Write down a round's cost; when this returns it is on disk, and only then may something be sent.

        Raises:
            LocalError: the round was charged before, the budget does not cover it, or the disk failed. Nothing is charged then.
        """
        if self.has(round_id):
            raise LocalError("the round was contributed to already", got=round_id, needed="one contribution a round")
        epsilon = self.after(purpose, window_start_ms, rdp, limit.delta)
        if epsilon > limit.epsilon:
            raise LocalError(
                f"the budget of {purpose} does not cover the round: epsilon would be {epsilon:.3f}, limit {limit.epsilon:g}",
                got=epsilon,
                needed=f"≤ {limit.epsilon:g}",
            )
        self._append(purpose, window_start_ms, round_id, rdp, 1)

    def raise_to(self, purpose: str, window_start_ms: int, rdp: RdpVector, rounds: int, round_id: str) -> bool:
        """Take over what the log says was spent, where that is more; True where it was."""
        before = self._totals.get((purpose, window_start_ms), np.zeros(len(ORDERS)))
        missing = np.maximum(rdp - before, 0.0)
        if not (missing > 1e-9 * (1.0 + before)).any():
            return False
        more = max(rounds - self._rounds.get((purpose, window_start_ms), 0), 0)
        self._append(purpose, window_start_ms, round_id, missing, more)
        return True

    def _append(self, purpose: str, window_start_ms: int, round_id: str, rdp: RdpVector, rounds: int) -> None:
        fields: dict[str, object] = {
            "purpose": purpose,
            "window_start_ms": window_start_ms,
            "round": round_id,
            "rounds": rounds,
            "rdp": rdp.tolist(),
        }
        line = json.dumps(fields).encode() + b"\n"
        try:
            with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
                file.truncate(self._end)  # what a crash cut short was never acted on
                file.seek(self._end)
                written = file.write(line)
                os.fsync(file.fileno())
                if written != len(line):
                    raise OSError("the disk is full")
        except OSError as error:
            raise LocalError(
                f"the ledger {self._path} cannot be written ({error}): nothing was sent",
                got=str(error),
                needed="space on the disk",
            ) from None
        self._end += len(line)
        self._note(fields)

    def spent(self, delta: float = 1e-6) -> list[Spent]:
        """All totals, newest window first."""
        return [
            Spent(purpose, start_ms, self._rounds[purpose, start_ms], epsilon_from_rdp(rdp, delta), delta)
            for (purpose, start_ms), rdp in sorted(self._totals.items(), key=lambda entry: (-entry[0][1], entry[0][0]))
        ]
