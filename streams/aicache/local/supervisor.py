"""Keep the services of one machine running: start, wait until ready, restart with back-off and a bound, stop in order.

A service is a command that prints one line `ready NAME` on its standard output as soon as it reads, and that exits with
an error when the infrastructure fails it. Each runs under the guard (guard.py): nothing outlives this process.

Invariant: a service that fails more than `RESTARTS_MAX` times in `RESTART_WINDOW_S` ends the deployment with an error that
names it: a broken one is seen, not hidden behind restarts. Boundary: processes and files; `step` is given the time.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from aicache.local import guard
from aicache.privacy.errors import AicacheError, LocalError

POLL_S = 0.05
BACK_OFF_FIRST_S = 0.5
BACK_OFF_MAX_S = 10.0
RESTARTS_MAX = 5
RESTART_WINDOW_S = 60.0
STOP_GRACE_S = 10.0
LOG_TAIL_LINES = 15
TERMINAL_CODES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x08")  # Faust hides and shows the cursor, in a file too
LOG_BYTES_MAX = 64 * 1024 * 1024  # a log that grew past this is begun again when its service starts


class ServiceFailedError(AicacheError):
    """A service did not become ready, or failed too often."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the deployment.

    Args:
        name: unique, as in its line `ready NAME`.
        command: program and arguments.
        env: variables on top of this process's.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class _Running:
    service: Service
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    said: int = 0  # where in the log its present life begins
    started_s: float = 0.0
    failures_s: list[float] = field(default_factory=list)
    restart_at_s: float | None = None


class Supervisor:
    """The services of one machine.

    Args:
        folder: for logs (`NAME.log`) and process ids (`NAME.pid`).
        ready_timeout_s: how long a service may take to say that it is ready.
        on_change: called with (service name, "started" | "ready" | "failed" | "stopped").
    """

    def __init__(
        self,
        folder: Path,
        *,
        ready_timeout_s: float = 60.0,
        on_change: Callable[[str, str], None] = lambda _name, _what: None,
    ) -> None:
        self._folder = folder
        self._ready_timeout_s = ready_timeout_s
        self._on_change = on_change
        self._running: dict[str, _Running] = {}

    def start(self, services: Sequence[Service]) -> None:
        """Start them all at once.

        Raises:
            LocalError: two of one name.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for service in services:
            if service.name in self._running:
                raise LocalError(f"two services are called {service.name}", got=service.name, needed="different names")
            self._running[service.name] = _Running(service)
        for service in services:
            self._spawn(self._running[service.name], time.monotonic())

    def wait_until_ready(self) -> None:
        """Step until every service reads.

        Raises:
            ServiceFailedError: one did not in time; says how its log ends.
        """
        while not self.all_ready():
            self.step(time.monotonic())
            time.sleep(POLL_S)

    def run(self, until: Callable[[], bool]) -> None:
        """Keep them running until told otherwise."""
        while not until():
            self.step(time.monotonic())
            time.sleep(POLL_S)

    def step(self, now_s: float) -> None:
        """Look at every service once: note readiness, restart what ended.

        Raises:
            ServiceFailedError: one failed too often, or was not ready in time.
        """
        for item in self._running.values():
            if item.restart_at_s is not None:
                if now_s >= item.restart_at_s:
                    self._spawn(item, now_s)
            elif item.process is not None and item.process.poll() is not None:
                self._note_failure(item, now_s)
            elif not item.ready:
                self._look_for_readiness(item, now_s)

    def all_ready(self) -> bool:
        """Whether every service reads."""
        return all(item.ready for item in self._running.values())

    def states(self) -> dict[str, str]:
        """Service → "ready", "starting" or "waiting" (for its restart)."""
        return {
            name: "ready" if item.ready else "waiting" if item.restart_at_s is not None else "starting"
            for name, item in self._running.items()
        }

    def restarts(self) -> int:
        """How often any service was restarted lately."""
        return sum(len(item.failures_s) for item in self._running.values())

    def pid(self, name: str) -> int | None:
        """The process of a service (not of its guard), or None while it has none."""
        with contextlib.suppress(OSError, ValueError):
            return int((self._folder / f"{name}.pid").read_text())
        return None

    def log_file(self, name: str) -> Path:
        """What a service said."""
        return self._folder / f"{name}.log"

    def stop(self) -> None:
        """End them all, the last started first; harmless when none runs."""
        items = [item for item in reversed(self._running.values()) if item.process is not None]
        for item in items:
            assert item.process is not None
            with contextlib.suppress(ProcessLookupError):
                item.process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_GRACE_S
        for item in items:
            assert item.process is not None
            try:
                item.process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                item.process.kill()  # the kernel then ends what it guarded
                item.process.wait()
            self._release(item)
            self._on_change(item.service.name, "stopped")
        self._running.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, item: _Running, now_s: float) -> None:
        name = item.service.name
        path = self.log_file(name)
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.unlink()
        with path.open("ab") as log:
            item.said = log.tell()
            item.process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(self._folder / f"{name}.pid"), *item.service.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **item.service.env},
                start_new_session=True,  # a Ctrl-C in the terminal is for this process, which then ends them in order
            )
        item.ready, item.restart_at_s, item.started_s = False, None, now_s
        self._on_change(name, "started")

    def _look_for_readiness(self, item: _Running, now_s: float) -> None:
        name = item.service.name
        with self.log_file(name).open("rb") as log:
            log.seek(item.said)
            item.ready = f"ready {name}".encode() in TERMINAL_CODES.sub(b"", log.read()).splitlines()
        if item.ready:
            self._on_change(name, "ready")
        elif now_s - item.started_s > self._ready_timeout_s:
            raise ServiceFailedError(
                f"{name} was not ready after {self._ready_timeout_s:.0f} s; {self._log_end(name)}",
                got="not ready",
                needed=f"the line `ready {name}`",
            )

    def _note_failure(self, item: _Running, now_s: float) -> None:
        assert item.process is not None
        name, code = item.service.name, item.process.returncode
        self._release(item)
        item.ready = False
        item.failures_s = [at for at in item.failures_s if now_s - at < RESTART_WINDOW_S] + [now_s]
        self._on_change(name, "failed")
        if len(item.failures_s) > RESTARTS_MAX:
            raise ServiceFailedError(
                f"{name} ended {len(item.failures_s)} times in {RESTART_WINDOW_S:.0f} s, last with exit code {code}; "
                f"{self._log_end(name)}",
                got=code,
                needed="a service that stays",
            )
        item.restart_at_s = now_s + back_off_s(len(item.failures_s))

    def _release(self, item: _Running) -> None:
        if item.process is not None and item.process.stdin is not None:
            item.process.stdin.close()
        item.process = None

    def _log_end(self, name: str) -> str:
        path = self.log_file(name)
        lines = path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return f"its log {path} ends with:\n" + "\n".join(lines)


def back_off_s(failures: int) -> float:
    """How long to wait before a restart: doubling from the first, with a bound. Pure."""
    return float(min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2 ** (failures - 1)))
