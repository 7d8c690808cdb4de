"""What a detector has learned, as bytes: a header of JSON and the numbers as they are, so that a restart goes on bit for bit.

Same state, same bytes. River's detectors have no written form but pickle, which runs what it reads. Pure.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aicache.privacy.errors import LocalError

VERSION = 1
DTYPES = ("<f8", "<f4", "<i8", "|b1")
BYTES_MAX = 1 << 30

Arrays = dict[str, npt.NDArray[Any]]


def pack(kind: str, fields: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]] | None = None) -> bytes:
    """Write down a detector.

    Args:
        kind: its class; another one cannot read it.
        fields: what JSON can tell, floats included (exactly).
        arrays: of float64, float32, int64 or bool.
    """
    rows, parts = [], []
    for name, array in sorted((arrays or {}).items()):
        kept = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        rows.append([name, kept.dtype.str, array.shape])
        parts.append(kept.tobytes())
    header = json.dumps([VERSION, kind, dict(fields), rows], separators=(",", ":"), sort_keys=True).encode()
    return b"".join([len(header).to_bytes(4, "little"), header, *parts])


def unpack(kind: str, data: bytes) -> tuple[dict[str, Any], Arrays]:
    """Read what `pack` wrote; the arrays are copies of one's own.

    Raises:
        LocalError: another kind or version wrote it, or it is cut short or damaged.
    """
    try:
        size = int.from_bytes(data[:4], "little")
        version, wrote, fields, rows = json.loads(data[4 : 4 + size])
        shapes = [(str(name), np.dtype(dtype), tuple(int(n) for n in shape)) for name, dtype, shape in rows]
        fit = isinstance(fields, dict) and all(d.str in DTYPES and min((0, *shape)) >= 0 for _, d, shape in shapes)
    except (ValueError, TypeError) as error:
        raise LocalError(
            "these bytes are no state of a detector", got=len(data), needed="what to_bytes gave"
        ) from error
    if not fit or (version, wrote) != (VERSION, kind):
        raise LocalError("the state is of another detector", got=(version, wrote), needed=(VERSION, kind))
    sizes = [dtype.itemsize * math.prod(shape) for _, dtype, shape in shapes]
    if sum(sizes) != len(data) - 4 - size or sum(sizes) > BYTES_MAX:
        raise LocalError("the state is cut short", got=len(data) - 4 - size, needed=sum(sizes))
    arrays: Arrays = {}
    place = 4 + size
    for (name, dtype, shape), length in zip(shapes, sizes, strict=True):
        arrays[name] = np.frombuffer(data, dtype, math.prod(shape), place).reshape(shape).copy()
        place += length
    return fields, arrays
