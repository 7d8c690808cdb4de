"""The lines of a client's ledger: charges, each with a check over itself and the line before, and what is carried over from before.

A file that has grown is written anew, shorter: charges of one purpose and window become one line with the names of their rounds, and
windows that are long over become one line in all, a sum. Nothing is forgotten that a round could still be charged against.
Pure.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.accounting import ORDERS, check_rdp
from aicache.privacy.errors import LocalError

DAY_MS = 86_400_000
LOG_WINDOW_MS = 30 * DAY_MS
"""The windows of `aicache.budgets` begin at multiples of this."""
KEPT_MS = 30 * DAY_MS
"""So long after the end of its windows a charge is still kept: clocks differ, and a round lasts up to a week."""
WINDOW_UNKNOWN_MS = 400 * DAY_MS
"""Charges that do not say how long their window is are taken to have a long one."""
CHECK_LENGTH = 16
RdpVector: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Charge:
    """What was spent on one purpose in one window: on one round, or on several together.

    Attributes:
        window_start_ms: the owner's window.
        log_window_start_ms: the log's window, in which `aicache.budgets` counts it.
        window_ms: how long the owner's window is.
        names: the rounds.
        rounds: how many; the log may know of more than it names.
    """

    purpose: str
    window_start_ms: int
    log_window_start_ms: int
    window_ms: int
    names: tuple[str, ...]
    rounds: int
    rdp: tuple[float, ...]

    def fields(self) -> dict[str, Any]:
        """As they stand in the file."""
        return {
            "purpose": self.purpose,
            "window_start_ms": self.window_start_ms,
            "log_window_start_ms": self.log_window_start_ms,
            "window_ms": self.window_ms,
            "round": self.names[-1],
            **({"before": list(self.names[:-1])} if len(self.names) > 1 else {}),
            "rounds": self.rounds,
            "rdp": list(self.rdp),
        }

    @classmethod
    def of(cls, fields: Any) -> "Charge":
        """From the file's fields; ValueError, KeyError, TypeError or LocalError where they are not a charge."""
        purpose, names = fields["purpose"], (*fields.get("before", ()), fields["round"])
        window_ms = fields.get("window_ms", WINDOW_UNKNOWN_MS)
        whole = (fields["window_start_ms"], fields["log_window_start_ms"], window_ms, fields["rounds"])
        if not all(isinstance(number, int) for number in whole) or window_ms <= 0 or whole[3] < 0:
            raise TypeError
        if not isinstance(purpose, str) or not all(isinstance(name, str) for name in names):
            raise TypeError
        return cls(purpose, whole[0], whole[1], window_ms, names, whole[3], _rdp(fields["rdp"]))

    def over(self, now_ms: int) -> bool:
        """Whether nothing can be charged against its windows any more."""
        ends_ms = max(self.window_start_ms + self.window_ms, self.log_window_start_ms + LOG_WINDOW_MS)
        return ends_ms + KEPT_MS <= now_ms


@dataclass(frozen=True, slots=True)
class Carried:
    """All that was spent in windows that are long over, whatever on.

    Attributes:
        until_ms: they had ended by then.
    """

    until_ms: int
    rounds: int
    rdp: tuple[float, ...]

    def fields(self) -> dict[str, Any]:
        """As they stand in the file."""
        return {"until_ms": self.until_ms, "rounds": self.rounds, "rdp": list(self.rdp)}

    @classmethod
    def of(cls, fields: Any) -> "Carried":
        """From the file's fields; raises as `Charge.of`."""
        whole = (fields["until_ms"], fields["rounds"])
        if not all(isinstance(number, int) for number in whole) or whole[1] < 0:
            raise TypeError
        return cls(*whole, _rdp(fields["rdp"]))


Line: TypeAlias = Charge | Carried


def _rdp(numbers: Any) -> tuple[float, ...]:
    if not all(isinstance(number, float) for number in numbers):
        raise TypeError
    return tuple(check_rdp(numbers).tolist())


# ---------------------------------------------------------------- bytes


def check_of(before: str, fields: dict[str, Any]) -> str:
    """The check of a line whose predecessor has the check `before` (empty for the first)."""
    return hashlib.sha256((before + json.dumps(fields, sort_keys=True)).encode()).hexdigest()[:CHECK_LENGTH]


def write_line(line: Line, before: str) -> tuple[bytes, str]:
    """The bytes of a line, its end included, and its check."""
    fields = line.fields()
    check = check_of(before, fields)
    name = "charge" if isinstance(line, Charge) else "carried"
    return json.dumps({name: fields, "check": check}).encode() + b"\n", check


def read_line(data: bytes, before: str) -> tuple[Line, str]:
    """The inverse, for a line without its end.

    Raises:
        ValueError: damaged, or it does not follow from the line before.
    """
    try:
        row = json.loads(data)
        fields = row["charge"] if "charge" in row else row["carried"]
        check = check_of(before, fields)
        if row["check"] != check:
            raise ValueError
        return (Charge.of(fields) if "charge" in row else Carried.of(fields)), check
    except (KeyError, TypeError, AttributeError, RecursionError, LocalError) as error:
        raise ValueError(str(error)) from None


def looks_whole(data: bytes) -> bool:
    """Whether these bytes, damaged as they are, hold a whole line that may have been acted on."""
    try:
        json.dumps(json.loads(data)["charge"], sort_keys=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return True


# ---------------------------------------------------------------- writing anew


def compacted(lines: Iterable[Line], now_ms: int) -> list[Line]:
    """The same ledger in as few lines as it needs.

    Args:
        lines: all, in the order of the file.
        now_ms: the time that decides which windows are over.

    Returns:
        What is carried over, where there is any, then one charge a purpose and pair of windows, in the order of their first.
    """
    until_ms, rounds, carried = 0, 0, np.zeros(len(ORDERS))
    kept: dict[tuple[str, int, int, int], Charge] = {}
    for line in lines:
        if isinstance(line, Carried) or line.over(now_ms):
            ended_ms = line.until_ms if isinstance(line, Carried) else line.window_start_ms + line.window_ms
            until_ms, rounds, carried = max(until_ms, ended_ms), rounds + line.rounds, carried + np.asarray(line.rdp)
            continue
        key = (line.purpose, line.window_start_ms, line.log_window_start_ms, line.window_ms)
        before = kept.get(key)
        kept[key] = line if before is None else _together(before, line)
    first: list[Line] = [Carried(until_ms, rounds, tuple(carried.tolist()))] if rounds or carried.any() else []
    return [*first, *kept.values()]


def _together(one: Charge, other: Charge) -> Charge:
    names = tuple(dict.fromkeys((*one.names, *other.names)))
    rdp = np.asarray(one.rdp) + np.asarray(other.rdp)
    return Charge(
        one.purpose,
        one.window_start_ms,
        one.log_window_start_ms,
        one.window_ms,
        names,
        one.rounds + other.rounds,
        tuple(rdp.tolist()),
    )
