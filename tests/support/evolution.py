"""FULL_TRANSITIVE: each version of a schema reads, and is read by, all the others. Judged by Avro's own checker."""

import json
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType


def conflicts(versions: Sequence[dict[str, Any]]) -> list[str]:
    """Why records of one version cannot be read with another; empty where all can be read with all."""
    parsed = [avro.schema.parse(json.dumps(source)) for source in versions]
    found = []
    for (writer_at, writer), (reader_at, reader) in permutations(enumerate(parsed, 1), 2):
        result = ReaderWriterCompatibilityChecker().get_compatibility(reader=reader, writer=writer)
        if result.compatibility != SchemaCompatibilityType.compatible:
            found.append(f"version {reader_at} cannot read version {writer_at}: {', '.join(sorted(result.messages))}")
    return found
