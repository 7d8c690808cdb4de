"""The commands, put together. Each group is a file beside this one and imports its feature only when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from aicache.cli import (
    committee,
    config,
    coordinator,
    dead_letters,
    demo,
    doctor,
    enrol,
    incidents,
    join,
    privacy,
    recommendations,
    reducer,
    rounds,
    tail,
    tasks,
    topics,
    up,
    verify,
    worker,
)
from aicache.cli.frame import FAILED, USAGE, Options, run_guarded
from aicache.privacy.errors import LocalError

EPILOG = "Exit codes: 0 done, 1 check failed, 2 usage or configuration, 3 Kafka unreachable, 4 extra missing, 130 interrupted."

app = typer.Typer(
    name="aicache",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    context: typer.Context,
    config_file: Annotated[
        Path | None, typer.Option("--config", "-c", help="The file to read instead of ./aicache.toml.", metavar="FILE")
    ] = None,
    kafka: Annotated[
        str, typer.Option("--kafka", "-k", help="Kafka's address; wins over the file.", metavar="HOST:PORT")
    ] = "",
    prefix: Annotated[
        str, typer.Option("--prefix", help="The topic prefix; wins over the file.", metavar="NAME.")
    ] = "",
    setting: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Any setting; wins over the file.", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Developers' tools learn together over Kafka, and nobody sees anybody's code or habits.

    Example: `aicache --kafka localhost:9092 doctor`
    """
    flags = {}
    for item in setting or []:
        key, equals, value = item.partition("=")
        if not equals or "." not in key:
            raise LocalError(
                f"--set {item}: write KEY=VALUE, as in --set client.n_min=200", got=item, needed="KEY=VALUE"
            )
        flags[key.strip()] = value
    if kafka:
        flags["kafka.bootstrap_servers"] = kafka
    if prefix:
        flags["kafka.prefix"] = prefix
    context.obj = Options(config_file, flags)


GROUPS = (
    demo,
    committee,
    config,
    coordinator,
    dead_letters,
    doctor,
    enrol,
    incidents,
    join,
    privacy,
    recommendations,
    reducer,
    rounds,
    tail,
    tasks,
    topics,
    up,
    verify,
    worker,
)
for group in GROUPS:
    group.register(app)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""

    def body() -> int:
        try:
            app(arguments, prog_name="aicache")
        except SystemExit as leaving:
            code = leaving.code
            return code if isinstance(code, int) else FAILED if code else 0
        return 0

    code = run_guarded(body)
    assert 0 <= code <= USAGE or code
    return code
