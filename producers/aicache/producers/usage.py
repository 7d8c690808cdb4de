"""What a client tells about use: anonymized before it is even queued. Pure but for the queue itself.

Only named fields leave, each checked against its form: public names in known namespaces, words of closed vocabularies, times rounded
down, versions cut. Free text has no field. The queue is bounded: a full one is an error for the caller, never a silent loss.
"""

import re
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aicache.privacy import anonymize
from aicache.privacy.errors import LocalError
from aicache.schemas.records import UsageBatch, UsageEvent


def _words(text: str) -> frozenset[str]:
    """A closed vocabulary; the empty word stands for unknown."""
    return frozenset(text.split()) | {""}


KINDS = frozenset({"used", "shown", "taken", "dismissed", "failure", "success", "duration", "finding"})
LANGUAGES = _words(
    "c cpp csharp css dart elixir fortran go haskell html java javascript julia kotlin lua matlab objective-c ocaml perl php "
    "powershell python r ruby rust scala shell sql swift typescript"
)
FRAMEWORKS = _words(
    "angular aspnet django express fastapi flask flutter jax keras laravel nextjs node numpy pandas pytorch rails react spark "
    "spring svelte tensorflow vue"
)
OS_FAMILIES = _words("linux macos windows bsd android ios")
TASKS = _words("build debug deploy edit install lint review run test")
DAYTIMES = ("night", "morning", "afternoon", "evening")
"""Quarters of a working day, from midnight on; Saturdays and Sundays are one whole, the weekend."""
OFFSET_MAX_S = 14 * 3_600
QUEUE_EVENTS_MAX = 10_000
WAIT_MS_MAX = 2_000
"""An event that has waited so long is published, with whatever else waits, though it fills no batch."""
BATCH_EVENTS_MAX = 100
ITEMS_MAX = 64
PURPOSE = "usage"
ANSWER = re.compile(r"([0-9]{1,5}/[0-9]{1,19})?")
PERIODS_ERASED = 2
"""Periods whose pseudonyms are erased: the log keeps a week, and periods are as long unless the rules say otherwise."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Where things happen; every word is of a closed vocabulary, empty where it is unknown.

    Attributes:
        language, framework, os_family, task: see the vocabularies of this module.
        tool: name@version of the tool that the client is part of; the version is cut to two numbers.
        utc_offset_s: seconds by which clocks here are ahead of UTC. It never leaves, but with it a word for the time of day does, and from
            the two together the offset can be told. None: neither leaves.
    """

    language: str = ""
    framework: str = ""
    os_family: str = ""
    task: str = ""
    tool: str = ""
    utc_offset_s: int | None = None

    def __post_init__(self) -> None:
        if self.utc_offset_s is not None and abs(self.utc_offset_s) > OFFSET_MAX_S:
            raise LocalError("no clock is so far from UTC", got=self.utc_offset_s, needed=f"within ±{OFFSET_MAX_S} s")
        anonymize.check_word(self.language, LANGUAGES)
        anonymize.check_word(self.framework, FRAMEWORKS)
        anonymize.check_word(self.os_family, OS_FAMILIES)
        anonymize.check_word(self.task, TASKS)

    def daytime(self, time_s: int) -> str:
        """The word for a time in Unix seconds; empty where the time of day is kept."""
        if self.utc_offset_s is None:
            return ""
        day, second = divmod(time_s + self.utc_offset_s, 86_400)
        weekend = (day + 3) % 7 >= 5  # day 0 was a Thursday
        return "weekend" if weekend else DAYTIMES[second // (86_400 // len(DAYTIMES))]


@dataclass(frozen=True, slots=True)
class Rules:
    """How usage is anonymized.

    Attributes:
        time_step_s: times are rounded down to multiples of this.
        period_ms: pseudonyms change after this long.
        version_parts: numbers of a version that are kept.
        allowed: the only public names that may leave; None: the form decides.
    """

    time_step_s: int = 300
    period_ms: int = 7 * 86_400_000
    version_parts: int = 2
    allowed: frozenset[str] | None = None


def make_event(
    kind: str,
    items: Sequence[str],
    *,
    time_s: int,
    rules: Rules,
    context: Sequence[str] = (),
    release: str = "",
    count: int = 1,
    sketch: bytes = b"",
    position: int = -1,
    propensity: float = 0.0,
    answer: str = "",
) -> UsageEvent:
    """An anonymized event.

    Args:
        kind: one of `KINDS`.
        items: public names with their namespace.
        time_s: when, Unix seconds.
        rules: how it is anonymized.
        context: recent items, newest last.
        release: name@version that it happened with.
        count: how many alike.
        sketch: durations.
        position: rank of what was shown, from 0.
        propensity: probability with which it was shown there.
        answer: which answer it speaks of, as partition/offset of the usage record that the answer followed.

    Raises:
        LocalError: something is not of the form that may leave; the text does not quote it.
    """
    if kind not in KINDS:
        raise LocalError("not a kind of event", got=len(kind), needed=sorted(KINDS))
    if len(items) > ITEMS_MAX or len(context) > ITEMS_MAX or not items:
        raise LocalError("an event names 1 to 64 items", got=(len(items), len(context)), needed=(1, ITEMS_MAX))
    if count < 1 or not 0.0 <= propensity <= 1.0:
        raise LocalError("counts are at least 1, propensities 0 to 1", got=(count, propensity), needed=(1, "0 … 1"))
    if not ANSWER.fullmatch(answer):
        raise LocalError("not the name of an answer", got=len(answer), needed="partition/offset, or empty")
    return UsageEvent(
        kind=kind,
        time_s=anonymize.generalise_time(time_s, rules.time_step_s),
        items=[anonymize.check_item(item, rules.allowed) for item in items],
        context=[anonymize.check_item(item, rules.allowed) for item in context],
        release=anonymize.generalise_release(release, rules.version_parts),
        count=count,
        sketch=sketch,
        position=position,
        propensity=propensity,
        answer=answer,
    )


class UsageQueue:
    """Events that wait to be published, and the batches that they become.

    Args:
        deployment: of the records.
        pseudonym_key: the client's.
        situation: where its events happen.
        rules: how they are anonymized.
    """

    def __init__(self, deployment: str, pseudonym_key: bytes, situation: Situation, rules: Rules) -> None:
        self.deployment = deployment
        self.situation = situation
        self.rules = rules
        self._key = pseudonym_key
        self._lock = threading.Lock()
        self._events: deque[UsageEvent] = deque()
        self._again: deque[UsageBatch] = deque()
        self._on_the_way = 0
        self._since_ms: int | None = None
        self._sequences: dict[int, int] = {}
        self._answers_of = -1

    def __len__(self) -> int:
        return len(self._events) + sum(len(batch.events) for batch in list(self._again)) + self._on_the_way

    @property
    def waiting(self) -> int:
        """Events that are in no batch yet."""
        return len(self._events)

    def put(self, events: Iterable[UsageEvent], now_ms: int | None = None) -> None:
        """Queue events, all or none.

        Args:
            events: what happened.
            now_ms: since when they wait; names of answers among them go out under the pseudonym of this time, or not at all.

        Raises:
            LocalError: the queue is full: nothing was queued.
        """
        events = list(events)
        with self._lock:
            if len(self) + len(events) > QUEUE_EVENTS_MAX:
                raise LocalError(
                    "the queue of usage events is full: the broker is away, or more is recorded than it takes",
                    got=len(self) + len(events),
                    needed=f"≤ {QUEUE_EVENTS_MAX}",
                )
            if now_ms is not None and any(event.answer for event in events):
                self._hold_answers_to(anonymize.period_of(now_ms, self.rules.period_ms))
            if not self._events:
                self._since_ms = now_ms
            self._events.extend(events)

    def overdue(self, now_ms: int) -> bool:
        """Whether something has waited for `WAIT_MS_MAX`, or comes again because it was not delivered."""
        waits = bool(self._events) and self._since_ms is not None and now_ms - self._since_ms >= WAIT_MS_MAX
        return waits or bool(self._again)

    def _hold_answers_to(self, period: int) -> None:
        """Take the names of answers out of queued events of another period: they would link two pseudonyms."""
        if period != self._answers_of:
            self._events = deque(replace(event, answer="") if event.answer else event for event in self._events)
            self._answers_of = period

    def pseudonyms(self, now_ms: int) -> list[bytes]:
        """The client's names in this period and those before of which the log may still hold something, newest first."""
        newest = anonymize.period_of(now_ms, self.rules.period_ms)
        periods = range(newest, max(newest - PERIODS_ERASED, -1), -1)
        return [anonymize.pseudonym(self._key, PURPOSE, period) for period in periods]

    def pseudonym(self, now_ms: int) -> bytes:
        """The client's name now."""
        return anonymize.pseudonym(self._key, PURPOSE, anonymize.period_of(now_ms, self.rules.period_ms))

    def batch(self, now_ms: int) -> UsageBatch | None:
        """Take the next events out, as one record under today's pseudonym; None where there are none.

        What could not be delivered comes first, as the very record that it was. Until `delivered` or `failed` is called for it, a
        batch counts as queued.
        """
        with self._lock:
            batch = self._again.popleft() if self._again else self._next(now_ms)
            self._on_the_way += 0 if batch is None else len(batch.events)
            return batch

    def _next(self, now_ms: int) -> UsageBatch | None:
        if not self._events:
            return None
        period = anonymize.period_of(now_ms, self.rules.period_ms)
        self._hold_answers_to(period)
        sequence = self._sequences.get(period, 0)
        self._sequences = {period: sequence + 1}
        daytime = self.situation.daytime(self._events[0].time_s)
        events: list[UsageEvent] = []
        while self._events and len(events) < BATCH_EVENTS_MAX:
            if self.situation.daytime(self._events[0].time_s) != daytime:
                break  # what comes next was at another time of day
            events.append(self._events.popleft())
        name, at, version = self.situation.tool.rpartition("@")
        tool = (
            f"{name}@{anonymize.generalise_version(version, self.rules.version_parts)}" if at else self.situation.tool
        )
        return UsageBatch(
            deployment=self.deployment,
            pseudonym=self.pseudonym(now_ms),
            period=period,
            sequence=sequence,
            language=self.situation.language,
            framework=self.situation.framework,
            os_family=self.situation.os_family,
            task=self.situation.task,
            tool=tool,
            events=events,
            daytime=daytime,
        )

    def delivered(self, batch: UsageBatch) -> None:
        """The broker has it."""
        with self._lock:
            self._on_the_way -= len(batch.events)

    def failed(self, batch: UsageBatch) -> None:
        """The broker does not have it, as far as is known: it comes again, so that nothing is lost."""
        with self._lock:
            self._on_the_way -= len(batch.events)
            self._again.append(batch)
