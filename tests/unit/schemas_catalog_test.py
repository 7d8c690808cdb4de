"""Schemas and typed records say the same, every field is explained, and no change of a schema breaks a reader."""

import copy
import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aicache.schemas import catalog
from aicache.schemas.catalog import RECORD_TYPES, by_fingerprint, make_schema, newest, versions
from aicache.schemas.topics import TOPICS, all_topics, largest_record_bytes
from support.evolution import conflicts
from support.sample_records import samples

AVSC = Path(catalog.__file__).parent / "avsc"
PRIMITIVES = {bool: "boolean", int: "long", float: "double", str: "string", bytes: "bytes"}


def shape_of_type(hint: Any) -> Any:
    """A type hint as the schema that it should have, without names and documentation."""
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return [(field.name, shape_of_type(hints[field.name])) for field in dataclasses.fields(hint)]
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return {"array": shape_of_type(arguments[0])}
    if typing.get_origin(hint) is dict:
        return {"map": shape_of_type(arguments[1])}
    if isinstance(hint, types.UnionType):
        return ["null", *(shape_of_type(part) for part in arguments if part is not type(None))]
    return PRIMITIVES[hint]


def shape_of_schema(schema: Any, named: dict[str, Any]) -> Any:
    """The same of a schema."""
    if isinstance(schema, list):
        return [shape_of_schema(part, named) for part in schema]
    if isinstance(schema, str):
        return named.get(schema.removeprefix("aicache."), schema)
    if schema["type"] == "record":
        named[schema["name"]] = [(field["name"], shape_of_schema(field["type"], named)) for field in schema["fields"]]
        return named[schema["name"]]
    if schema["type"] == "array":
        return {"array": shape_of_schema(schema["items"], named)}
    if schema["type"] == "map":
        return {"map": shape_of_schema(schema["values"], named)}
    return shape_of_schema(schema["type"], named)


def records_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Every record schema in a schema, itself included."""
    if isinstance(schema, list):
        for part in schema:
            yield from records_in(part)
    elif isinstance(schema, dict):
        if schema.get("type") == "record":
            yield schema
            for field in schema["fields"]:
                yield from records_in(field["type"])
        for key in ("items", "values"):
            yield from records_in(schema.get(key))


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_a_record_and_its_newest_schema_have_the_same_fields_in_the_same_order_with_the_same_types(name: str) -> None:
    assert shape_of_schema(newest(name).source, {}) == shape_of_type(RECORD_TYPES[name])


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_every_field_says_what_it_is_and_every_record_who_reads_it(name: str) -> None:
    for record in records_in(newest(name).source):
        assert record.get("doc"), record["name"]
        for field in record["fields"]:
            assert re.search(r"Readers?: \S", field.get("doc", "")), f"{record['name']}.{field['name']}"


def test_the_folder_holds_exactly_the_records_of_the_topics_numbered_without_gaps() -> None:
    held = {kind.__name__ for topic in TOPICS for kind in topic.records}
    assert {folder.name for folder in AVSC.iterdir()} == set(RECORD_TYPES) == held
    for folder in AVSC.iterdir():
        names = {file.name for file in folder.iterdir()}
        assert names == {f"{number}.avsc" for number in range(1, len(names) + 1)}


def test_no_two_schemas_share_a_fingerprint() -> None:
    assert len(by_fingerprint()) == sum(len(versions(name)) for name in RECORD_TYPES)


def test_a_schema_cannot_nest_in_itself() -> None:
    """Without recursion the depth of a record is that of its schema, whatever its bytes say."""
    for name in RECORD_TYPES:
        for record in records_in(newest(name).source):
            inside = json.dumps(record["fields"])
            assert not re.search(rf'"(aicache\.)?{record["name"]}"', inside), f"{record['name']} nests in itself"


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_all_versions_of_a_schema_read_each_other(name: str) -> None:
    assert conflicts([schema.source for schema in versions(name)]) == []


def changed(**change: Any) -> list[dict[str, Any]]:
    """A schema before and after a change of its fields."""
    old = newest("RoundClosed").source
    new = copy.deepcopy(old)
    new["fields"] = change["fields"](new["fields"])
    return [old, new]


BREAKING = {
    "a field added without a default": lambda fields: [*fields, {"name": "more", "type": "long"}],
    "a field removed": lambda fields: fields[:-1],
    "a type changed": lambda fields: [*fields[:-1], {**fields[-1], "type": "long"}],
    "a type widened": lambda fields: [
        {**field, "type": "double"} if field["type"] == "long" else field for field in fields
    ],
    "a field renamed": lambda fields: [*fields[:-1], {**fields[-1], "name": "why"}],
}


@pytest.mark.parametrize("what", BREAKING)
def test_a_breaking_change_is_found(what: str) -> None:
    assert conflicts(changed(fields=BREAKING[what]))


def test_a_field_with_a_default_may_come() -> None:
    assert conflicts(changed(fields=lambda fields: [*fields, {"name": "more", "type": "long", "default": 0}])) == []


def test_compatibility_is_with_all_versions_not_only_with_the_last() -> None:
    """One by one each step reads its neighbour; the third does not read the first."""
    first = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
    second = {"type": "record", "name": "R", "fields": []}
    third = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "string", "default": ""}]}
    assert conflicts([second, third]) == []
    assert any("version 3 cannot read version 1" in line for line in conflicts([first, second, third]))


def test_changing_only_the_documentation_keeps_the_fingerprint() -> None:
    source = copy.deepcopy(newest("Vote").source)
    source["doc"] = "other words"
    assert make_schema("Vote", 2, source).fingerprint == newest("Vote").fingerprint


def test_every_topic_has_a_bound_for_every_record_and_room_for_it() -> None:
    for topic in all_topics():
        assert int(topic.config["max.message.bytes"]) > topic.record_bytes_max
    assert set(samples()) == set(RECORD_TYPES)
    assert all(largest_record_bytes(name) > 0 for name in RECORD_TYPES)
