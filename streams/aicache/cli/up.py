"""`aicache up`: everything embedded on this machine, until Ctrl-C."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from aicache.cli.frame import Json, Options, options, print_json, registry_of, say

TERMINATED = 143
TICK, CROSS, DOT = "✓", "✗", "·"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("up")(up)


def up(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Option(help="Where data, keys and logs are kept; wins over local.folder.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Where Kafka listens on 127.0.0.1; wins over local.port.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only these services (repeat the option).")] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop as soon as everything is ready: a self-test.")] = False,
    as_json: Json = False,
) -> None:
    """Run Kafka and every service on this machine until Ctrl-C; other commands run here find it by themselves.

    A Kafka that is configured (kafka.bootstrap_servers) is used instead of the embedded one.

    Example: `aicache up`
    """
    from aicache.cli.settings import kafka_settings
    from aicache.local.deployment import Deployment, Plan

    loaded = options(context).load()
    settings = loaded.settings
    plan = Plan(
        folder=(folder or settings.local.folder).absolute(),
        members=settings.committee.members,
        threshold=settings.committee.threshold,
        services=tuple(only or ()),
        kafka=kafka_settings(settings) if settings.kafka.bootstrap_servers else None,
        prefix=settings.kafka.prefix,
        deployment=settings.kafka.deployment,
        port=settings.local.port if port is None else port,
        before=words_before(options(context), loaded.file),
        ready_timeout_s=settings.local.ready_timeout_s,
    )
    if settings.registry.url:
        from aicache.schemas.registry import register_all

        register_all(registry_of(settings))
    checklist = Checklist(as_json)
    signal.signal(signal.SIGTERM, _terminate)
    with Deployment(plan, checklist.note) as deployment:
        checklist.all_ready(deployment.kafka.bootstrap_servers, plan.folder)
        if not once:
            deployment.run()


def words_before(chosen: Options, file: Path | None) -> Sequence[str]:
    """What stands before each service's command so that it has the settings of this one (variables are inherited)."""
    words = ["--config", str(file.absolute())] if file is not None else []
    for key, value in chosen.flags.items():
        words += ["--set", f"{key}={value}"]
    return words


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


class Checklist:
    """Readiness, line by line, as it comes."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._began_s = time.monotonic()

    def note(self, name: str, what: str) -> None:
        """Something changed."""
        after_s = round(time.monotonic() - self._began_s, 1)
        if self._as_json:
            print_json({"name": name, "state": what, "after_s": after_s})
        elif what == "ready":
            say(f"  {TICK} {name:<18} ready after {after_s:5.1f} s")
        elif what == "failed":
            say(f"  {CROSS} {name:<18} ended; it is started again")

    def all_ready(self, address: str, folder: Path) -> None:
        """Everything reads."""
        after_s = round(time.monotonic() - self._began_s, 1)
        if self._as_json:
            print_json({"name": "all", "state": "ready", "after_s": after_s, "bootstrap_servers": address})
            return
        say(f"\nready after {after_s:.1f} s\n")
        say(f"  Kafka       {address}")
        say(f"  files       {folder}")
        say("  look        aicache topics list · aicache tail insights.aggregates · aicache doctor")
        say("  stop        Ctrl-C\n")
