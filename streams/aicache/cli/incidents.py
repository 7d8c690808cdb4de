"""`aicache incidents …`: what broke or slowed down."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from aicache.cli.frame import Json, kafka_of, print_json, print_rows, print_table
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.producers.connection import KafkaSettings
    from aicache.schemas.records import Incident

COLUMNS = ("incident", "status", "kind", "subject", "release", "seen", "expected", "unit", "severity", "since")


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="See what broke or slowed down.")
    group.command("list")(list_incidents)
    group.command("show")(show)
    app.add_typer(group, name="incidents")


def list_incidents(
    context: typer.Context,
    resolved: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    as_json: Json = False,
) -> None:
    """List incidents, the newest last.

    Example: `aicache incidents list`
    """
    found = [item for item in _incidents(kafka_of(context)) if resolved or item.status != "resolved"]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            item.incident,
            item.status,
            item.kind,
            item.subject,
            item.release,
            f"{item.seen:.4g}",
            f"{item.expected:.4g}",
            item.unit,
            f"{item.severity:.2f}",
            datetime.fromtimestamp(item.since_s, UTC).strftime("%Y-%m-%d %H:%M"),
        )
        for item in found
    ]
    print_rows(COLUMNS, rows, as_json=False, empty="No incident." if resolved else "No open incident.")


def show(
    context: typer.Context,
    incident: Annotated[str, typer.Argument(help="The beginning of its id.")],
    as_json: Json = False,
) -> None:
    """Show one incident: what was seen against what was expected, since when, for which releases, how sure.

    Example: `aicache incidents show 4be1`
    """
    fitting = [item for item in _incidents(kafka_of(context)) if item.incident.startswith(incident)]
    if len(fitting) != 1:
        raise LocalError(f"{incident} means {len(fitting)} incidents", got=incident, needed="the beginning of one id")
    if as_json:
        print_json(fitting[0])
        return
    record = fitting[0]
    rows = [(name, getattr(record, name)) for name in record.__dataclass_fields__ if name != "deployment"]
    print_table(("what", "value"), rows)


def _incidents(kafka: "KafkaSettings") -> "list[Incident]":
    """The newest record of each incident."""
    from aicache.local.reading import latest
    from aicache.schemas import topics
    from aicache.schemas.records import Incident

    found = [seen.record for seen in latest(kafka, topics.ANOMALIES).values() if isinstance(seen.record, Incident)]
    return sorted(found, key=lambda item: (item.since_s, item.incident))
