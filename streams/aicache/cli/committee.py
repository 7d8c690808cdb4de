"""`aicache committee …`: the helpers that hold mask-key shares."""

import json
from pathlib import Path
from typing import Annotated

import typer

from aicache.cli.frame import Json, kafka_of, print_json, print_table, say, settings_of
from aicache.cli.service import MetricsPort
from aicache.privacy.errors import LocalError

Number = Annotated[int, typer.Option("--member", "-m", help="The member's number, from 1.", min=1)]
Folder = Annotated[Path | None, typer.Option(help="The member's own folder instead of committee.folder/member-N.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Run a committee member: it holds shares of mask keys.")
    for command in (init, run, rotate, retire, status):
        group.command()(command)
    group.command("export-ledger")(export_ledger)
    group.command("import-ledgers")(import_ledgers)
    app.add_typer(group, name="committee")


def folder_of(context: typer.Context, member: int, folder: Path | None) -> Path:
    """Where a member keeps its store."""
    return folder or settings_of(context).committee.folder / f"member-{member}"


def init(
    context: typer.Context,
    member: Number,
    operator_key: Annotated[
        str, typer.Option(help="The operator's public key, 64 hexadecimal digits; else operator.key.")
    ] = "",
    pins: Annotated[Path | None, typer.Option(help="Identities of the other members (JSON: number to key).")] = None,
    replaces: Annotated[bool, typer.Option("--replaces", help="Takes the number of a member that is gone.")] = False,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Make a member: its identity, its first epoch key, its empty ledger.

    Example: `aicache committee init --member 1`
    """
    from aicache.local import operator
    from aicache.streams.committee import commands

    settings = settings_of(context)
    public = (
        key_of(operator_key, "--operator-key")
        if operator_key
        else operator.load(settings.operator.key).public_key().public_bytes_raw()
    )
    known = identities_of(pins) if pins else None
    who = commands.init(
        folder_of(context, member, folder),
        member,
        deployment=settings.kafka.deployment,
        operator_key=public,
        pins=known,
        replaces=replaces,
    )
    _print(who, as_json)


def run(
    context: typer.Context, member: Number, folder: Folder = None, metrics_port: MetricsPort = 0, as_json: Json = False
) -> None:
    """Run a member until SIGTERM or Ctrl-C; prints `ready member-N` when it takes part.

    Example: `aicache committee run --member 1`
    """
    from aicache.cli.service import serve
    from aicache.streams.committee import commands

    where = folder_of(context, member, folder)
    kafka = kafka_of(context)
    name = f"member-{member}"
    serve(
        name,
        lambda stop, ready: commands.run(kafka, where, stop=stop, on_ready=ready),
        as_json=as_json,
        metrics_port=metrics_port,
    )


def rotate(
    context: typer.Context,
    member: Number,
    after_loss: Annotated[
        bool, typer.Option("--after-loss", help="The store came from a copy: give up all open rounds.")
    ] = False,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Make the next epoch key; a running member does it within a second.

    Example: `aicache committee rotate --member 1`
    """
    from aicache.streams.committee import commands

    _print(commands.rotate(folder_of(context, member, folder), after_loss=after_loss), as_json)


def retire(
    context: typer.Context,
    member: Number,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """End a member for good: all its keys are erased now, and its next `run` tells everybody and ends. Export its ledger before.

    Example: `aicache committee retire --member 1 --yes`
    """
    from aicache.streams.committee import commands

    where = folder_of(context, member, folder)
    if not yes:
        if as_json:
            raise LocalError(
                "retiring cannot be taken back: say --yes with --json", got="--json", needed="--json --yes"
            )
        typer.confirm(f"Erase the keys of the member in {where} for good?", abort=True)
    _print(commands.retire(where), as_json)


def status(context: typer.Context, member: Number, folder: Folder = None, as_json: Json = False) -> None:
    """Show how a member stands: its rounds, what it refused and why. Works while it runs.

    Example: `aicache committee status --member 1`
    """
    from aicache.streams.committee import commands

    found = commands.status(folder_of(context, member, folder))
    if as_json:
        print_json(found)
        return
    rounds, refusals = found.pop("rounds_open"), found.pop("refusals")
    _print(found, as_json=False)
    if rounds:
        print_table(tuple(rounds[0]), [tuple(item.values()) for item in rounds], title="open rounds")
    if refusals:
        print_table(tuple(refusals[0]), [tuple(item.values()) for item in refusals], title="last refusals")


def export_ledger(context: typer.Context, member: Number, folder: Folder = None, as_json: Json = False) -> None:
    """Print what clients have spent, signed, for a member that joins.

    Example: `aicache committee export-ledger --member 1 > ledger-1.json`
    """
    from aicache.streams.committee import commands

    text = commands.export_ledger(folder_of(context, member, folder))
    if as_json:
        print_json({"ledger": text})
    else:
        say(text)


def import_ledgers(
    context: typer.Context,
    member: Number,
    files: Annotated[list[Path], typer.Argument(help="What export-ledger gave to the members before.")],
    roster: Annotated[Path, typer.Option(help="All identities of the roster before (JSON: number to key).")],
    threshold: Annotated[int, typer.Option(help="How many of that roster open a sum; 0: committee.threshold.")] = 0,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Take over what clients have spent, from the ledgers of a quorum of the members before.

    Example: `aicache committee import-ledgers --member 6 --roster roster.json ledger-1.json ledger-2.json`
    """
    from aicache.streams.committee import commands

    taken = commands.import_ledgers(
        folder_of(context, member, folder),
        [file.read_text() for file in files],
        roster=identities_of(roster),
        threshold=threshold or settings_of(context).committee.threshold,
    )
    _print({"entries": taken}, as_json)


def key_of(text: str, where: str) -> bytes:
    """A key that was given as hexadecimal text."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise LocalError(f"{where} holds no key", got="not hexadecimal", needed="64 hexadecimal digits") from None


def identities_of(file: Path) -> dict[int, bytes]:
    """Members' identity keys by number, from a JSON file."""
    try:
        found = json.loads(file.read_text())
        return {int(number): key_of(str(key), str(file)) for number, key in found.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise LocalError(f"{file} is no list of identities: {error}", got=str(error), needed='{"1": "…"}') from None


def _print(found: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_table(("what", "value"), list(found.items()))
