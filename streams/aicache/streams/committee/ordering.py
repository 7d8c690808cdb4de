"""In which order a member takes records from several topics, so that what a record refers to has been taken before it.

Topics are read side by side, but a record may refer to another topic: an envelope to a proposal, a closing to the envelopes
before it, a manifest to the approvals before it. The one referred to was in the log before the one that refers was written, so it
is enough to hold a head back until its other topic was read to the end that it had when the head was seen (a barrier).
Of heads that wait for each other in a circle the first is let go.
Pure: no clock, no I/O; the ends of topics are asked of a function.
"""

from collections import deque
from collections.abc import Callable

from aicache.schemas.records import Approval, Endorsement, Envelope, Manifest, Opening, RoundClosed, Vote
from aicache.streams.committee.core import Incoming

COMMITTEE = "aicache.committee"
ENROLMENTS = "aicache.enrolments"
ROUNDS = "aicache.rounds"
VOTES = "aicache.votes"
ENVELOPES = "aicache.envelopes"
ENDORSEMENTS = "aicache.endorsements"
OPENINGS = "aicache.openings"
ORDER = (COMMITTEE, ENROLMENTS, ROUNDS, VOTES, ENVELOPES, ENDORSEMENTS, OPENINGS)


class Ordering:
    """Queues of read records, and which of them may be taken.

    Args:
        knows: whether a round's proposal was taken.
        end_of: the present end of a topic, as the broker says it.
    """

    def __init__(self, knows: Callable[[str], bool], end_of: Callable[[str], int]) -> None:
        self._knows = knows
        self._end_of = end_of
        self._queues: dict[str, deque[Incoming]] = {topic: deque() for topic in ORDER}
        self._read_to: dict[str, int] = dict.fromkeys(ORDER, 0)
        self._barriers: dict[str, tuple[str, int]] = {}

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def put(self, item: Incoming) -> None:
        """A record was read."""
        self._queues[item.topic].append(item)
        self.read_to(item.topic, item.offset + 1)

    def read_to(self, topic: str, offset: int) -> None:
        """Nothing more is to be read before this offset (the end of a topic may lie behind its last record)."""
        self._read_to[topic] = max(self._read_to[topic], offset)

    def position(self, topic: str) -> int:
        """Up to where the topic was read."""
        return self._read_to[topic]

    def empty(self, topic: str) -> bool:
        """Whether all that was read of a topic was taken."""
        return not self._queues[topic]

    def take(self, limit: int) -> list[Incoming]:
        """Up to `limit` records that may be taken now, in order; whoever calls takes them all before calling again.

        A batch ends where knowing more could change what may be taken, so a batch holds records of one topic.
        """
        for topic in ORDER:
            taken = self._take_of(topic, limit)
            if taken:
                return taken
        return self._take_from_circle()

    def _take_of(self, topic: str, limit: int) -> list[Incoming]:
        queue = self._queues[topic]
        taken: list[Incoming] = []
        while queue and len(taken) < limit and self._ready(topic, queue[0]):
            taken.append(queue.popleft())
            self._barriers.pop(topic, None)
        return taken

    def _ready(self, topic: str, head: Incoming) -> bool:
        other = self._needs(head)
        if other is None:
            return True
        if topic not in self._barriers:
            self._barriers[topic] = (other, self._end_of(other))
        other, end = self._barriers[topic]
        queue = self._queues[other]
        # Read to the barrier, and all of it taken (what still waits lies behind the barrier).
        return self._read_to[other] >= end and (not queue or queue[0].offset >= end)

    def _needs(self, head: Incoming) -> str | None:
        match head.record:
            case RoundClosed():
                return ENVELOPES
            case Manifest():
                return VOTES
            case Approval() | Vote() | Envelope() | Endorsement() | Opening():
                return None if self._knows(head.record.round_id) else ROUNDS
        return None

    def _take_from_circle(self) -> list[Incoming]:
        """Where heads wait for each other in a circle, let the first of them go: that of `rounds`.

        A closing that waits for an envelope whose proposal stands behind the closing was written before that envelope, so what
        is endorsed before it is already all that counts.
        """
        for topic in ORDER:
            if self._waits_for(topic) is not None and self._in_circle(topic):
                del self._barriers[topic]
                return [self._queues[topic].popleft()]
        return []

    def _waits_for(self, topic: str) -> str | None:
        """The topic that a head waits to be taken of, all of which was read; None where it waits for the broker."""
        if not self._queues[topic] or topic not in self._barriers:
            return None
        other, end = self._barriers[topic]
        return other if self._read_to[other] >= end else None

    def _in_circle(self, topic: str) -> bool:
        current = self._waits_for(topic)
        for _ in ORDER:
            if current is None or current == topic:
                break
            current = self._waits_for(current)
        return current == topic
