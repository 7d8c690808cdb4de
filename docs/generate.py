"""Writes the pages that follow from the program: docs/topics.md and docs/cli.md. A test holds the committed ones to it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aicache.cli import reference
from aicache.schemas.catalog import RECORD_TYPES, newest, versions
from aicache.schemas.topics import DAY_MS, FOREVER, HOUR_MS, KIB, Topic, all_topics

DOCS = Path(__file__).parent
HEAD = """# Topics and records

Generated from the program (`make docs`). Names are without the deployment's prefix (`kafka.prefix`). `aicache topics create` makes all of
this, `aicache topics check` compares it with what is there.

Values are Avro. Before the body stand `C3 01` and the schema's fingerprint (single-object encoding), or, where `registry.url` is set, `00`
and the schema's id in that registry (subject `aicache.RECORD`). Only the schemas below are ever decoded, and no record that is larger than
its topic's limit. All versions of a schema read each other (FULL_TRANSITIVE).

Who may write and read is for the broker's access control: what is secret is encrypted for its reader before it gets here.
"""


def pages() -> dict[str, str]:
    """Every generated page, by file name."""
    return {"topics.md": topics_page(), "cli.md": reference.markdown()}


def topics_page() -> str:
    """The table of topics and the reference of records."""
    parts = [HEAD, "## Topics\n", topics_table(), "## Records\n"]
    parts += [part for name in sorted(RECORD_TYPES) for part in record_section(name)]
    return "\n".join(parts).rstrip() + "\n"


def topics_table() -> str:
    """One line a topic."""
    head = "| topic | key | records | partitions | kept | largest record | writers | readers |\n|---|---|---|---|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(topic_cells(topic))} |\n" for topic in all_topics())


def topic_cells(topic: Topic) -> list[str]:
    """What the table says of a topic."""
    kinds = ", ".join(f"[{kind.__name__}](#{kind.__name__.lower()})" for kind in topic.records) or "a processor's state"
    return [
        f"`{topic.name}`",
        topic.key,
        kinds,
        str(topic.partitions),
        kept(topic),
        size(topic.record_bytes_max),
        topic.writers,
        topic.readers,
    ]


def kept(topic: Topic) -> str:
    """How long records stay."""
    if topic.retention_ms == FOREVER:
        return "newest of each key" if topic.cleanup == "compact" else "for ever"
    days, hours = topic.retention_ms / DAY_MS, topic.retention_ms / HOUR_MS
    return f"{days:g} days" if days != 1 else f"{hours:g} hours"


def size(count: int) -> str:
    """Bytes, for people."""
    return f"{count // KIB} KiB" if count % KIB == 0 else f"{count:,} bytes"


def record_section(name: str) -> Iterator[str]:
    """The fields of a record, and of those within it."""
    schema = newest(name)
    yield f"### {name}\n"
    yield f"{schema.source['doc']}\n"
    yield f"Version {schema.version} of {len(versions(name))}, fingerprint `{schema.fingerprint.hex()}`.\n"
    yield from fields_tables(schema.source, top=True)


def fields_tables(record: dict[str, Any], *, top: bool) -> Iterator[str]:
    """A table of fields, then those of the records in them."""
    if not top:
        yield f"**{record['name']}**: {record.get('doc', '')}\n"
    lines = [f"| `{field['name']}` | {type_text(field['type'])} | {cell(field['doc'])} |" for field in record["fields"]]
    yield "\n".join(["| field | type | what |", "|---|---|---|", *lines]) + "\n"
    for field in record["fields"]:
        for inner in records_within(field["type"]):
            yield from fields_tables(inner, top=False)


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("|", "\\|")


def type_text(kind: Any) -> str:
    """A type, for people."""
    if isinstance(kind, str):
        return kind.removeprefix("aicache.")
    if isinstance(kind, list):
        return " or ".join(type_text(part) for part in kind)
    if kind["type"] == "array":
        return f"list of {type_text(kind['items'])}"
    if kind["type"] == "map":
        return f"map to {type_text(kind['values'])}"
    return str(kind["name"]) if kind["type"] == "record" else json.dumps(kind["type"]).strip('"')


def records_within(kind: Any) -> Iterator[dict[str, Any]]:
    """The records that are defined in a field's type."""
    if isinstance(kind, list):
        for part in kind:
            yield from records_within(part)
    elif isinstance(kind, dict):
        if kind["type"] == "record":
            yield kind
        yield from records_within(kind.get("items", ""))
        yield from records_within(kind.get("values", ""))


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
