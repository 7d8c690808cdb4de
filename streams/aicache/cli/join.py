"""`aicache join|pause|leave`: the owner of a client on this machine speaks. Keys stand in client.folder.

Boundary: Kafka for `join` and `leave --erase`; the private folder.
"""

from pathlib import Path
from typing import Annotated

import typer

from aicache.cli.frame import FAILED, Json, kafka_of, print_json, say, settings_of
from aicache.privacy.errors import LocalError

WAIT_S = 60.0


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("join")(join)
    app.command("pause")(pause)
    app.command("leave")(leave)


def join(
    context: typer.Context,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the operator has said yes.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="How long, in seconds.", min=0.1)] = WAIT_S,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; show the request.")] = False,
    as_json: Json = False,
) -> None:
    """Make this machine's client, once, and ask the operator to admit it. Exit code 1: not admitted in time (with `--wait`).

    Example: `aicache join --wait`
    """
    from aicache.producers import BlockingClient, Hub

    settings = settings_of(context)
    with Hub(kafka_of(context)) as hub, BlockingClient(hub, settings.client.folder, dry_run=dry_run) as client:
        name = client.identity.client.hex()
        asked = not client.enrolled
        withheld = client.join(wait_s=timeout_s if wait else 0.0).withheld if asked else []
        enrolled = client.enrolled
    if as_json:
        found = {"client": name, "asked": asked and not dry_run, "enrolled": enrolled, "folder": settings.client.folder}
        print_json({**found, "withheld": withheld} if dry_run else found)
    elif dry_run:
        say(f"Nothing was sent. The request would be: {withheld[0]}" if withheld else f"Client {name} is enrolled.")
    elif enrolled:
        say(f"Client {name} is enrolled.")
    else:
        say(f"Client {name} has asked to be enrolled. The operator says yes with: aicache enrol {name[:12]}")
    if wait and not enrolled and not dry_run:
        raise typer.Exit(FAILED)


def pause(
    context: typer.Context,
    resume: Annotated[bool, typer.Option("--resume", help="Let it speak again.")] = False,
    as_json: Json = False,
) -> None:
    """Let this machine's client send nothing more, also one that runs now; keys and ledger stay.

    Example: `aicache pause --resume`
    """
    from aicache.producers.identity import set_paused

    folder = settings_of(context).client.folder
    set_paused(_existing(folder), paused=not resume)
    if as_json:
        print_json({"folder": folder, "paused": not resume})
    else:
        say("The client may speak again." if resume else "The client sends nothing until: aicache pause --resume")


def leave(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    erase: Annotated[
        bool, typer.Option("--erase", help="First ask that what is kept under its recent pseudonyms be forgotten.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete this machine's keys for good. What was published cannot be linked to it any more; the ledger stays.

    With --erase the processors forget what they keep under this client's pseudonyms of this period and the one before: recent
    items, open answers. What it taught is in counts with everybody's and fades; its records leave the log when their time is over.

    Example: `aicache leave --yes`
    """
    from aicache.producers.identity import Folder

    path = _existing(settings_of(context).client.folder)
    if not yes:
        if as_json:
            raise LocalError("leaving cannot be taken back: say --yes with --json", got="--json", needed="--json --yes")
        typer.confirm(f"Delete the keys in {path} for good?", abort=True)
    erased = _erase(context, path) if erase else 0
    folder = Folder(path)
    try:
        folder.forget()
    finally:
        folder.close()
    if as_json:
        print_json({"folder": path, "left": True, "erased": erased})
    else:
        if erase:
            say("What is kept under its recent pseudonyms will be forgotten.")
        say(f"The keys in {path} are deleted. The ledger stays: it says what was spent.")


def _erase(context: typer.Context, folder: Path) -> int:
    """Ask for it; gives the number of pseudonyms."""
    from aicache.producers import BlockingClient, Hub

    with Hub(kafka_of(context)) as hub, BlockingClient(hub, folder) as client:
        return len(client.erase().acknowledged)


def _existing(folder: Path) -> Path:
    """The folder of a client that has keys.

    Raises:
        LocalError: there is none.
    """
    from aicache.producers.identity import FILE

    if not (folder / FILE).exists():
        raise LocalError(f"there is no client in {folder}", got=str(folder), needed="aicache join, or client.folder")
    return folder
