"""`aicache tail`: the records of a topic, decoded, live."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aicache.cli.frame import Json, kafka_of, plain, print_json, say

if TYPE_CHECKING:
    from aicache.local.reading import Seen
    from aicache.schemas.topics import Topic

VALUE_CHARACTERS_MAX = 60
LINE_CHARACTERS_MAX = 400


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("tail")(tail)


def tail(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(help="With or without aicache. before it, as in insights.anomalies.")],
    last: Annotated[
        int, typer.Option("--last", "-n", help="How many of the newest records of each partition first.")
    ] = 10,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Go on with what comes.")] = True,
    as_json: Json = False,
) -> None:
    """Print the records of a topic, decoded, as they come; one that cannot be decoded is named and passed.

    Example: `aicache tail insights.anomalies`
    """
    from aicache.local import reading

    table = topic_of(topic)
    kafka = kafka_of(context)
    if follow:
        for seen in reading.follow(kafka, table, last=last):
            show(seen, as_json)
    else:
        for seen in reading.read_all(kafka, table, last=last):
            show(seen, as_json)


def topic_of(name: str) -> "Topic":
    """A topic of the table by its short or long name."""
    from aicache.schemas import topics

    return topics.topic(name if name.startswith("aicache.") else f"aicache.{name}")


def show(seen: "Seen", as_json: bool) -> None:
    """One record, on one line."""
    kind = type(seen.record).__name__ if seen.record is not None else "unreadable" if seen.problem else "deleted"
    if as_json:
        print_json(
            {
                "partition": seen.partition,
                "offset": seen.offset,
                "timestamp_ms": seen.timestamp_ms,
                "key": key_text(seen.key),
                "kind": kind,
                "record": seen.record,
                "problem": seen.problem,
                "size_bytes": seen.size_bytes,
            }
        )
        return
    when = datetime.fromtimestamp(seen.timestamp_ms / 1_000, UTC).strftime("%H:%M:%S")
    body = seen.problem or (short(plain(seen.record)) if seen.record is not None else "")
    line = f"{when} {seen.partition}@{seen.offset} {key_text(seen.key)} {kind} {body}"
    say(line if len(line) <= LINE_CHARACTERS_MAX else line[: LINE_CHARACTERS_MAX - 1] + "…")


def key_text(key: bytes) -> str:
    """A key as people can read it: text where it is text, else hexadecimal."""
    try:
        text = key.decode("ascii")
    except UnicodeDecodeError:
        return key.hex()
    return text if text.isprintable() else key.hex()


def short(value: Any) -> str:
    """A record on one line: long values are cut."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={short(item)}" for name, item in value.items() if item not in ("", None, []))
    if isinstance(value, list):
        shown = ",".join(short(item) for item in value[:4])
        return f"[{shown}{f',… {len(value)}' if len(value) > 4 else ''}]"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[: VALUE_CHARACTERS_MAX - 1] + "…"
