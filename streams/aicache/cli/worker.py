"""`aicache worker run NAME`: the processors of the data plane, as many processes as there are partitions."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aicache.cli.frame import Json, kafka_of, print_json, settings_of
from aicache.cli.service import MetricsPort
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.producers.connection import KafkaSettings


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
    name: Annotated[
        str, typer.Argument(help="recommendations, merging, private-tables, anomalies, incidents or trends.")
    ],
    instance: Annotated[
        str, typer.Option(help="A name that no other worker of this kind has: a restart rejoins at once.")
    ] = "",
    metrics_port: MetricsPort = 0,
    let_fail: Annotated[
        int,
        typer.Option(
            min=0,
            help="So many inputs of each partition may fail before the breaker looks: use it once, when the inputs are bad "
            "and not the processor.",
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C; prints `ready NAME` when it has its partitions.

    Example: `aicache worker run recommendations`
    """
    if name not in WORKERS:
        raise LocalError(f"there is no worker {name}", got=name, needed=", ".join(WORKERS))
    # Before NumPy is loaded. Sums over several threads come out in another order, and with them the last bits of what is learned:
    # with one, a replay gives the same bytes, and workers on one machine do not compete for its cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from aicache.streams.runtime.logs import write_json_logs

    try:
        write_json_logs()
        how = {"instance": instance or None, "metrics_port": metrics_port, "let_fail": let_fail}
        WORKERS[name](context, name, how)
    finally:
        if as_json:
            print_json({"service": name, "state": "stopped"})


def _direct(fold: Any, kafka: "KafkaSettings", name: str, how: Mapping[str, Any]) -> None:
    """The data plane: batches by confluent-kafka."""
    from aicache.cli.service import serve
    from aicache.streams.runtime.direct import DirectShell

    shell = DirectShell(fold, kafka, **how)
    serve(name, shell.run)


def _recommendations(context: typer.Context, name: str, how: Mapping[str, Any]) -> None:
    from aicache.streams.recommendations.combination import load_loops
    from aicache.streams.recommendations.feedback import Policy
    from aicache.streams.recommendations.logic import Recommendations
    from aicache.streams.runtime.logs import log

    chosen, kafka = settings_of(context).recommendations, kafka_of(context)
    log(
        "loading compiled loops", processor=name, hint="the first start on a machine compiles them, which takes seconds"
    )
    load_loops()
    policy = Policy(chosen.bandit, chosen.exploration)
    _direct(Recommendations(policy), kafka, name, how)


def _merging(context: typer.Context, name: str, how: Mapping[str, Any]) -> None:
    from aicache.streams.recommendations.merging import Merging

    _direct(Merging(), kafka_of(context), name, how)


def _private_tables(context: typer.Context, _name: str, how: Mapping[str, Any]) -> None:
    from aicache.streams.recommendations import agents

    agents.run_private_tables(kafka_of(context), **how)


def _anomalies(context: typer.Context, name: str, how: Mapping[str, Any]) -> None:
    from aicache.streams.anomalies.logic import Anomalies

    _direct(Anomalies(), kafka_of(context), name, how)


def _incidents(context: typer.Context, _name: str, how: Mapping[str, Any]) -> None:
    from aicache.streams.anomalies import agents

    agents.run_incidents(kafka_of(context), **how)


def _trends(context: typer.Context, _name: str, how: Mapping[str, Any]) -> None:
    from aicache.streams.anomalies import agents

    agents.run_trends(kafka_of(context), **how)


# Private tables, incidents and trends run on Faust, which has signals of its own.
WORKERS: dict[str, Callable[[typer.Context, str, Mapping[str, Any]], None]] = {
    "recommendations": _recommendations,
    "merging": _merging,
    "private-tables": _private_tables,
    "anomalies": _anomalies,
    "incidents": _incidents,
    "trends": _trends,
}
