"""`aicache coordinator run`: the service that opens rounds, lists who counts, and closes them."""

from pathlib import Path
from typing import Annotated

import typer

from aicache.cli.committee import identities_of
from aicache.cli.frame import Json, kafka_of, print_json, settings_of
from aicache.cli.service import MetricsPort


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Run the coordinator: it opens and closes the rounds.")
    group.callback()(_group)
    group.command("run")(run)
    app.add_typer(group, name="coordinator")


def _group() -> None:
    """Run the coordinator: it opens and closes the rounds."""


def run(
    context: typer.Context,
    identities: Annotated[
        Path | None, typer.Option(help="Members' identities (JSON: number to key); others are refused.")
    ] = None,
    metrics_port: MetricsPort = 0,
    as_json: Json = False,
) -> None:
    """Run the coordinator until SIGTERM or Ctrl-C; prints `ready coordinator` when it reads.

    It enrols clients as operator.admission says, with operator.key.

    Example: `aicache coordinator run`
    """
    from aicache.local import operator
    from aicache.streams.rounds import agents
    from aicache.streams.rounds.enrolment import Admission

    settings = settings_of(context)
    admission = Admission(
        settings.operator.admission, settings.operator.clients_max, operator.load(settings.operator.key)
    )
    known = identities_of(identities) if identities else None
    kafka = kafka_of(context)
    try:
        agents.run(kafka, admission, known, metrics_port=metrics_port)
    finally:
        if as_json:
            print_json({"service": "coordinator", "state": "stopped"})
