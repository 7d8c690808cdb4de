"""Arrays to bytes and back, the same bytes for the same arrays (NumPy's own archive would stamp them with the time).

A length, a JSON header, then the arrays' bytes in that order, little-endian. Of each array the header has its name, dtype and shape, the
dtype of what is stored, which is narrower where all integers fit, and how many values are: where most are zero, or minus one for nothing,
a bit each says which are not, before those that are not. Nothing is rounded. Pure.
"""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aicache.privacy.errors import LocalError

DTYPES = frozenset({"<f2", "<f4", "<f8", "<i4", "<i8", "|u1"})
NARROW = ("|u1", "|i1", "<i2", "<i4")
LENGTH_BYTES = 4
ALL = -1
Array = NDArray[np.generic]


def pack(arrays: Mapping[str, Array]) -> bytes:
    """The arrays as bytes."""
    header, parts = [], []
    for name, array in arrays.items():
        flat, kind = np.ascontiguousarray(array).ravel(), array.dtype.str
        fill = 0
        if array.dtype.kind == "i" and flat.size:
            low, high = int(flat.min()), int(flat.max())
            fill = min(max(low, -1), 0)
            kind = next((dtype for dtype in NARROW if _fits(dtype, low, high)), kind)
        stored = flat.astype(kind, copy=False)
        used = stored.view(f"u{stored.itemsize}") != np.array(fill).astype(kind).view(f"u{stored.itemsize}")
        count = int(np.count_nonzero(used))
        if count * stored.itemsize + flat.size // 8 < stored.nbytes // 2:
            parts += [np.packbits(used).tobytes(), stored[used].tobytes()]
        else:
            count = ALL
            parts.append(stored.tobytes())
        header.append([name, array.dtype.str, array.shape, kind, count, fill])
    told = json.dumps(header).encode()
    return b"".join((len(told).to_bytes(LENGTH_BYTES, "little"), told, *parts))


def _fits(dtype: str, low: int, high: int) -> bool:
    known = np.iinfo(dtype)
    return bool(known.min <= low and high <= known.max)


def unpack(data: bytes) -> dict[str, Array]:
    """The arrays again, perhaps read-only.

    Raises:
        LocalError: not what `pack` gave.
    """
    start = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
    arrays: dict[str, Array] = {}
    for name, dtype, shape, kind, count, fill in json.loads(data[LENGTH_BYTES:start]):
        if dtype not in DTYPES:
            raise LocalError("a snapshot has an array of a kind that is not expected", got=dtype, needed=sorted(DTYPES))
        size = int(np.prod(shape, dtype=np.int64))
        if count == ALL:
            flat = np.frombuffer(data, kind, size, start).astype(dtype, copy=False)
            start += size * np.dtype(kind).itemsize
        else:
            bits = np.frombuffer(data, np.uint8, (size + 7) // 8, start)
            values = np.frombuffer(data, kind, count, start + bits.nbytes)
            flat = np.full(size, fill, dtype)
            flat[np.unpackbits(bits, count=size).view(np.bool_)] = values
            start += bits.nbytes + values.nbytes
        arrays[name] = flat.reshape(shape)
    if start != len(data):
        raise LocalError("a snapshot is not as long as its header says", got=len(data), needed=start)
    return arrays
