"""A round outside Kafka: what the log says about it, in a file that anybody can check.

One JSON object a line, UTF-8. The first names the format, the deployment and the round; each of the others is one record as it
stood in the log: `topic` (without a prefix), `partition`, `offset`, `value` (base64). Records of control topics come first, then
the chunks of ciphertexts in the order of their places, so that a reader needs to hold only what is not a chunk. Nothing is
compressed and nothing is executed; lines and entries have named bounds.
Boundary: reads and writes that file.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aicache.privacy.errors import LocalError, RemoteError

FORMAT = "aicache-round/1"
UPDATES = "aicache.updates"
LINE_BYTES_MAX = 16_000_000
"""A line holds one record in base64, and no record is larger than nine megabytes."""
ENTRIES_MAX = 2_000_000
CONTROL_ENTRIES_MAX = 500_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it stands in the log."""

    topic: str
    partition: int
    offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class RoundLog:
    """What a log holds of one round.

    Attributes:
        deployment, round_id: which round.
        controls: records of all topics but `updates`, in the order of their topics.
        chunks: gives the chunks of `updates`, places rising within a partition; may be called again.
    """

    deployment: str
    round_id: str
    controls: list[Entry]
    chunks: Callable[[], Iterator[Entry]]


def write(path: Path, log: RoundLog) -> int:
    """Write a round to a file; gives how many records it holds.

    Raises:
        LocalError: the file cannot be written.
    """
    count = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            header = {"format": FORMAT, "deployment": log.deployment, "round": log.round_id}
            file.write(json.dumps(header) + "\n")
            for entries in (iter(log.controls), log.chunks()):
                for entry in entries:
                    file.write(_line(entry) + "\n")
                    count += 1
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error}", got=str(error), needed="a file to write") from None
    return count


def _line(entry: Entry) -> str:
    value = base64.b64encode(entry.value).decode()
    return json.dumps(
        {"topic": entry.topic, "partition": entry.partition, "offset": entry.offset, "value": value},
        separators=(",", ":"),
    )


def read(path: Path) -> RoundLog:
    """Open an exported round; chunks are read from the file when they are asked for.

    Raises:
        LocalError: there is no such file.
        RemoteError: `bad-export`: it is not an exported round.
    """
    if not path.is_file():
        raise LocalError(f"{path} does not exist", got=str(path), needed="what `aicache round export` wrote")
    lines = _lines(path)
    header = next(lines, None)
    if header is None or header.get("format") != FORMAT:
        raise _bad("the file is not an exported round", got=None if header is None else header.get("format"))
    deployment, round_id = header.get("deployment"), header.get("round")
    if not isinstance(deployment, str) or not isinstance(round_id, str):
        raise _bad("the header names no round", got=sorted(header))
    controls: list[Entry] = []
    for fields in lines:
        if fields.get("topic") == UPDATES:
            break  # the chunks come last and are read again when they are asked for
        controls.append(_entry(fields))
        if len(controls) > CONTROL_ENTRIES_MAX:
            raise _bad("the file has too many records", got=len(controls), needed=CONTROL_ENTRIES_MAX)
    return RoundLog(deployment, round_id, controls, lambda: _chunks(path))


def _chunks(path: Path) -> Iterator[Entry]:
    seen = False
    for number, fields in enumerate(_lines(path)):
        if number == 0:
            continue
        if fields.get("topic") == UPDATES:
            seen = True
            yield _entry(fields)
        elif seen:
            raise _bad("a control record stands behind the chunks", got=number, needed="chunks last")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number in range(ENTRIES_MAX + 1):
            line = file.readline(LINE_BYTES_MAX + 1)
            if not line:
                return
            if len(line) > LINE_BYTES_MAX:
                raise _bad("a line is too long", got=number, needed=f"≤ {LINE_BYTES_MAX} bytes")
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                raise _bad("a line is not JSON", got=number) from None
            if not isinstance(fields, dict):
                raise _bad("a line is not an object", got=number)
            yield fields
    raise _bad("the file has too many lines", got=ENTRIES_MAX, needed=f"≤ {ENTRIES_MAX}")


def _entry(fields: dict[str, Any]) -> Entry:
    topic, partition, offset, value = (fields.get(name) for name in ("topic", "partition", "offset", "value"))
    if (
        not isinstance(topic, str)
        or not isinstance(value, str)
        or type(partition) is not int
        or type(offset) is not int
    ):
        raise _bad("a record lacks a field", got=sorted(fields), needed="topic, partition, offset, value")
    try:
        return Entry(topic, partition, offset, base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        raise _bad("a value is not base64", got=offset) from None


def _bad(message: str, *, got: object = None, needed: object = FORMAT) -> RemoteError:
    return RemoteError(f"{message} (got {got}, needed {needed})", reason="bad-export", got=got, needed=needed)


def in_memory(deployment: str, round_id: str, entries: Iterable[Entry]) -> RoundLog:
    """A round whose records are all at hand."""
    controls: list[Entry] = []
    chunks: list[Entry] = []
    for entry in entries:
        (chunks if entry.topic == UPDATES else controls).append(entry)
    chunks.sort(key=lambda entry: (entry.partition, entry.offset))
    return RoundLog(deployment, round_id, controls, lambda: iter(chunks))
