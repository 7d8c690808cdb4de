"""`aicache recommendations …`: whether the bandit's order is worth switching on."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from aicache.cli.frame import Json, kafka_of, print_json, print_rows, say

if TYPE_CHECKING:
    from aicache.producers.connection import KafkaSettings
    from aicache.schemas.records import Lift

COLUMNS = ("namespace", "answers", "estimator", "ranker", "bandit", "lift", "one look", "any time", "until")


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="See what the order of recommendations brings.")
    group.callback()(_group)
    group.command("lift")(lift)
    app.add_typer(group, name="recommendations")


def _group() -> None:
    """See what the order of recommendations brings."""


def lift(context: typer.Context, as_json: Json = False) -> None:
    """Estimate what the bandit's order brings against the ranker's, in items taken an answer, before it is switched on.

    From answers that were shown while `recommendations.bandit` is `observe` or `on`. The interval for one look covers the truth in the
    stated share of cases if it is looked at once; the one for any time, however often. Switch on when that one is above 0.

    Example: `aicache recommendations lift`
    """
    found = _lifts(kafka_of(context))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            record.namespace,
            record.answers,
            estimate.estimator,
            f"{estimate.ranker:.4f}",
            f"{estimate.bandit:.4f}",
            f"{estimate.lift:+.4f}",
            f"{estimate.low:+.4f} … {estimate.high:+.4f}",
            f"{estimate.watched_low:+.4f} … {estimate.watched_high:+.4f}",
            datetime.fromtimestamp(record.time_s, UTC).strftime("%Y-%m-%d %H:%M"),
        )
        for record in found
        for estimate in record.estimates
    ]
    print_rows(COLUMNS, rows, as_json=False, empty=_nothing(found))
    if rows:
        say(f"Items taken an answer; intervals of {found[0].confidence:.0%}.")


def _nothing(found: "list[Lift]") -> str:
    if not found:
        return "No answers yet: clients tell what they show, and recommendations.bandit has to be observe or on."
    known = ", ".join(f"{record.namespace} {record.answers}" for record in found)
    return f"Too few answers for an estimate: {known}."


def _lifts(kafka: "KafkaSettings") -> "list[Lift]":
    """The newest of each namespace."""
    from aicache.local.reading import latest
    from aicache.schemas import topics
    from aicache.schemas.records import Lift

    found = [seen.record for seen in latest(kafka, topics.TRENDS).values() if isinstance(seen.record, Lift)]
    return sorted(found, key=lambda record: record.namespace)
