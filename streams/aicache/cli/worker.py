"""`aicache worker run NAME`: the processors of the data plane, as many processes as there are partitions."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aicache.cli.frame import Json, kafka_of
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.producers.connection import KafkaSettings

Body = Callable[[Callable[[], bool]], object]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Run a processor of usage events.")
    group.callback()(_group)
    group.command("run")(run)
    app.add_typer(group, name="worker")


def _group() -> None:
    """Run a processor of usage events."""


def run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="recommendations.")],
    instance: Annotated[
        str, typer.Option(help="A name that no other worker of this kind has: a restart rejoins at once.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C; prints `ready NAME` when it has its partitions.

    Example: `aicache worker run recommendations`
    """
    from aicache.cli.service import serve

    if name not in WORKERS:
        raise LocalError(f"there is no worker {name}", got=name, needed=", ".join(WORKERS))
    serve(name, WORKERS[name](kafka_of(context), name, instance or None), as_json=as_json)


def _direct(fold: "Any", kafka: "KafkaSettings", name: str, instance: str | None) -> Body:
    from aicache.cli.service import say_ready
    from aicache.streams.runtime.direct import DirectShell

    shell = DirectShell(fold, kafka, instance=instance)
    return lambda stop: shell.run(stop, lambda: say_ready(name))


def _recommendations(kafka: "KafkaSettings", name: str, instance: str | None) -> Body:
    from aicache.streams.recommendations.logic import Recommendations

    return _direct(Recommendations(), kafka, name, instance)


WORKERS: dict[str, Callable[["KafkaSettings", str, str | None], Body]] = {"recommendations": _recommendations}
