"""`aicache dead-letters …`: what could not be processed, where it stands and why."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from aicache.cli.frame import Json, kafka_of, print_json, print_rows, print_table

if TYPE_CHECKING:
    from aicache.local.reading import Seen
    from aicache.producers.connection import KafkaSettings

COLUMNS = ("number", "when", "processor", "topic", "place", "reason", "bytes")


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="See what could not be processed.")
    group.command("list")(list_letters)
    group.command("show")(show)
    group.command("replay")(replay)
    app.add_typer(group, name="dead-letters")


def list_letters(
    context: typer.Context,
    processor: Annotated[str, typer.Option("--processor", "-p", help="Only what this processor put aside.")] = "",
    reason: Annotated[str, typer.Option("--reason", "-r", help="Only for this reason.")] = "",
    last: Annotated[
        int, typer.Option("--last", "-n", help="Only the newest so many; 0: all that the log still has.")
    ] = 50,
    summary: Annotated[bool, typer.Option("--summary", help="Only how many for each processor and reason.")] = False,
    as_json: Json = False,
) -> None:
    """List dead letters: processor, origin and reason, never the content.

    Example: `aicache dead-letters list --processor anomalies`
    """
    from collections import Counter

    from aicache.schemas.records import DeadLetter

    found = []
    for seen in _letters(kafka_of(context)):
        letter = seen.record
        if isinstance(letter, DeadLetter) and processor in ("", letter.processor) and reason in ("", letter.reason):
            found.append((seen, letter))
    if summary:
        counts = Counter((letter.processor, letter.topic, letter.reason) for _, letter in found)
        rows = [(*key, count) for key, count in counts.most_common()]
        print_rows(("processor", "topic", "reason", "count"), rows, as_json=as_json, empty="No dead letter.")
        return
    table = [
        (
            seen.offset,
            datetime.fromtimestamp(letter.timestamp_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            letter.processor,
            letter.topic,
            f"{letter.partition}@{letter.offset}",
            letter.reason,
            letter.size_bytes,
        )
        for seen, letter in found[-last or None :]
    ]
    print_rows(COLUMNS, table, as_json=as_json, empty="No dead letter.")


def show(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="Its number, as the list gives it.")],
    as_json: Json = False,
) -> None:
    """Show one dead letter with the detail of its reason.

    Example: `aicache dead-letters show 17`
    """
    from aicache.privacy.errors import LocalError

    found = [seen for seen in _letters(kafka_of(context)) if seen.offset == number and seen.record is not None]
    if not found:
        raise LocalError(f"there is no dead letter {number}", got=number, needed="a number of `dead-letters list`")
    record = found[0].record
    if as_json:
        print_json(record)
    else:
        assert record is not None
        print_table(("what", "value"), [(name, getattr(record, name)) for name in record.__dataclass_fields__])


def replay(
    context: typer.Context,
    numbers: Annotated[list[int], typer.Argument(help="Their numbers, as the list gives them.")],
    as_json: Json = False,
) -> None:
    """Feed records to the processor that could not use them, once it can: each counts once, however often it is replayed.

    Example: `aicache dead-letters replay 17 18`
    """
    from aicache.privacy.errors import LocalError
    from aicache.schemas.records import DeadLetter
    from aicache.streams.runtime import dead_letters

    kafka = kafka_of(context)
    found = {seen.offset: seen.record for seen in _letters(kafka) if isinstance(seen.record, DeadLetter)}
    missing = [number for number in numbers if number not in found]
    if missing:
        raise LocalError("there is no such dead letter", got=missing, needed="numbers of `dead-letters list`")
    rows = [
        (number, found[number].processor, found[number].topic, dead_letters.replay(kafka, found[number]))
        for number in numbers
    ]
    print_rows(("number", "processor", "topic", "offset"), rows, as_json=as_json, empty="Nothing to replay.")


def _letters(kafka: "KafkaSettings") -> "list[Seen]":
    from aicache.local.reading import read_all
    from aicache.schemas import topics

    return read_all(kafka, topics.DEAD_LETTERS)
