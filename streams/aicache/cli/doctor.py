"""`aicache doctor`: what is wrong, and what to run."""

from typing import Annotated

import typer

from aicache.cli.frame import FAILED, UNREACHABLE, Json, kafka_of, print_json, say, settings_of
from aicache.privacy.errors import LocalError

MARKS = {"ok": "✓", "warning": "!", "failed": "✗"}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("doctor")(doctor)


def doctor(
    context: typer.Context,
    timeout: Annotated[float, typer.Option(help="How long Kafka may take to answer, in seconds.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Look at everything that usually is wrong, and say what to run; nothing is changed.

    Exit code 1 if something failed, 3 if Kafka does not answer.

    Example: `aicache doctor`
    """
    from aicache.local.doctor import BAD, examine

    settings = settings_of(context)
    try:
        kafka = kafka_of(context, reach=False)
    except LocalError:
        if settings.kafka.bootstrap_servers:
            raise
        kafka = None
    checks = []
    for item in examine(kafka, settings.local.folder, timeout):
        checks.append(item)
        if not as_json:
            say(
                f"{MARKS[item.status]} {item.name:<16} {item.found}"
                + (f"\n  {'':<16} → {item.advice}" if item.advice else "")
            )
    if as_json:
        print_json(checks)
    bad = [item for item in checks if item.status == BAD]
    if bad:
        raise typer.Exit(UNREACHABLE if any(item.unreachable for item in bad) else FAILED)
