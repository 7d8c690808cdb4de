"""What a member is willing to take part in: its owner's rules, which no coordinator can change.

They stand in `limits.json` in the member's folder; what is not there has the default below.
Boundary: reads that file; no clock.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from aicache.privacy.errors import LocalError

FILE = "limits.json"
DAY_MS = 86_400_000
ANY = "*"


@dataclass(frozen=True, slots=True)
class PurposeBudget:
    """The most that one client may spend on one purpose in one window.

    Args:
        epsilon: at `delta`, all rounds of the window together, against add-or-remove of the client.
        delta: the probability with which the guarantee may fail.
        window_ms: how long a window lasts; windows start at multiples of it since 1970.
    """

    epsilon: float = 8.0
    delta: float = 1e-6
    window_ms: int = 30 * DAY_MS

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf or not 0 < self.delta < 1 or self.window_ms <= 0:
            raise LocalError(
                f"a budget needs a finite epsilon > 0, 0 < delta < 1 and a window, got {self}",
                got=str(self),
                needed="see docs/committee.md",
            )


def _default_budgets() -> dict[str, PurposeBudget]:
    return {ANY: PurposeBudget()}


@dataclass(frozen=True, slots=True)
class Limits:
    """A member's own rules.

    Args:
        tasks: patterns of the tasks that it takes part in.
        budgets: per purpose; `*` stands for those that are not named.
        epsilon_round: the most that one round may cost a client.
        n_min: the fewest clients under which it opens no sum, whole or of a group.
        threshold_min: the fewest members that may open something together.
        length_max: the longest vector (bounds its own work).
        groups_max: the most groups (it sends a vector for each).
        round_ms: the longest from opening to deadline.
        grace_ms: the longest grace.
        opened_skew_ms: how far the proposal's opening may be from this member's clock; budgets' windows hang on it.
        manifest_wait_ms: how long after deadline and grace it waits for a manifest before it votes to abort.
        rounds_open: the most rounds at a time.
        epoch_ms: how long an epoch key is used before the next one is made.
    """

    tasks: tuple[str, ...] = (ANY,)
    budgets: Mapping[str, PurposeBudget] = field(default_factory=_default_budgets)
    epsilon_round: float = 8.0
    n_min: int = 10
    threshold_min: int = 2
    length_max: int = 2_000_000
    groups_max: int = 64
    round_ms: int = 7 * DAY_MS
    grace_ms: int = 3_600_000
    opened_skew_ms: int = 300_000
    manifest_wait_ms: int = 30_000
    rounds_open: int = 64
    epoch_ms: int = 30 * DAY_MS

    def __post_init__(self) -> None:
        if not 0 < self.epsilon_round < math.inf or self.n_min < 1 or self.threshold_min < 1:
            raise LocalError(
                f"limits need a finite epsilon_round > 0, n_min and threshold_min of at least 1; got {self.epsilon_round},"
                f" {self.n_min}, {self.threshold_min}",
                got=(self.epsilon_round, self.n_min, self.threshold_min),
                needed="see docs/committee.md",
            )

    @property
    def lasting_ms(self) -> int:
        """How long a round may need an epoch key, from its opening on."""
        return self.round_ms + self.grace_ms + self.manifest_wait_ms + 2 * self.opened_skew_ms

    def allows(self, task: str) -> bool:
        """Whether the member takes part in this task."""
        return any(fnmatchcase(task, pattern) for pattern in self.tasks)

    def budget(self, purpose: str) -> PurposeBudget | None:
        """The budget of a purpose, None where there is none: then nothing may be spent on it."""
        return self.budgets.get(purpose, self.budgets.get(ANY))

    def account(self, purpose: str) -> str:
        """Whose budget a purpose spends: its own where it is named, else the one that all others share.

        An operator makes up the names of purposes: if each unnamed one had a budget of its own, none would bind.
        """
        return purpose if purpose in self.budgets else ANY

    def window_ms(self, purpose: str, opened_ms: int) -> int:
        """Start of the budget window that a round opened at `opened_ms` counts in."""
        budget = self.budget(purpose)
        length = budget.window_ms if budget else 30 * DAY_MS
        return opened_ms - opened_ms % length

    def write(self, folder: Path) -> None:
        """Write the file that `load` reads."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Limits":
        """Limits from what stands in the file.

        Raises:
            LocalError: a name that is unknown or a value that cannot be.
        """
        unknown = sorted(set(data) - {entry.name for entry in fields(cls)})
        if unknown:
            raise LocalError(f"unknown limits: {', '.join(unknown)}", got=unknown, needed=[f.name for f in fields(cls)])
        values = dict(data)
        try:
            if "tasks" in values:
                values["tasks"] = tuple(values["tasks"])
            if "budgets" in values:
                values["budgets"] = {name: PurposeBudget(**entry) for name, entry in values["budgets"].items()}
        except TypeError as error:
            raise LocalError(
                f"the limits cannot be read: {error}", got=str(error), needed="see docs/committee.md"
            ) from None
        return cls(**values)

    @classmethod
    def load(cls, folder: Path) -> "Limits":
        """Read `limits.json`; the defaults where there is none."""
        path = folder / FILE
        if not path.exists():
            return cls()
        try:
            data = json.loads(path.read_text())
        except ValueError as error:
            raise LocalError(f"{path} is not JSON: {error}", got=str(error), needed="JSON") from None
        if not isinstance(data, dict):
            raise LocalError(f"{path} has to hold one object", got=type(data).__name__, needed="an object")
        return cls.from_json(data)
