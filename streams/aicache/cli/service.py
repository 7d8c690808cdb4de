"""How a command runs a service: until SIGTERM (exit code 0) or Ctrl-C (130), with its errors as every command has them.

The service works in a thread of its own, so that a signal is noticed at once whatever the service waits for; it is asked to stop
and gets `STOP_GRACE_S` to finish what it has begun. A service that has begun and then does not come round for `STUCK_S` is stuck: the
process ends, and a supervisor starts it again. Boundary: signals, one thread, the clock.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Annotated

import typer

from aicache.cli.frame import INTERRUPTED, OK, UNREACHABLE, print_json

STOP_GRACE_S = 15.0
POLL_S = 0.1
STUCK_S = 180.0
"""Longer than any wait in a service that has a bound of its own."""
EXIT_STUCK = 70
MetricsPort = Annotated[
    int, typer.Option(min=0, max=65_535, help="Serve /metrics, /live and /ready on 127.0.0.1 at this port; 0: off.")
]
Stop = Callable[[], bool]
Ready = Callable[[], None]


def serve(name: str, body: Callable[[Stop, Ready], object], *, as_json: bool = False, metrics_port: int = 0) -> None:
    """Run a service until it ends or is told to.

    Args:
        name: of the service, as in its line `ready NAME`.
        body: the service; it is given a function that says whether to stop, which it asks at least once a second, and one to call
            when it reads.
        as_json: say at the end, as one JSON line, how it ended.
        metrics_port: where to serve its health; 0: off, or the service does so itself.

    Raises:
        Exception: what ended the service, if anything did.
        typer.Exit: with the exit code, if a signal ended it.
    """
    told: list[int] = []
    stop = threading.Event()
    asked_s: list[float] = []

    def hear(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        stop.set()

    def asks() -> bool:
        asked_s[:] = [time.monotonic()]
        return stop.is_set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hear)
    failed: list[BaseException] = []
    with ExitStack() as held:
        ready = _ready(name, metrics_port, held)

        def work() -> None:
            try:
                body(asks, ready)
            except BaseException as error:  # handed to the main thread, which knows what each means
                failed.append(error)

        worker = threading.Thread(target=work, name="service", daemon=True)
        worker.start()
        while worker.is_alive() and not stop.is_set():
            worker.join(POLL_S)
            if asked_s and time.monotonic() - asked_s[0] > STUCK_S:
                sys.stderr.write(f"{name} has not come round for {STUCK_S:.0f} s: it is stuck and ends\n")
                os._exit(EXIT_STUCK)
        worker.join(STOP_GRACE_S)
    if as_json:
        print_json({"service": name, "state": "failed" if failed else "stopped"})
    if failed:
        raise failed[0]
    if worker.is_alive():
        sys.stderr.write(f"{name} did not finish within {STOP_GRACE_S:.0f} s and was left\n")
        raise typer.Exit(UNREACHABLE)
    raise typer.Exit(INTERRUPTED if told and told[0] == signal.SIGINT else OK)


def _ready(name: str, port: int, held: ExitStack) -> Ready:
    """What a service calls when it reads: tells whoever waits for the line, and whoever asks at the port."""
    if not port:
        return lambda: say_ready(name)
    from aicache.streams.runtime.metrics import Health, MetricsServer

    health = Health()
    held.callback(MetricsServer(health, port).close)

    def ready() -> None:
        health.ready = True
        say_ready(name)

    return ready


def say_ready(name: str) -> None:
    """The one line for which a supervisor waits."""
    sys.stdout.write(f"ready {name}\n")
    sys.stdout.flush()
