"""A ciphertext in pieces that fit a broker's default record size. Pure."""

from aicache.schemas.records import UpdateChunk

CHUNK_BYTES = 900_000


def chunks(round_id: str, sender: bytes, ciphertext: bytes) -> list[UpdateChunk]:
    """The records in which a sender publishes its ciphertext, in order.

    Args:
        round_id: name of the round.
        sender: client id, or the sender id of a member's vector.
        ciphertext: packed, not empty.
    """
    pieces = [ciphertext[start : start + CHUNK_BYTES] for start in range(0, len(ciphertext), CHUNK_BYTES)]
    return [UpdateChunk(round_id, sender, index, len(pieces), piece) for index, piece in enumerate(pieces)]
