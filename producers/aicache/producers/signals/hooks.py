"""Where signals come from: the interpreter's hooks for crashes, `logging`, and ASGI applications.

A hook never raises, never keeps what it watches from being reported as before, and tells at most `TOLD_MAX` events a minute.
Invariant: only what `signature` gives, and the operation that the caller named, reaches `tell`.
"""

import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

from aicache.producers.signals.durations import Durations
from aicache.producers.signals.stacks import signature

TOLD_MAX = 60
TOLD_PERIOD_S = 60.0


class Tell(Protocol):
    """What takes an event: `Client.record`, or anything like it."""

    def __call__(self, kind: str, items: list[str], *, release: str = "", count: int = 1, sketch: bytes = b"") -> Any:
        """Take one event; raising means that it was not taken."""


class CrashTeller:
    """Tells exceptions by their signature.

    Args:
        tell: takes the events.
        salt: the deployment's.
        public: normalised names of distributions whose code anybody can read.
        clock: seconds that only rise.
    """

    def __init__(
        self, tell: Tell, *, salt: bytes, public: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._salt = salt
        self._public = frozenset(public)
        self._clock = clock
        self._since_s = clock()
        self._told = 0
        self.lost = 0
        """Exceptions that were not told: too many, or not taken."""

    def __call__(self, error: BaseException) -> None:
        """Tell one exception; whatever goes wrong with that is counted, not raised."""
        now_s = self._clock()
        if now_s - self._since_s >= TOLD_PERIOD_S:
            self._since_s, self._told = now_s, 0
        if self._told >= TOLD_MAX:
            self.lost += 1
            return
        self._told += 1
        try:
            seen = signature(error, salt=self._salt, public=self._public)
            self._tell("failure", [seen.item], release=seen.release)
        except Exception:  # a crash reporter that crashes would hide the crash
            self.lost += 1


def watch_crashes(tell: Tell, *, salt: bytes, public: Collection[str]) -> Callable[[], None]:
    """Tell every exception that ends the program or a thread, and then let it be reported as before.

    Returns:
        What undoes it.
    """
    teller = CrashTeller(tell, salt=salt, public=public)
    program, thread = sys.excepthook, threading.excepthook

    def of_program(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        if not issubclass(kind, KeyboardInterrupt | SystemExit):
            teller(error)
        program(kind, error, traceback)

    def of_thread(args: Any) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            teller(args.exc_value)
        thread(args)

    def undo() -> None:
        if sys.excepthook is of_program:
            sys.excepthook = program
        if threading.excepthook is of_thread:
            threading.excepthook = thread

    sys.excepthook, threading.excepthook = of_program, of_thread
    return undo


class CrashHandler(logging.Handler):
    """Tells the exceptions that are logged with their traceback; texts and arguments of records are not looked at.

    Examples:
        >>> told = []
        >>> handler = CrashHandler(lambda kind, items, **more: told.append(kind), salt=b"s", public=())
        >>> logger = logging.getLogger("doctest")
        >>> logger.addHandler(handler)
        >>> logger.propagate = False
        >>> try:
        ...     1 / 0
        ... except ZeroDivisionError:
        ...     logger.exception("secret")
        >>> told
        ['failure']
    """

    def __init__(self, tell: Tell, *, salt: bytes, public: Collection[str], level: int = logging.ERROR) -> None:
        super().__init__(level)
        self.teller = CrashTeller(tell, salt=salt, public=public)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self.teller(error)


Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]


class Asgi:
    """An ASGI application whose crashes and durations are told; of a request nothing is looked at, not even its path.

    Args:
        app: the application.
        tell: takes the events.
        operation: a public name for all that it does, as in `op:serve`.
        salt, public: see `watch_crashes`.
    """

    def __init__(
        self, app: Application, tell: Tell, *, operation: str, salt: bytes, public: Collection[str], release: str = ""
    ) -> None:
        self._app = app
        self._operation = operation
        self._release = release
        self._teller = CrashTeller(tell, salt=salt, public=public)
        self.durations = Durations(tell)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope.get("type") != "http":
            await self._app(scope, receive, send)
            return
        try:
            with self.durations.time(self._operation, self._release):
                await self._app(scope, receive, send)
        except Exception as error:
            self._teller(error)
            raise
