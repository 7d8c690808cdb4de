"""How many inputs the direct shell takes at once.

A larger batch writes each changed key less often, but what has begun has to be finished before a partition can be handed over, and
how long a record takes is the logic's affair. So the size follows from time: it grows while full batches are quick, and shrinks
when they are slow. Pure: times are passed in.
"""

SIZE_MIN = 20
SIZE_MAX = 8_000
SIZE_FIRST = 100
BATCH_S = 1.0
"""What a batch may take, folding and writing."""
SECONDS_MIN = 1e-6
"""A clock may not tell a shorter time from none."""
GROWTH_MAX = 8
"""Of a batch to the next. With a backlog each batch waits for the commit of the one before, so small ones cost most of the start."""


class Pace:
    """The size of batches, from how long they took.

    Attributes:
        size: how many inputs to take next, at most.

    Examples:
        >>> pace = Pace()
        >>> pace.took(100, 0.1, full=True)
        >>> pace.size
        500
        >>> pace.took(500, 4.0, full=True)
        >>> pace.size
        125
    """

    def __init__(self) -> None:
        self.size = SIZE_FIRST

    def took(self, inputs: int, seconds: float, *, full: bool) -> None:
        """So many inputs took so long; `full`: as many were taken as are allowed."""
        if seconds > BATCH_S:
            self.size = max(SIZE_MIN, int(min(inputs, self.size) * BATCH_S / seconds))
        elif full and seconds < BATCH_S / 2:
            self.size = min(SIZE_MAX, int(self.size * min(GROWTH_MAX, BATCH_S / 2 / max(seconds, SECONDS_MIN))))
