"""How a command runs a service: until SIGTERM (exit code 0) or Ctrl-C (130), with its errors as every command has them.

The service works in a thread of its own, so that a signal is noticed at once whatever the service waits for; it is asked to stop
and gets `STOP_GRACE_S` to finish what it has begun. Boundary: signals and one thread.
"""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import typer

from aicache.cli.frame import INTERRUPTED, OK, UNREACHABLE, print_json

STOP_GRACE_S = 15.0
POLL_S = 0.1


def serve(name: str, body: Callable[[Callable[[], bool]], object], *, as_json: bool = False) -> None:
    """Run a service until it ends or is told to.

    Args:
        name: of the service, as in its line `ready NAME`.
        as_json: say at the end, as one JSON line, how it ended.
        body: the service; it is given a function that says whether to stop, and asks it at least once a second.

    Raises:
        Exception: what ended the service, if anything did.
        typer.Exit: with the exit code, if a signal ended it.
    """
    told: list[int] = []
    stop = threading.Event()

    def hear(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hear)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            body(stop.is_set)
        except BaseException as error:  # handed to the main thread, which knows what each means
            failed.append(error)

    worker = threading.Thread(target=work, name="service", daemon=True)
    worker.start()
    while worker.is_alive() and not stop.is_set():
        worker.join(POLL_S)
    worker.join(STOP_GRACE_S)
    if as_json:
        print_json({"service": name, "state": "failed" if failed else "stopped"})
    if failed:
        raise failed[0]
    if worker.is_alive():
        sys.stderr.write(f"{name} did not finish within {STOP_GRACE_S:.0f} s and was left\n")
        raise typer.Exit(UNREACHABLE)
    raise typer.Exit(INTERRUPTED if told and told[0] == signal.SIGINT else OK)


def say_ready(name: str) -> None:
    """The one line for which a supervisor waits."""
    sys.stdout.write(f"ready {name}\n")
    sys.stdout.flush()
