"""A deployment of processes on a real Kafka, and clients that the test moves."""

import time
from pathlib import Path

import numpy as np

from aicache.privacy import accounting
from aicache.privacy.contribution import client_message
from aicache.privacy.statements import record_digest
from aicache.producers.connection import KafkaSettings
from aicache.schemas.admin import create_topics
from aicache.schemas.records import (
    Aggregate,
    Approval,
    Enrolment,
    JoinRequest,
    Manifest,
    Opening,
    Proposal,
    RoundAborted,
    Vote,
)
from aicache.schemas.signing import signed
from aicache.streams.committee import commands
from aicache.streams.committee.core import ABORT
from support.kafka_log import KafkaLog
from support.processes import COORDINATOR, MEMBER, REDUCER, Processes
from support.rounds import LIMITS, World

CLIENTS = 50


class Play:
    """Processes and clients of one deployment; the test moves the clients.

    Attributes:
        sent: what each client encrypted, by round.
    """

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        create_topics(kafka.client_config(), kafka.prefix, replication=1)
        self.kafka = kafka
        self.processes = Processes(kafka, folder)
        self.log = KafkaLog(kafka, ["aicache.insights.aggregates", "aicache.enrolments"])
        self.world = World(
            members=5,
            threshold=3,
            clients=0,
            outside=True,
            deployment=kafka.deployment,
            log=self.log,
            now_ms=time.time_ns() // 1_000_000,
            seed=kafka.deployment,
        )
        self.people = [self.world.person() for _ in range(CLIENTS)]
        self.sent: dict[str, dict[bytes, np.ndarray]] = {}
        self.public = self.world.operator.public_key().public_bytes_raw()
        self.folders = [folder / f"member-{number}" for number in range(1, 6)]
        for number, where in enumerate(self.folders, 1):
            commands.init(where, number, deployment=kafka.deployment, operator_key=self.public, limits=LIMITS)

    def start(self) -> None:
        self.members = [self.processes.start(MEMBER, str(where)) for where in self.folders]
        self.coordinator = self.processes.start(COORDINATOR, self.world.operator.private_bytes_raw().hex())
        self.reducer = self.processes.start(REDUCER)
        self.processes.ready(*self.members, self.coordinator, self.reducer)

    def join(self) -> None:
        for person in self.people:
            request = JoinRequest(self.kafka.deployment, person.public, time.time_ns() // 1_000_000, b"")
            self.log.append("aicache.joins", signed(request, person.key))
        self.log.until(lambda: len(self.log.records("aicache.enrolments", Enrolment)) == CLIENTS, "all are enrolled")

    def contribute(self) -> None:
        """Each client acts on a proposal that it has not acted on, once k approvals stand."""
        for item in list(self.log.topics.get("aicache.rounds", [])):
            proposal = item.record
            if not isinstance(proposal, Proposal) or proposal.round_id in self.sent:
                continue
            approvals = {
                r.member for r in self.log.records("aicache.votes", Approval) if r.round_id == proposal.round_id
            }
            if len(approvals) < proposal.quorum:
                continue
            self.sent[proposal.round_id] = {}
            rho = record_digest("proposal", item.fingerprint, item.body)
            share = accounting.share_sigma("clients", proposal.sigma, 5, 3, proposal.honest)
            for person in self.people:
                raw = np.frombuffer(person.entropy(proposal.length), np.uint8).astype(np.float64)
                message = client_message(
                    raw, clip=proposal.clip, scale=proposal.scale, sigma_share=share, entropy=person.entropy
                )
                person.send(self.log, proposal, rho, message, self.world.keys())
                self.sent[proposal.round_id][person.id] = message

    def aggregates(self) -> dict[str, Aggregate]:
        return {r.round_id: r for r in self.log.records("aicache.insights.aggregates", Aggregate)}

    def until_aggregates(self, count: int, step=lambda: None) -> list[Aggregate]:
        def move() -> None:
            self.contribute()
            step()

        self.log.until(lambda: len(self.aggregates()) >= count, f"{count} aggregates: {self.processes.said()}", move)
        return sorted(self.aggregates().values(), key=lambda aggregate: aggregate.number)

    def check(self, aggregate: Aggregate) -> None:
        clear = np.sum(list(self.sent[aggregate.round_id].values()), axis=0)
        assert aggregate.n == CLIENTS
        assert np.array_equal(np.frombuffer(aggregate.sum, "<i8"), clear)

    def stop(self) -> None:
        self.processes.stop()
        self.log.close()


def check_rounds(play: Play) -> None:
    """Every round ended exact, aborted or, where members' openings did not come in time, with groups that say so; none was opened twice,
    and no member voted twice.
    """
    log = play.log
    manifests: dict[str, set[bytes]] = {}
    for opening in log.records("aicache.openings", Opening):
        manifests.setdefault(opening.round_id, set()).add(opening.manifest_digest)
    assert manifests
    assert all(len(digests) == 1 for digests in manifests.values()), "no round is opened twice"
    votes: dict[tuple[str, int], set[bytes]] = {}
    for vote in log.records("aicache.votes", Vote):
        votes.setdefault((vote.round_id, vote.member), set()).add(vote.manifest_digest)
    assert all(len(digests) == 1 for digests in votes.values()), "no member votes twice"
    sums: dict[str, set[bytes]] = {}
    listed = {m.round_id: m for m in log.records("aicache.rounds", Manifest)}
    for aggregate in log.records("aicache.insights.aggregates", Aggregate):
        sums.setdefault(aggregate.round_id, set()).add(aggregate.sum)
        opened = {group.group for group in aggregate.groups if group.status == "opened"}
        assert all(group.status == "opened" or group.reason for group in aggregate.groups)
        groups = [group for group in listed[aggregate.round_id].groups if group.group in opened]
        clients = [entry.client for group in groups for entry in group.clients]
        clear = np.sum([play.sent[aggregate.round_id][client] for client in clients], axis=0) if clients else []
        assert aggregate.n == len(clients), aggregate.groups
        assert np.array_equal(np.frombuffer(aggregate.sum, "<i8"), clear), (aggregate.n, aggregate.groups)
    assert all(len(found) == 1 for found in sums.values())
    assert any(map(any, sums.values())), "some rounds were opened"
    aborted = {record.round_id for record in log.records("aicache.rounds", RoundAborted)}
    opened_after_abort = aborted & set(sums)
    for round_id in opened_after_abort:
        voted = [d for (name, _), digests in votes.items() if name == round_id for d in digests if d != ABORT]
        assert len(voted) >= 4, "only a quorum of votes overrides an abort"
    unfinished = set(listed) - set(sums) - aborted
    assert len(unfinished) <= 1, "the last round may still go on"
