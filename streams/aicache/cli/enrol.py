"""`aicache enrol`: the operator admits clients and takes admissions back."""

import time
from typing import Annotated

import typer

from aicache.cli.frame import Json, kafka_of, print_json, print_rows, say, settings_of
from aicache.privacy.errors import LocalError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("enrol")(enrol)


def enrol(
    context: typer.Context,
    clients: Annotated[
        list[str] | None, typer.Argument(help="The beginnings of their ids; none: list who waits.")
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Admit everybody who waits.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the admission of these clients back.")] = False,
    reason: Annotated[str, typer.Option(help="Why it is taken back; stands in the log.")] = "",
    as_json: Json = False,
) -> None:
    """List the clients that wait, admit some of them, or revoke some that are enrolled; signs with operator.key.

    Example: `aicache enrol 3f9a01 77c2be`
    """
    from aicache.local import admission, operator
    from aicache.local.reading import latest, read_all
    from aicache.local.writing import write
    from aicache.schemas import topics
    from aicache.schemas.records import Enrolment, JoinRequest

    if everybody and (clients or revoke):
        raise LocalError(
            "--all admits everybody who waits: name no client and do not revoke", got=clients, needed="--all alone"
        )
    kafka = kafka_of(context)
    enrolled = {
        seen.record.client: seen.record
        for seen in latest(kafka, topics.ENROLMENTS).values()
        if isinstance(seen.record, Enrolment)
    }
    requests = [seen.record for seen in read_all(kafka, topics.JOINS) if isinstance(seen.record, JoinRequest)]
    waiting = {item.client: item for item in admission.waiting(requests, enrolled, kafka.deployment)}
    if not clients and not everybody:
        rows = [(item.client.hex(), item.requested_ms) for item in waiting.values()]
        print_rows(
            ("client", "requested_ms"), rows, as_json=as_json, empty=f"Nobody waits; {len(enrolled)} are enrolled."
        )
        return
    key = operator.load(settings_of(context).operator.key)
    if revoke:
        named = admission.chosen(enrolled, clients or ())
        records = [admission.revoke(enrolled[client], reason=reason, key=key) for client in named]
    else:
        named = list(waiting) if everybody else admission.chosen(waiting, clients or ())
        now_ms = time.time_ns() // 1_000_000
        records = [
            admission.admit(waiting[client], deployment=kafka.deployment, key=key, now_ms=now_ms) for client in named
        ]
    write(kafka, topics.ENROLMENTS, [(record.client, record) for record in records])
    if as_json:
        print_json({"revoked" if revoke else "admitted": [record.client for record in records]})
    else:
        say(f"{len(records)} clients were {'revoked' if revoke else 'admitted'}.")
