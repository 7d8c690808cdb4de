"""Records that were damaged on their way."""

from collections.abc import Iterator


def flipped(data: bytes, step: int) -> Iterator[bytes]:
    """The data with one bit of it turned over, every `step` bits another one."""
    for bit in range(0, 8 * len(data), step):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)
