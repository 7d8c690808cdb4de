"""Signatures enter the log only once many people have them: what one company alone has is never told, not even under a pseudonym.

Until then a signature stays here. What leaves of it is a client's part in rounds of a count-sketch task (`signatures…`): masked, with
noise, each name at most once a person and round, nobody reads it. From the opened sum of all, which everybody can read, each client
looks up its own names: those that enough people have are public from then on, and are told like any other; so no list of candidates
is needed, and a name that few have appears nowhere.
Pure but for its lock.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError, RemoteError
from aicache.producers.vectors import sketch_places
from aicache.schemas.records import Aggregate, Task

if TYPE_CHECKING:
    from aicache.producers.signals.hooks import Tell

PEOPLE_MIN = 50.0
"""People who have a name before it is public: more than one company's team, with their machines."""
ASKED = 1_000_000
"""Names that all clients together may look up in one sum: one of them is public by chance with probability `FAILURE` at most."""
FAILURE = 1e-3
NAMES_MAX = 1_000
"""Names that wait here; of more, those that happened least are forgotten."""
SIGNATURE = "sig:"
BISECTIONS = 50

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class People:
    """How many people have a name: about so many, and at least so many but for `FAILURE`."""

    about: float
    at_least: float


def slack(table: Table, asked: int = ASKED, failure: float = FAILURE) -> float:
    """What noise and other names add, at most, to the least of a name's counters.

    Where a name is counted is random and has nothing to do with what else is counted there. So a row adds t or more with the
    probability that one of its cells, drawn at random and with a random sign, holds as much; all rows do with the product of theirs.

    Args:
        table: shape (depth, width), in people.
        asked: names that are looked up.
        failure: the chance that the least counter of any of them is more than t too high.
    """
    _, width = table.shape
    sizes = np.sort(np.abs(table), axis=1)

    def fails(t: float) -> float:
        above = [width - int(np.searchsorted(row, t)) for row in sizes]
        return asked * float(np.prod([(count + 1) / (2 * width) for count in above]))

    low, high = 0.0, float(sizes.max()) + 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if fails(middle) > failure else (low, middle)
    return high


def people_with(table: Table, name: str, slack_of: float) -> People:
    """How many people have a name.

    Args:
        table: shape (depth, width), in people.
        name: whatever was counted.
        slack_of: of the table, from `slack`.
    """
    depth, width = table.shape
    columns, signs = sketch_places(name, depth, width)
    counters = table[np.arange(depth), columns] * signs
    return People(float(np.median(counters)), float(counters.min()) - slack_of)


def table_of(opened: Aggregate, task: Task) -> Table:
    """The counters of an opened sum, in people.

    Raises:
        RemoteError: `bad-sum`: the sum is not one of the task.
    """
    depth, width = task.sketch_depth, task.sketch_width
    fits = opened.task == task.task and opened.task_version == task.version and len(opened.sum) == 8 * depth * width
    if not fits or depth < 1 or not opened.scale > 0:
        raise RemoteError("an opened sum does not fit", reason="bad-sum", got=len(opened.sum), needed=8 * depth * width)
    return np.frombuffer(opened.sum, "<i8").reshape(depth, width) / opened.scale


@dataclass(slots=True)
class _Waiting:
    """A name that is not public yet: how it would be told, and the newest round to which it was contributed."""

    kind: str
    release: str
    count: int = 0
    asked_at: int = 0


class Emerging:
    """Takes events as `Client.record` does and tells them, but keeps signatures back that are not known to be public.

    Args:
        tell: takes what may leave: `Client.record`.
        public: signatures that are public already, as from an earlier run.
        people_min: see `PEOPLE_MIN`.

    Examples:
        >>> told = []
        >>> emerging = Emerging(lambda kind, items, **more: told.append(items), public=["sig:00112233445566ff"])
        >>> emerging("failure", ["sig:00112233445566ff"])
        >>> emerging("failure", ["sig:aaaaaaaaaaaaaaaa"])
        >>> told, emerging.waiting
        ([['sig:00112233445566ff']], ['sig:aaaaaaaaaaaaaaaa'])
    """

    def __init__(self, tell: "Tell", *, public: Iterable[str] = (), people_min: float = PEOPLE_MIN) -> None:
        self._tell = tell
        self._people_min = people_min
        self._lock = threading.Lock()
        self._public = dict.fromkeys(public)
        self._waiting: dict[str, _Waiting] = {}
        self._rounds = 0

    @property
    def waiting(self) -> list[str]:
        """Names that are kept back."""
        with self._lock:
            return list(self._waiting)

    @property
    def public(self) -> list[str]:
        """Names that may be told: keep them for the next run."""
        with self._lock:
            return list(self._public)

    def __call__(self, kind: str, items: list[str], *, release: str = "", count: int = 1, sketch: bytes = b"") -> None:
        """Take one event; what is not public of it waits."""
        with self._lock:
            held = [item for item in items if item.startswith(SIGNATURE) and item not in self._public]
            for name in held:
                self._hold(name, kind, release, count)
        free = [item for item in items if item not in held]
        if free:
            self._tell(kind, free, release=release, count=count, sketch=sketch)

    def provide(self, task: Task) -> list[str] | None:
        """What to contribute to a round, for `Client.allow`; None: nothing waits.

        As many names as fit the task's clip without being scaled down, those that have waited longest since they were contributed.

        Raises:
            LocalError: the task is no count sketch, or not even one name fits its clip.
        """
        if task.kind != "count-sketch":
            raise LocalError("signatures are counted in a sketch", got=task.kind, needed="count-sketch")
        fitting = int(task.clip**2 / task.sketch_depth + 1e-9)
        if fitting < 1:
            raise LocalError("no name fits the clip", got=task.clip, needed=f"≥ √{task.sketch_depth}")
        with self._lock:
            self._rounds += 1
            chosen = sorted(self._waiting, key=lambda name: (self._waiting[name].asked_at, name))[:fitting]
            for name in chosen:
                self._waiting[name].asked_at = self._rounds
        return chosen or None

    def learn(self, opened: Aggregate, task: Task) -> list[str]:
        """Look one's own names up in an opened sum; tells those that are public now, and returns them.

        Raises:
            RemoteError: the sum is not one of the task; nothing was learned.
        """
        table = table_of(opened, task)
        least = slack(table)
        with self._lock:
            names = [name for name in self._waiting if people_with(table, name, least).at_least >= self._people_min]
            told = [(name, self._waiting.pop(name)) for name in names]
            self._public.update(dict.fromkeys(names))
        for name, how in told:
            self._tell(how.kind, [name], release=how.release, count=how.count)
        return names

    def _hold(self, name: str, kind: str, release: str, count: int) -> None:
        held = self._waiting.get(name)
        if held is None:
            if len(self._waiting) >= NAMES_MAX:
                del self._waiting[min(self._waiting, key=lambda one: (self._waiting[one].count, one))]
            held = self._waiting[name] = _Waiting(kind, release)
        held.count += count
