"""The two ways in which things go wrong, after h11: ours, and a peer's.

Every error says what was got and what is needed, and carries both as attributes. Neither may hold a secret or a client's data.
"""


class AicacheError(Exception):
    """Base of all errors that aicache raises on purpose."""

    def __init__(self, message: str, *, got: object = None, needed: object = None) -> None:
        super().__init__(message)
        self.got = got
        self.needed = needed


class LocalError(AicacheError):
    """Our caller broke the contract: nothing was done, the state is as before."""


class RemoteError(AicacheError):
    """A peer's record is bad: drop it, count it, dead-letter it, and go on with the next.

    Args:
        message: for people; must not quote the record.
        reason: a stable word for machines, such as `unknown-schema` (metrics and dead letters carry it).
    """

    def __init__(self, message: str, *, reason: str, got: object = None, needed: object = None) -> None:
        super().__init__(message, got=got, needed=needed)
        self.reason = reason
