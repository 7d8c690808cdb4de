"""Write round-good.jsonl and round-bad_*.jsonl: one small round as `aicache round export` writes it, and how not to.

    .venv/bin/python tests/vectors/make_round_vectors.py

Every bad one is well framed: each record decodes, and what others have signed is left as it was. Each has one fault, which
`round-reasons.json` names with the check that has to find it.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402

from aicache.privacy.statements import record_digest  # noqa: E402
from aicache.schemas.codec import Codec, body_of  # noqa: E402
from aicache.schemas.records import (  # noqa: E402
    Aggregate,
    Approval,
    CommitteeMember,
    Endorsement,
    Enrolment,
    Envelope,
    Manifest,
    Opening,
    Proposal,
    Record,
    Task,
    UpdateChunk,
    Vote,
)
from aicache.schemas.signing import signed  # noqa: E402
from aicache.streams.rounds.exported import Entry, in_memory, write  # noqa: E402
from support.deployment import Deployment, make_task  # noqa: E402
from support.rounds import DEPLOYMENT, World  # noqa: E402

CODEC = Codec()
ROUND = "tags-1"
TOPICS = (
    "tasks", "committee", "enrolments", "rounds", "votes", "envelopes", "endorsements", "openings", "insights.aggregates",
    "updates",
)  # fmt: skip
KEPT = (
    "a_vote_too_few", "a_forged_vote", "a_member_voted_twice", "an_approval_too_few", "a_foreign_roster", "a_client_twice",
    "a_client_alone", "a_client_that_nobody_enrolled", "an_envelope_of_another", "a_ciphertext_changed", "openings_swapped",
    "a_false_sum", "a_guarantee_that_promises_more", "a_task_that_says_otherwise",
)  # fmt: skip
"""Those that are kept as files; the others are made in the test."""
Row = tuple[str, int, Record]


def play() -> tuple[Deployment, list[Row]]:
    """Three members, two of whom open, and two clients."""
    play = Deployment(World(members=3, threshold=2, clients=2, seed="round-vectors"))
    task = make_task(
        length=8, labels=[f"tag:{n}" for n in range(8)], noise="clients", honest=2, n_min=2, members=3, threshold=2
    )
    play.world.log.append("aicache.tasks", task)
    play.run(8_000)
    rows = [
        (item.topic, item.offset, item.record)
        for name in TOPICS
        for item in play.world.log.topics[f"aicache.{name}"]
        if item.record is not None
    ]
    return play, rows


def save(name: str, rows: list[Row]) -> None:
    entries = [Entry(topic, 0, offset, CODEC.encode(record)) for topic, offset, record in rows]
    write(HERE / f"{name}.jsonl", in_memory(DEPLOYMENT, ROUND, entries))


def changed(rows: list[Row], kind: type, change: Callable[[Record], Record], which: int = 0) -> list[Row]:
    """One record of a kind is another one."""
    seen, out = 0, []
    for topic, offset, record in rows:
        if isinstance(record, kind):
            if seen == which:
                record = change(record)
            seen += 1
        out.append((topic, offset, record))
    assert seen > which, kind
    return out


def without(rows: list[Row], drop: Callable[[Record], bool]) -> list[Row]:
    return [row for row in rows if not drop(row[2])]


def of_kind(rows: list[Row], kind: type) -> list:
    return [record for _, _, record in rows if isinstance(record, kind)]


def revoted(play: Deployment, rows: list[Row], change: Callable[[Manifest], Manifest]) -> list[Row]:
    """Another manifest, for which all members have voted and which they have opened: what a whole committee could do."""
    (manifest,) = of_kind(rows, Manifest)
    other = change(manifest)
    digest = record_digest("manifest", *body_of(other))
    keys = {number: member.core._identity_key for number, member in play.world.committee.items()}
    out: list[Row] = []
    for topic, offset, record in rows:
        if isinstance(record, Manifest):
            record = other
        elif isinstance(record, Vote | Opening):
            record = signed(replace(record, manifest_digest=digest), keys[record.member])
        elif isinstance(record, Aggregate):
            record = replace(record, manifest_digest=digest)
        out.append((topic, offset, record))
    return out


def first_client(manifest: Manifest, **changes: object) -> Manifest:
    (group,) = manifest.groups
    clients = [replace(group.clients[0], **changes), *group.clients[1:]]
    return replace(manifest, groups=[replace(group, clients=clients)])


def clients_of(manifest: Manifest, pick: Callable[[list], list]) -> Manifest:
    (group,) = manifest.groups
    return replace(manifest, groups=[replace(group, clients=pick(group.clients))])


def twice(record: Aggregate) -> Aggregate:
    total = np.frombuffer(record.sum, "<i8") + np.eye(1, 8, dtype=np.int64)[0]
    return replace(record, sum=total.astype("<i8").tobytes())


def spoiled(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def bad_ones(play: Deployment, rows: list[Row]) -> dict[str, tuple[list[Row], str, str]]:
    (proposal,) = of_kind(rows, Proposal)
    (manifest,) = of_kind(rows, Manifest)
    stranger = play.world.person()
    listed = manifest.groups[0].clients[0].client
    openings = [row for row in rows if isinstance(row[2], Opening)]
    swapped = dict(
        zip([row[2].member for row in openings], np.roll([row[2].shares for row in openings], 1), strict=True)
    )
    member = play.world.committee[1]
    other_vote = signed(replace(of_kind(rows, Vote)[0], manifest_digest=bytes(32)), member.core._identity_key)
    return {
        "a_vote_too_few": (without(rows, lambda r: isinstance(r, Vote) and r.member == 2), "votes", "too-few-votes"),
        "a_forged_vote": (changed(rows, Vote, lambda r: replace(r, signature=spoiled(r.signature))), "votes", "too-few-votes"),
        "a_member_voted_twice": ([*rows, ("aicache.votes", 99, other_vote)], "votes", "voted-twice"),
        "an_approval_too_few": (
            without(rows, lambda r: isinstance(r, Approval) and r.member == 3), "approvals", "too-few-approvals",
        ),
        "two_proposals": (
            [*rows, ("aicache.rounds", 99, replace(proposal, n_max=proposal.n_max + 1))], "proposal", "second-proposal",
        ),
        "an_epoch_key_that_its_member_did_not_sign": (
            changed(rows, CommitteeMember, lambda r: replace(r, signature=spoiled(r.signature))), "roster", "unsigned-epoch-key",
        ),
        "a_foreign_roster": (foreign_roster(play, rows), "roster", "foreign-roster"),
        "no_manifest": (without(rows, lambda r: isinstance(r, Manifest)), "votes", "no-manifest"),
        "a_client_twice": (
            revoted(play, rows, lambda m: clients_of(m, lambda clients: [*clients, clients[0]])), "manifest", "client-twice",
        ),
        "a_client_alone": (
            revoted(play, rows, lambda m: clients_of(m, lambda clients: clients[:1])), "manifest", "group-under-n-min",
        ),
        "a_client_that_nobody_enrolled": (
            [
                *without(rows, lambda r: isinstance(r, Enrolment) and r.client == listed),
                ("aicache.enrolments", 99, replace(stranger.enrolment(play.world.operator), client=listed)),
            ],
            "enrolments", "not-enrolled",
        ),
        "an_envelope_of_another": (
            changed(rows, Envelope, lambda r: replace(r, signature=spoiled(r.signature)), which_client(rows)), "envelopes",
            "no-envelope",
        ),
        "a_place_that_the_client_did_not_sign": (
            revoted(play, rows, lambda m: first_client(m, place=replace(m.groups[0].clients[0].place, offsets=[0]))),
            "envelopes", "no-envelope",
        ),
        "a_false_nonce": (
            revoted(play, rows, lambda m: replace(m, members=[replace(m.members[0], nonce=bytes(32)), *m.members[1:]])),
            "manifest", "bad-nonce",
        ),
        "a_set_under_the_quorum": (
            revoted(play, rows, lambda m: replace(m, members=m.members[:2])), "manifest", "set-under-quorum",
        ),
        "an_endorsement_missing": (
            without(rows, lambda r: isinstance(r, Endorsement) and r.member == 2), "manifest", "vector-not-endorsed",
        ),
        "a_ciphertext_changed": (
            changed(rows, UpdateChunk, lambda r: replace(r, data=spoiled(r.data))), "ciphertexts", "wrong-digest",
        ),
        "a_ciphertext_missing": (without(rows, first_chunk()), "ciphertexts", "ciphertext-missing"),
        "an_opening_too_few": (
            without(rows, lambda r: isinstance(r, Opening) and r.member > 1), "openings", "too-few-openings",
        ),
        "openings_swapped": (
            [(t, o, replace(r, shares=bytes(swapped[r.member])) if isinstance(r, Opening) else r) for t, o, r in rows],
            "openings", "too-few-openings",
        ),
        "a_false_sum": (changed(rows, Aggregate, twice), "aggregate", "wrong-sum"),
        "a_guarantee_that_promises_more": (
            changed(rows, Aggregate, lambda r: replace(r, guarantee=replace(r.guarantee, epsilon=0.1))), "aggregate",
            "wrong-aggregate",
        ),
        "noise_that_is_not_there": (
            changed(rows, Aggregate, lambda r: replace(r, sigma=r.sigma * 2)), "aggregate", "wrong-aggregate",
        ),
        "a_group_dropped_that_opens": (
            changed(rows, Aggregate, lambda r: replace(r, n=0, sum=b"", groups=[replace(r.groups[0], status="dropped")])),
            "aggregate", "wrongly-dropped",
        ),
        "a_task_that_says_otherwise": (changed(rows, Task, lambda r: replace(r, noise_multiplier=9.0)), "task", "not-the-task"),
        "no_aggregate": (without(rows, lambda r: isinstance(r, Aggregate)), "aggregate", "no-aggregate"),
    }  # fmt: skip


def which_client(rows: list[Row]) -> int:
    return next(index for index, envelope in enumerate(of_kind(rows, Envelope)) if not envelope.member)


def first_chunk() -> Callable[[Record], bool]:
    state = []

    def drop(record: Record) -> bool:
        if isinstance(record, UpdateChunk) and not state:
            state.append(1)
            return True
        return False

    return drop


def foreign_roster(play: Deployment, rows: list[Row]) -> list[Row]:
    """A member's number stands for another identity, which has signed an epoch key of its own."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(play.world.entropy(32))
    identity = key.public_key().public_bytes_raw()
    out = []
    for topic, offset, record in rows:
        if isinstance(record, CommitteeMember) and record.member == 1:
            record = signed(replace(record, identity_key=identity), key)
        elif isinstance(record, Proposal):
            record = replace(record, roster=[replace(record.roster[0], identity_key=identity), *record.roster[1:]])
        out.append((topic, offset, record))
    return out


def main() -> None:
    played, rows = play()
    assert of_kind(rows, Task)
    save("round-good", rows)
    reasons = {}
    for name, (bad, check, reason) in bad_ones(played, rows).items():
        if name not in KEPT:
            continue
        save(f"round-bad_{name}", bad)
        reasons[f"round-bad_{name}"] = {"check": check, "reason": reason}
    known = {
        "operator_key": played.world.operator.public_key().public_bytes_raw().hex(),
        "identities": {str(n): m.core.identity.hex() for n, m in sorted(played.world.committee.items())},
        "bad": reasons,
    }
    (HERE / "round-reasons.json").write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
