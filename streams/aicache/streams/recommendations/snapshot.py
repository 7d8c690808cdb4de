"""Arrays to bytes and back, the same bytes for the same arrays (NumPy's own archive would stamp them with the time).

A length, a JSON header (name, dtype, shape of each array), then the arrays' bytes in that order, little-endian. Pure.
"""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError

DTYPES = frozenset({"<f2", "<f4", "<f8", "<i4", "<i8", "|u1"})
LENGTH_BYTES = 4


def pack(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """The arrays as bytes."""
    header = json.dumps([[name, array.dtype.str, array.shape] for name, array in arrays.items()]).encode()
    parts = (np.ascontiguousarray(array).tobytes() for array in arrays.values())
    return b"".join((len(header).to_bytes(LENGTH_BYTES, "little"), header, *parts))


def unpack(data: bytes) -> dict[str, NDArray[np.generic]]:
    """The arrays again, read-only.

    Raises:
        LocalError: not what `pack` gave.
    """
    start = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, dtype, shape in json.loads(data[LENGTH_BYTES:start]):
        if dtype not in DTYPES:
            raise LocalError("a snapshot has an array of a kind that is not expected", got=dtype, needed=sorted(DTYPES))
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(data, dtype=dtype, count=count, offset=start).reshape(shape)
        start += arrays[name].nbytes
    if start != len(data):
        raise LocalError("a snapshot is not as long as its header says", got=len(data), needed=start)
    return arrays
