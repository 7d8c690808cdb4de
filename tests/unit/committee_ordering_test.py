"""Records of several topics are taken in an order in which what one refers to comes first, whatever way they arrive."""

from hypothesis import given
from hypothesis import strategies as st

from aicache.schemas.records import Approval, Envelope, Manifest, Place, Proposal, Receipt, RoundClosed
from aicache.streams.committee.core import Incoming
from aicache.streams.committee.ordering import ENDORSEMENTS, ENVELOPES, ROUNDS, VOTES, Ordering

ZERO = bytes(32)


def proposal(name: str) -> Proposal:
    fields = dict.fromkeys(Proposal.__dataclass_fields__, 0)
    return Proposal(**{**fields, "round_id": name})


def closed(name: str) -> RoundClosed:
    return RoundClosed("d", "t", name, ZERO, 0, "full")


def manifest(name: str) -> Manifest:
    return Manifest("d", "t", name, ZERO, [], [], [])


def approval(name: str) -> Approval:
    return Approval("d", "t", name, ZERO, 1, ZERO, ZERO, b"")


def envelope(name: str) -> Envelope:
    return Envelope("d", "t", name, ZERO, ZERO, 0, ZERO, -1, -1, ZERO, Place(0, [0]), [], b"")


class Reader:
    """An ordering over a log of (topic, record) in the order in which they were written."""

    def __init__(self, log: list[tuple[str, object]]) -> None:
        self.log: dict[str, list[Incoming]] = {}
        for topic, record in log:
            rows = self.log.setdefault(topic, [])
            rows.append(Incoming(topic, 0, len(rows), 0, record, b"", b""))  # type: ignore[arg-type]
        self.known: set[str] = set()
        self.taken: list[tuple[str, str, int]] = []
        self.ordering = Ordering(self.known.__contains__, lambda topic: len(self.log.get(topic, [])))

    def arrive(self, topic: str) -> None:
        position = self.ordering.position(topic)
        rows = self.log.get(topic, [])
        if position < len(rows):
            self.ordering.put(rows[position])
        self.take()

    def arrive_all(self) -> None:
        for topic, rows in self.log.items():
            for _ in rows:
                self.arrive(topic)

    def take(self) -> None:
        while batch := self.ordering.take(10):
            for item in batch:
                if isinstance(item.record, Proposal):
                    self.known.add(item.record.round_id)
                self.taken.append((type(item.record).__name__, item.record.round_id, item.offset))  # type: ignore[union-attr]


A_ROUND = [
    (ROUNDS, proposal("a")),
    (VOTES, approval("a")),
    (ENVELOPES, envelope("a")),
    (ENVELOPES, envelope("a")),
    (ROUNDS, closed("a")),
    (ROUNDS, manifest("a")),
]


@given(st.lists(st.sampled_from([ROUNDS, VOTES, ENVELOPES]), max_size=20))
def test_however_topics_interleave_a_round_is_taken_in_its_order(arrivals: list[str]) -> None:
    reader = Reader(A_ROUND)
    for topic in arrivals:
        reader.arrive(topic)
    reader.arrive_all()
    order = [name for name, _, _ in reader.taken]
    assert len(order) == 6
    assert order.index("Proposal") == 0
    assert order.index("RoundClosed") > max(i for i, name in enumerate(order) if name == "Envelope")
    assert order.index("Manifest") > order.index("Approval")


@given(st.lists(st.sampled_from([ROUNDS, VOTES, ENVELOPES]), max_size=30))
def test_rounds_that_wait_for_each_other_are_both_taken_whole(arrivals: list[str]) -> None:
    log = [
        *A_ROUND[:4],
        (ROUNDS, closed("a")),
        (ROUNDS, proposal("b")),
        (ENVELOPES, envelope("b")),
        (ENVELOPES, envelope("a")),
        (VOTES, approval("b")),
        (ROUNDS, manifest("a")),
        (ROUNDS, closed("b")),
    ]
    reader = Reader(log)
    for topic in arrivals:
        reader.arrive(topic)
    reader.arrive_all()
    assert len(reader.taken) == len(log)
    order = reader.taken
    assert order.index(("Proposal", "b", 2)) < order.index(("Envelope", "b", 2))
    assert order.index(("RoundClosed", "b", 4)) > order.index(("Envelope", "b", 2))
    assert order.index(("RoundClosed", "a", 1)) > order.index(("Envelope", "a", 1)), "what came before the closing"


def test_a_record_of_a_round_that_nobody_proposed_is_let_go_when_the_rounds_are_read() -> None:
    reader = Reader([(ROUNDS, proposal("a")), (ENVELOPES, envelope("nothing"))])
    reader.arrive(ENVELOPES)
    assert reader.taken == []
    reader.arrive(ROUNDS)
    assert [name for name, _, _ in reader.taken] == ["Proposal", "Envelope"]


def test_the_end_of_a_topic_may_lie_behind_its_last_record() -> None:
    reader = Reader([(ENVELOPES, envelope("a"))])
    reader.ordering = Ordering(reader.known.__contains__, lambda _: 7)
    reader.arrive(ENVELOPES)
    assert reader.taken == []
    reader.ordering.read_to(ROUNDS, 7)
    reader.take()
    assert len(reader.taken) == 1


def test_records_that_refer_to_nothing_do_not_wait() -> None:
    reader = Reader([(ENDORSEMENTS, Receipt("d", "t", "x", ZERO, []))])
    reader.arrive(ENDORSEMENTS)
    assert len(reader.taken) == 1
