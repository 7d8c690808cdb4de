"""Whole rounds under faults: coordinator, members, reducer and clients as the machines that run in production, over one log.

Oracles: each published aggregate is the clear sum over its manifest, and tells the noise of it; no round has two manifests or two
aggregates that differ; every aggregate has a quorum of votes for its manifest; no member votes twice; nobody's budget is overspent; a clip
that adapts (in every other seed) follows from the round before it; and everything ends.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from aicache.privacy.errors import RemoteError
from aicache.schemas.clipping import check_follows
from aicache.schemas.records import AdaptiveClipping, Aggregate, Budget, Manifest, Proposal, RoundAborted, Vote
from aicache.streams.committee.member import Member
from aicache.streams.committee.store import Store
from aicache.streams.runtime.contract import Output, Step
from simulation.log import CrashedError
from support.deployment import Deployment, make_task
from support.rounds import START_MS, World

TICK_MS = 400
ADAPTIVE = AdaptiveClipping(quantile=0.5, rate=0.5, weight=0.5, clip_min=0.25, clip_max=4.0)
FIRST_CLIP = 1.0
FILES_EVERY = 27
"""Every so many seeds the members' stores are files, which can be torn; else they are in memory, which is faster."""
TURNS_MAX = 240
CLIENTS = 6
MEMBERS, THRESHOLD = 3, 2


class MortalWorld(World):
    """A world whose members die in the middle of a transaction when they are told to, and come back from their file.

    Attributes:
        doomed: members by number, and whether the transaction at hand is still committed.
    """

    def __post_init__(self) -> None:
        self.doomed: dict[int, bool] = {}
        self.note: Callable[[str], None] = lambda fault: None
        self.torn: Path | None = None
        super().__post_init__()

    def step(self, member: Member) -> bool:
        number = next(number for number, one in self.committee.items() if one is member)
        if number not in self.doomed:
            return super().step(member)
        committed = self.doomed.pop(number)
        whole = member.store.transaction

        @contextmanager
        def mortal() -> Iterator[None]:
            with whole():
                yield
                if not committed:
                    if self.folder is not None:
                        self.tear(member)
                    raise CrashedError
            raise CrashedError

        member.store.transaction = mortal  # type: ignore[method-assign]
        try:
            return super().step(member)
        except CrashedError:
            return True
        finally:
            member.store.transaction = whole  # type: ignore[method-assign]
            self.revive(number)

    def tear(self, member: Member) -> None:
        """Keep the files as they lie on the disk in mid-transaction, the journal's end torn."""
        path = Path(member.store.path)
        torn = path.with_name(f"{path.stem}-torn.db")
        torn.write_bytes(path.read_bytes())
        journal = Path(f"{path}-wal")
        if journal.exists():
            Path(f"{torn}-wal").write_bytes(journal.read_bytes() + bytes(range(100)))
        self.torn = torn

    def revive(self, number: int) -> None:
        """A new process on the same file."""
        store = self.committee[number].store
        if self.folder is not None:
            store.close()
            path, self.torn = self.torn or Path(store.path), None
            store = Store(path)
            if path.stem.endswith("-torn"):
                self.note("torn state file")
        self.committee[number] = Member(store, self.limits)

    def pump(self) -> None:
        moved = True
        while moved:
            alive = [number for number in list(self.committee) if number not in self.silent]
            moved = sum(self.step(self.committee[number]) for number in alive) > 0


