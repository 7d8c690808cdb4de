"""`aicache verify`: recompute a round from the log, trusting nobody who ran it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aicache.cli.committee import identities_of, key_of
from aicache.cli.frame import FAILED, Json, kafka_of, print_json, say, settings_of
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.streams.rounds.exported import RoundLog


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("verify")(verify)


def verify(
    context: typer.Context,
    round_id: Annotated[
        str, typer.Argument(help="The round, as `aicache round list` names it.", metavar="[ROUND]")
    ] = "",
    file: Annotated[Path | None, typer.Option(help="What `aicache round export` wrote, instead of Kafka.")] = None,
    operator_key: Annotated[
        str, typer.Option(help="The operator's public key (hexadecimal): checks enrolments too.")
    ] = "",
    identities: Annotated[
        Path | None, typer.Option(help="Members' identities (JSON: number to key), as clients pin them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute a round: roster, approvals, signatures, manifest, votes, ciphertexts, openings, sum. Exit code 1: invalid.

    Example: `aicache verify tags-000001` or, without Kafka, `aicache verify --file tags-000001.jsonl`
    """
    from aicache.streams.rounds.verify import verify_round

    if bool(round_id) == bool(file):
        raise LocalError(
            "name a round, or a file with --file, not both", got=(round_id, str(file)), needed="one of them"
        )
    pinned = identities or settings_of(context).client.committee
    checks = verify_round(
        _log(context, round_id, file),
        operator_key=key_of(operator_key, "--operator-key") if operator_key else None,
        identities=identities_of(pinned) if pinned else None,
    )
    valid = all(check.ok for check in checks)
    if as_json:
        print_json({"valid": valid, "checks": checks})
    else:
        for check in checks:
            say(f"{'✓' if check.ok else '✗'} {check.name:<14} {check.detail}")
        say("valid" if valid else "INVALID")
    if not valid:
        raise typer.Exit(FAILED)


def _log(context: typer.Context, round_id: str, file: Path | None) -> "RoundLog":
    from aicache.streams.rounds import exported

    if file is not None:
        return exported.read(file)
    from aicache.streams.rounds.kafka import round_log

    return round_log(kafka_of(context), round_id)
