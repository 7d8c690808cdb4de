"""`aicache reducer run`: the service that adds ciphertexts and opens sums."""

import typer

from aicache.cli.frame import Json, kafka_of
from aicache.cli.service import MetricsPort

NAME = "reducer"


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Run the reducer: it adds ciphertexts and opens sums.")
    group.callback()(_group)
    group.command("run")(run)
    app.add_typer(group, name="reducer")


def _group() -> None:
    """Run the reducer: it adds ciphertexts and opens sums."""


def run(context: typer.Context, metrics_port: MetricsPort = 0, as_json: Json = False) -> None:
    """Run the reducer until SIGTERM or Ctrl-C; prints `ready reducer` when it has read what stood in the log.

    Example: `aicache reducer run`
    """
    from aicache.cli.service import serve
    from aicache.streams.reducer import kafka as reducer

    kafka = kafka_of(context)
    serve(
        NAME,
        lambda stop, ready: reducer.run(kafka, stop=stop, on_ready=ready),
        as_json=as_json,
        metrics_port=metrics_port,
    )
