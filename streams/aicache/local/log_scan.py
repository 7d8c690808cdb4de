"""Looks for secrets in what a broker keeps: its log segments, raw, and again record by record after decompression.

A secret counts as found if any eight bytes in a row of it, or a plain encoding of them, occur anywhere in a segment file, in a
record's key, value or headers. So it also finds what was cut, prefixed or encoded. Eight bytes in hex are sixteen digits, and eight letters
in UTF-16 sixteen bytes: half of them are four letters of a secret, and a log with millions of digits or of small numbers has some of
those by chance.
Boundary: reads files, decodes nothing of ours.
"""

import base64
import binascii
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError

PIECE_BYTES = 8
GATHERED_BYTES = 8_000_000
FILTER_BITS_MIN = 20
FILTER_ROOM = 8
"""Slots of the filter a piece: about one word in eight that is no piece passes it, or fewer."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4): the high bits of a product with it are well spread."""
SEPARATOR = bytes(PIECE_BYTES)
"""Between parts, so that no piece is found across two of them."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record as it stands in a segment, decompressed."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a piece of a secret was found. Says which secret, never what it is."""

    secret: int
    place: str


def encodings(secret: bytes) -> Iterator[tuple[bytes, int]]:
    """The secret as it is and as people write bytes down: other case, reversed, hex, URL quoting, UTF-16, base64.

    Yields:
        An encoding, and how many bytes in a row of it are a find.
    """
    yield secret, PIECE_BYTES
    yield secret.lower(), PIECE_BYTES
    yield secret.upper(), PIECE_BYTES
    yield secret[::-1], PIECE_BYTES
    yield binascii.hexlify(secret), 2 * PIECE_BYTES
    yield binascii.hexlify(secret).upper(), 2 * PIECE_BYTES
    yield urllib.parse.quote_from_bytes(secret).encode(), PIECE_BYTES
    yield secret.decode("utf-8", errors="replace").encode("utf-16-le"), 2 * PIECE_BYTES
    for alignment in range(3):
        # What base64 makes of the secret depends on how many bytes stand before it; the first and last letters mix with those.
        yield base64.b64encode(bytes(alignment) + secret)[4:-4], PIECE_BYTES
        yield base64.urlsafe_b64encode(bytes(alignment) + secret)[4:-4], PIECE_BYTES


class Needles:
    """Eight-byte pieces of secrets and of their encodings, sorted for a vectorised search.

    Args:
        secrets: each at least eight bytes long.

    Raises:
        LocalError: a secret is too short to be told from chance.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        owners: dict[int, list[tuple[int, bytes]]] = {}
        for number, secret in enumerate(secrets):
            if len(secret) < PIECE_BYTES:
                raise LocalError("a secret is too short to look for", got=len(secret), needed=f"≥ {PIECE_BYTES} bytes")
            for text, size in encodings(secret):
                for start in range(len(text) - size + 1):
                    whole = text[start : start + size]
                    owners.setdefault(int.from_bytes(whole[:PIECE_BYTES], "little"), []).append((number, whole))
        self._pieces = np.fromiter(sorted(owners), dtype=np.uint64, count=len(owners))
        self._owners = owners
        self._shift = np.uint64(64 - max(FILTER_BITS_MIN, (FILTER_ROOM * len(owners)).bit_length()))
        self._maybe = np.zeros(1 << (64 - int(self._shift)), dtype=np.bool_)
        self._maybe[self._slots(self._pieces)] = True

    def find(self, data: bytes) -> set[int]:
        """The numbers of the secrets of which a piece is in `data`."""
        found: set[int] = set()
        for shift in range(min(PIECE_BYTES, len(data) - PIECE_BYTES + 1)):
            words = np.frombuffer(data, dtype="<u8", offset=shift, count=(len(data) - shift) // PIECE_BYTES)
            for word in {int(word) for word in self._among(words)}:
                found.update(
                    number for number, whole in self._owners[word] if len(whole) == PIECE_BYTES or whole in data
                )
        return found

    def _slots(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Where each word is in the filter, which rules out nearly all of them at the price of one look."""
        return (words * MULTIPLIER) >> self._shift

    def _among(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        words = words[self._maybe[self._slots(words)]]
        if not len(words):
            return words
        places = np.searchsorted(self._pieces, words).clip(max=len(self._pieces) - 1)
        return words[self._pieces[places] == words]


def segments(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """Topic, partition and file of every log segment under a broker's data folder."""
    for path in sorted(folder.glob("*/*.log")):
        topic, _, partition = path.parent.name.rpartition("-")
        if topic and partition.isdigit():
            yield topic, int(partition), path


def records(topic: str, partition: int, path: Path) -> Iterator[LogRecord]:
    """The records of one segment, control records (transaction markers) left out."""
    from aiokafka.record.memory_records import MemoryRecords

    batches = MemoryRecords(path.read_bytes())
    while batches.has_next():
        batch = batches.next_batch()
        if batch is None or getattr(batch, "is_control_batch", False):
            continue
        for record in batch:
            yield LogRecord(
                topic,
                partition,
                record.offset,
                bytes(record.key or b""),
                bytes(record.value or b""),
                tuple((name, bytes(value or b"")) for name, value in record.headers),
            )


def scan(folder: Path, secrets: Iterable[bytes]) -> list[Hit]:
    """Every place under a broker's data folder where a piece of a secret stands.

    Args:
        folder: the broker's data folder, one folder a partition.
        secrets: each at least eight bytes long.

    Returns:
        A hit for each secret and segment file (raw), and for each secret and record (decompressed).
    """
    needles = Needles(secrets)
    hits: list[Hit] = []
    for topic, partition, path in segments(folder):
        raw = needles.find(path.read_bytes())
        hits += [Hit(secret, f"{path.parent.name}/{path.name}") for secret in sorted(raw)]
        for together in _gathered(records(topic, partition, path)):
            # Looking through many records at once is quick; only where something is found is it looked for record by record.
            if needles.find(SEPARATOR.join(map(_whole, together))):
                for record in together:
                    found = needles.find(_whole(record))
                    hits += [Hit(secret, f"{topic}-{partition}@{record.offset}") for secret in sorted(found)]
    return hits


def _gathered(found: Iterable[LogRecord]) -> Iterator[list[LogRecord]]:
    together: list[LogRecord] = []
    size = 0
    for record in found:
        together.append(record)
        size += len(record.value)
        if size > GATHERED_BYTES:
            yield together
            together, size = [], 0
    if together:
        yield together


def _whole(record: LogRecord) -> bytes:
    """All parts of a record, kept apart."""
    headers = (part for name, value in record.headers for part in (name.encode(), value))
    return SEPARATOR.join((record.key, record.value, *headers))
