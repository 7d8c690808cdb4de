"""Memory that is freed stays with the process, for one that takes and frees a megabyte over and over.

glibc gives such pieces back to the system at once, and the system clears each page again when it is touched next: for
ciphertexts that took a third of the reducer's time. Boundary: the C library.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MIB = 1024 * 1024
KEPT_BYTES = 64 * MIB
PIECE_BYTES = 32 * MIB
"""The largest piece that comes from what is kept; glibc allows no more."""


def keep_freed_memory() -> bool:
    """Keep up to `KEPT_BYTES` of what is freed; False where the C library has no such setting, and nothing is changed."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, PIECE_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
