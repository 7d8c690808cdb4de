"""Byte sources with a seed: tests and audits draw from them, so a verdict is the same in every run and a failure replays."""

import hashlib

from aicache.privacy.entropy import ByteSource
from aicache.privacy.sampling import Stream


def byte_source(seed: str) -> ByteSource:
    """An endless AES-CTR stream under the digest of the seed: every call gives the next bytes."""
    return Stream(hashlib.sha256(seed.encode()).digest())