class Rounds(Deployment):
    """A deployment that is hit by faults.

    Args:
        seed: decides everything but keys and noise.

    Attributes:
        trace: what went wrong and what was published, in its order.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.faults: list[str] = []
        self.trace: list[str] = []
        self._files = TemporaryDirectory(prefix="aicache-sim-") if seed % FILES_EVERY == 0 else None
        folder = None if self._files is None else Path(self._files.name)
        world = MortalWorld(members=MEMBERS, threshold=THRESHOLD, clients=CLIENTS, seed=f"sim-{seed}", folder=folder)
        world.note = self.note
        super().__init__(world)
        groups = int(self.random.choice([1, 1, 2]))
        clipping = {"clipping": "adaptive", "adaptive": ADAPTIVE} if seed % 2 else {}
        task = make_task(
            **clipping,
            noise="clients", honest=1, n_min=2, n_max=4, groups=groups, rounds=2, members=MEMBERS, threshold=THRESHOLD,
            length=8, labels=[f"tag:{n}" for n in range(8)], deadline_ms=4_000, grace_ms=1_200,
        )  # fmt: skip
        self.world.log.append("aicache.tasks", task)
        self.committed_read: dict[str, int] = {}

    def close(self) -> None:
        """Remove what the members have written."""
        if self._files is not None:
            for member in self.world.committee.values():
                member.store.close()
            self._files.cleanup()

    def note(self, fault: str) -> None:
        """Something goes wrong."""
        self.faults.append(fault)
        self.trace.append(f"{self.world.now_ms - START_MS:>7} ms  {fault}")

    # ------------------------------------------------------------ faults

    def play(self) -> None:
        """Until both rounds are through, however many tries it takes."""
        for _ in range(TURNS_MAX):
            self.world.now_ms += TICK_MS
            self.before_turn()
            self.turn()
            task = self.state.tasks.get("tags")
            if task is not None and (task.finished >= 2 or task.rounds >= 6):
                return
        raise AssertionError("the rounds do not come to an end")

    def before_turn(self) -> None:
        fault = self.random.random()
        if fault < 0.06:
            self.note("coordinator killed")
            self.restart_coordinator()
            self.read = dict(self.committed_read)
        elif fault < 0.12:
            self.note("reducer killed")
            self.restart_reducer()
        elif fault < 0.20:
            number = int(self.random.integers(1, MEMBERS + 1))
            self.note("member killed")
            self.world.revive(number)
        elif fault < 0.26:
            self.note("member cut off")
            self.world.silent = {int(self.random.integers(1, MEMBERS + 1))}
        elif fault < 0.34:
            self.world.silent = set()
        elif fault < 0.38:
            self.note("clock jump")
            self.world.now_ms += int(self.random.integers(-3_000, 3_000))
        elif fault < 0.44:
            self.note("client vanishes")
            self.absent = {person.id for person in self.world.people if self.random.random() < 0.3}
        elif fault < 0.50:
            self.repeat_an_envelope()
        elif fault < 0.56:
            self.world.doomed = {int(self.random.integers(1, MEMBERS + 1)): bool(self.random.random() < 0.5)}
            self.note("member killed at a write")

    def repeat_an_envelope(self) -> None:
        """As a client does whose acknowledgement was lost."""
        rows = self.world.log.topics.get("aicache.envelopes", [])
        if rows:
            self.note("duplicate")
            row = rows[int(self.random.integers(len(rows)))]
            self.world.log.append("aicache.envelopes", row.record, self.world.now_ms)

    def write(self, step: Step) -> None:
        """The coordinator's transaction; now and then it dies before it, and all that it held is lost."""
        if self.random.random() < 0.05 and self.random.random() < 0.5:
            self.note("coordinator killed before its write")
            self.restart_coordinator()
            self.read = dict(self.committed_read)
            return
        super().write(step)
        self.committed_read = dict(self.read)

    def publish(self, outputs: list[Output]) -> None:
        """Nothing is published that a quorum does not stand behind at that moment."""
        for output in outputs:
            self.trace.append(
                f"{self.world.now_ms - START_MS:>7} ms    {type(output.record).__name__} to {output.topic}"
            )
            if isinstance(output.record, Aggregate):
                votes = {v.member for v in self.votes_once() if v.manifest_digest == output.record.manifest_digest}
                needed = next(
                    p
                    for p in self.world.log.records("aicache.rounds", Proposal)
                    if p.round_id == output.record.round_id
                )
                assert len(votes) >= needed.quorum, "opened without a quorum"
        super().publish(outputs)

    # ------------------------------------------------------------ oracles

    def check(self) -> None:
        """All of them, over the log."""
        log = self.world.log
        manifests: dict[str, list[tuple[bytes, Manifest]]] = {}
        for item in log.topics.get("aicache.rounds", []):
            if isinstance(item.record, Manifest):
                manifests.setdefault(item.record.round_id, []).append((item.body, item.record))
        assert all(len({body for body, _ in found}) == 1 for found in manifests.values()), "a round has two manifests"
        quorum = {p.round_id: p.quorum for p in log.records("aicache.rounds", Proposal)}
        votes = Counter((v.round_id, v.manifest_digest) for v in self.votes_once())
        bodies: dict[str, set[bytes]] = {}
        for item in log.topics.get("aicache.insights.aggregates", []):
            aggregate = item.record
            assert isinstance(aggregate, Aggregate)
            bodies.setdefault(aggregate.round_id, set()).add(item.body)
            assert votes[aggregate.round_id, aggregate.manifest_digest] >= quorum[aggregate.round_id], (
                "opened without a quorum"
            )
            self.check_sum(aggregate, manifests[aggregate.round_id][0][1])
            self.check_noise(aggregate)
        assert all(len(found) == 1 for found in bodies.values()), "a round was opened twice, differently"
        self.check_budgets(manifests)
        self.check_clips()
        ended = set(bodies) | {r.round_id for r in log.records("aicache.rounds", RoundAborted)}
        assert len(set(quorum) - ended) <= 1, "a round hangs"

    def check_clips(self) -> None:
        """Each clip follows from the newest round before it that was opened and not given up."""
        log = self.world.log
        given_up = {record.round_id for record in log.records("aicache.rounds", RoundAborted)}
        proposals = {record.round_id: record for record in log.records("aicache.rounds", Proposal)}
        opened = {
            record.round_id: record
            for record in log.records("aicache.insights.aggregates", Aggregate)
            if record.n and record.round_id not in given_up
        }
        for proposal in proposals.values():
            before = [proposals[name] for name in opened if proposals[name].number < proposal.number]
            last = max(before, key=lambda one: one.number, default=None)
            if proposal.adaptive is None:
                continue
            assert proposal.clip_from == (last.round_id if last else ""), "a clip follows from another round"
            try:
                check_follows(proposal, last, opened[last.round_id] if last else None, FIRST_CLIP)
            except RemoteError as error:
                raise AssertionError(str(error)) from None

    def votes_once(self) -> list[Vote]:
        votes = self.world.log.records("aicache.votes", Vote)
        said: dict[tuple[str, int], bytes] = {}
        for vote in votes:
            before = said.setdefault((vote.round_id, vote.member), vote.manifest_digest)
            assert before == vote.manifest_digest, "a member voted twice"
        return [vote for n, vote in enumerate(votes) if vote not in votes[:n]]

    def check_sum(self, aggregate: Aggregate, manifest: Manifest) -> None:
        assert all(g.status == "opened" for g in aggregate.groups), "a group was dropped although nobody spoiled it"
        opened = {group.group for group in aggregate.groups if group.status == "opened"}
        listed = [entry.client for group in manifest.groups if group.group in opened for entry in group.clients]
        assert aggregate.n == len(listed), "people are counted wrong"
        if listed:
            clear = np.sum([self.sent[aggregate.round_id][client] for client in listed], axis=0)
            assert np.array_equal(np.frombuffer(aggregate.sum, "<i8"), clear), "the aggregate is not the clear sum"

    def check_noise(self, aggregate: Aggregate) -> None:
        """Each client adds its share, so that `honest` of them make up what was planned."""
        (proposal, *_) = [
            record
            for record in self.world.log.records("aicache.rounds", Proposal)
            if record.round_id == aggregate.round_id
        ]
        assert (proposal.noise, proposal.robust) == ("clients", "none")
        found = proposal.sigma * math.sqrt(aggregate.n / proposal.honest)
        assert math.isclose(aggregate.sigma, found), "the aggregate tells another noise than is in it"

    def check_budgets(self, manifests: dict[str, list[tuple[bytes, Manifest]]]) -> None:
        listed = Counter(e.client for found in manifests.values() for g in found[0][1].groups for e in g.clients)
        for row in self.world.log.topics.get("aicache.budgets", []):
            budget = row.record
            assert isinstance(budget, Budget)
            assert budget.rounds <= listed[budget.client], "a client was charged for a round that it was not in"
            assert budget.epsilon <= self.world.limits.budgets["*"].epsilon, "a budget is overspent"
