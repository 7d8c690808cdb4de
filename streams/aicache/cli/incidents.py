"""`aicache incidents …`: what broke or slowed down."""

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from aicache.cli.frame import Json, kafka_of, print_json, print_rows, print_table, say, settings_of
from aicache.cli.service import MetricsPort
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.producers.connection import KafkaSettings
    from aicache.schemas.records import Incident

COLUMNS = (
    "incident",
    "status",
    "kind",
    "subject",
    "release",
    "seen",
    "expected",
    "unit",
    "severity",
    "since",
    "known to",
)
NOTE_CHARACTERS_MAX = 1_000
WHO_CHARACTERS_MAX = 100
PAUSE_STEP_S = 0.1


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="See what broke or slowed down.")
    group.command("list")(list_incidents)
    group.command("show")(show)
    group.command("ack")(acknowledge)
    group.command("webhook")(webhook)
    app.add_typer(group, name="incidents")


def list_incidents(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    loud: Annotated[bool, typer.Option("--loud", help="Only those that nobody has acknowledged.")] = False,
    as_json: Json = False,
) -> None:
    """List incidents, the newest last.

    Example: `aicache incidents list`
    """
    found = [item for item in _incidents(kafka_of(context)) if everything or item.status != "resolved"]
    if loud:
        found = [item for item in found if not item.acknowledged_ms]
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
            item.acknowledged_by,
        )
        for item in found
    ]
    print_rows(COLUMNS, rows, as_json=False, empty="No incident." if everything else "No open incident.")


def show(
    context: typer.Context,
    incident: Annotated[str, typer.Argument(help="The beginning of its id.")],
    as_json: Json = False,
) -> None:
    """Show one incident: what was seen against what was expected, since when, for which releases, how sure.

    Example: `aicache incidents show 4be1`
    """
    record = _one(kafka_of(context), incident)
    if as_json:
        print_json(record)
        return
    rows = [(name, getattr(record, name)) for name in record.__dataclass_fields__ if name != "deployment"]
    print_table(("what", "value"), rows)


def acknowledge(
    context: typer.Context,
    incident: Annotated[str, typer.Argument(help="The beginning of its id.")],
    who: Annotated[
        str,
        typer.Option(
            help="Who knows of it; stands in the log.",
        ),
    ] = "",
    note: Annotated[str, typer.Option(help="What is known or done; stands in the log and in the insight.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take it back: be told again.")] = False,
    as_json: Json = False,
) -> None:
    """Say that you know of an incident: it is quiet until it is three times as large as now, or over.

    Example: `aicache incidents ack 4be1 --note "1.2 is on its way"`
    """
    from aicache.local.writing import write
    from aicache.schemas import topics
    from aicache.schemas.records import Acknowledgement

    kafka = kafka_of(context)
    known = _one(kafka, incident)
    if not undo and known.status == "resolved":
        raise LocalError(f"{known.incident} is over", got=known.status, needed="an open incident")
    for name, text, most in (("--who", who, WHO_CHARACTERS_MAX), ("--note", note, NOTE_CHARACTERS_MAX)):
        if len(text) > most or not (text.isprintable() or name == "--note"):
            raise LocalError(f"{name} is text of at most {most} characters", got=len(text), needed=f"≤ {most}")
    if not undo and not who:
        raise LocalError("an acknowledgement says whose it is", got="", needed="--who NAME")
    record = (
        None
        if undo
        else Acknowledgement(
            deployment=kafka.deployment,
            incident=known.incident,
            since_s=known.since_s,
            who=who,
            note=note,
            acknowledged_ms=time.time_ns() // 1_000_000,
            seen=known.seen,
            n=known.n,
        )
    )
    write(kafka, topics.ACKNOWLEDGEMENTS, [(known.incident.encode(), record)])
    if as_json:
        print_json({"incident": known.incident, "acknowledged": not undo, "record": record})
    else:
        say(f"{known.incident} {'is told again' if undo else f'is known to {who}'}: {known.explanation}")


def webhook(
    context: typer.Context,
    group: Annotated[str, typer.Option(help="Name of this sink: each group gets every incident.")] = "webhook",
    severity_min: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out less severe ones, but not that one is over.")
    ] = 0.0,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="The first time, begin with what stands in the log.")
    ] = False,
    metrics_port: MetricsPort = 0,
    as_json: Json = False,
) -> None:
    """Send every change of an incident to webhook.url until SIGTERM or Ctrl-C; prints `ready webhook` when it reads.

    CloudEvents in JSON, signed with webhook.secret as Standard Webhooks says, at least once each; what is not taken after a few
    attempts becomes a dead letter.

    Example: `aicache incidents webhook --severity-min 0.3`
    """
    from aicache.cli.service import serve
    from aicache.streams.runtime.logs import write_json_logs
    from aicache.streams.webhook.event import secret_of
    from aicache.streams.webhook.kafka import Webhook
    from aicache.streams.webhook.sending import Sender

    settings = settings_of(context).webhook
    if not settings.url.get_secret_value() or not settings.secret.get_secret_value():
        raise LocalError(
            "set webhook.url and webhook.secret, in the file or as AICACHE_WEBHOOK__URL and AICACHE_WEBHOOK__SECRET",
            got="",
            needed="both",
        )
    kafka = kafka_of(context)
    secret = secret_of(settings.secret.get_secret_value())
    write_json_logs()

    def body(stop: Callable[[], bool], ready: Callable[[], None]) -> None:
        def pause(seconds: float) -> None:
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s and not stop():
                time.sleep(PAUSE_STEP_S)

        with Sender(settings.url.get_secret_value(), secret, pause) as sender:
            service = Webhook(kafka, sender, group=group, severity_min=severity_min, from_beginning=from_beginning)
            try:
                service.run(stop, ready)
            finally:
                if as_json:
                    print_json({"service": "webhook", **asdict(service.counts)})

    serve("webhook", body, metrics_port=metrics_port)


def _one(kafka: "KafkaSettings", incident: str) -> "Incident":
    """The one incident whose id begins so."""
    fitting = [item for item in _incidents(kafka) if item.incident.startswith(incident)]
    if len(fitting) != 1:
        raise LocalError(f"{incident} means {len(fitting)} incidents", got=incident, needed="the beginning of one id")
    return fitting[0]


def _incidents(kafka: "KafkaSettings") -> "list[Incident]":
    """The newest record of each incident."""
    from aicache.local.reading import latest
    from aicache.schemas import topics
    from aicache.schemas.records import Incident

    found = [seen.record for seen in latest(kafka, topics.ANOMALIES).values() if isinstance(seen.record, Incident)]
    return sorted(found, key=lambda item: (item.since_s, item.incident))
