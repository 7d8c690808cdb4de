"""Rounds and admissions as the command line sees them."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.local import admission, operator
from aicache.local.report import markdown, report
from aicache.local.rounds import RoundLog, rows
from aicache.privacy.errors import LocalError
from aicache.privacy.statements import client_id
from aicache.schemas import topics
from aicache.schemas.records import (
    Aggregate,
    Budget,
    Guarantee,
    JoinRequest,
    Manifest,
    ManifestEntry,
    ManifestGroup,
    Place,
    Proposal,
    RoundAborted,
    RoundClosed,
    Task,
)
from aicache.schemas.signing import signed, verify_record

RHO = bytes(32)
GUARANTEE = Guarantee(
    "discrete-gaussian-sum", "committee", "client", "add-or-remove", "round", 0.5, 1e-5, 1.0, 4.0, 2, []
)


def proposal(name: str, opened_ms: int = 5) -> Proposal:
    return Proposal(
        deployment="d",
        task="tags",
        task_version=1,
        round_id=name,
        number=1,
        kind="histogram",
        purpose="p",
        model_versions=[],
        enrolments_end=[],
        updates_start=[],
        opened_ms=opened_ms,
        deadline_ms=9,
        grace_ms=1,
        n_min=2,
        n_max=9,
        roster=[],
        threshold=3,
        quorum=4,
        length=3,
        clip=1.0,
        scale=1.0,
        noise="committee",
        sigma=4.0,
        honest=0,
        delta=1e-5,
        groups=1,
        robust="none",
        parameters="n10k",
    )


def manifest(name: str) -> Manifest:
    entries = [ManifestEntry(bytes([number]) * 32, RHO, 0, Place(0, [0])) for number in range(3)]
    return Manifest("d", "tags", name, RHO, [], [ManifestGroup(0, entries)], [1])


def aggregate(name: str) -> Aggregate:
    return Aggregate("d", "tags", 1, name, 1, "histogram", RHO, 8, 3, 3, 2.0, [], bytes(24), [], GUARANTEE, 6.0)


def test_a_round_goes_from_open_to_done() -> None:
    log = RoundLog()
    states = [
        log.take(record).state
        for record in (proposal("a"), RoundClosed("d", "tags", "a", RHO, 6, "full"), manifest("a"), aggregate("a"))
    ]
    assert states == ["open", "closed", "voting", "done"]
    row = log.rows["a"]
    assert (row.n, row.groups_left_out, row.epsilon, row.noise) == (3, 1, 0.5, 3.0)


def test_a_round_that_fails_says_why() -> None:
    aborted = RoundAborted("d", "tags", "a", RHO, 9, "too few clients")
    assert [(row.state, row.reason) for row in rows([proposal("a"), aborted])] == [("aborted", "too few clients")]


def test_the_order_between_the_two_topics_does_not_matter() -> None:
    early = rows([aggregate("a"), proposal("a"), manifest("a")])
    late = rows([proposal("a"), manifest("a"), aggregate("a")])
    assert [row.state for row in early] == [row.state for row in late] == ["done"]


def test_what_a_restarted_coordinator_repeats_changes_nothing() -> None:
    assert [row.state for row in rows([proposal("a"), manifest("a"), proposal("a")])] == ["voting"]


def test_records_of_rounds_that_the_log_no_longer_has_are_passed() -> None:
    assert rows([manifest("gone"), RoundClosed("d", "tags", "gone", RHO, 6, "full")]) == []


def request(key: Ed25519PrivateKey, deployment: str = "d") -> JoinRequest:
    return signed(JoinRequest(deployment, key.public_key().public_bytes_raw(), 7, bytes(64)), key)


def test_who_asked_with_its_own_signature_for_this_deployment_waits_until_admitted_or_revoked() -> None:
    keys = [Ed25519PrivateKey.generate() for _ in range(4)]
    forged = replace(request(keys[1]), requested_ms=8)
    requests = [request(keys[0]), request(keys[0]), forged, request(keys[2], "other"), request(keys[3])]
    found = admission.waiting(requests, {}, "d")
    clients = [client_id(key.public_key().public_bytes_raw()) for key in keys]
    assert [item.client for item in found] == [clients[0], clients[3]]
    operators = Ed25519PrivateKey.generate()
    enrolment = admission.admit(found[0], deployment="d", key=operators, now_ms=9)
    verify_record(enrolment, operators.public_key().public_bytes_raw())
    assert [item.client for item in admission.waiting(requests, {clients[0]: enrolment}, "d")] == [clients[3]]
    revoked = admission.revoke(enrolment, reason="spam", key=operators)
    verify_record(revoked, operators.public_key().public_bytes_raw())
    assert (revoked.revoked, revoked.reason, revoked.admitted_ms) == (True, "spam", 9)
    assert [item.client for item in admission.waiting(requests, {clients[0]: revoked}, "d")] == [clients[3]]


def test_a_client_is_meant_by_the_beginning_of_its_id_if_that_is_clear() -> None:
    clients = [bytes.fromhex("aabbcc01"), bytes.fromhex("aabbcc02")]
    assert admission.chosen(clients, ["AABBCC01"]) == clients[:1]
    for word in ("aabbcc", "ffffff", "aa"):
        with pytest.raises(LocalError):
            admission.chosen(clients, [word])


def test_the_operators_key_is_made_once_and_read_only_by_its_owner(tmp_path) -> None:
    path = tmp_path / "keys" / "operator.key"
    made = operator.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert operator.load_or_create(path).private_bytes_raw() == made.private_bytes_raw()
    with pytest.raises(LocalError, match="exists already"):
        operator.create(path)
    path.chmod(0o644)
    with pytest.raises(LocalError, match="chmod 600"):
        operator.load(path)
    path.chmod(0o600)
    for text, complaint in (("xyz", "no key"), ("abcd", "no Ed25519 key")):
        path.write_text(text)
        with pytest.raises(LocalError, match=complaint):
            operator.load(path)
    with pytest.raises(LocalError, match="does not exist"):
        operator.load(tmp_path / "nowhere")


def task(name: str) -> Task:
    return Task(
        deployment="d", task=name, version=1, state="active", kind="histogram", description="which tags are asked about",
        purpose="tags", length=3, labels=[], clip=1.0, clipping="flat", layers=[], scale=1.0, noise="committee",
        noise_multiplier=1.0, honest=0, delta=1e-5, n_min=2, n_max=9, deadline_ms=1, grace_ms=1, interval_ms=1, rounds=1,
        groups=1, robust="none", members=5, threshold=3, parameters="n10k", sketch_depth=0, sketch_width=0, model=None,
        evaluates="",
    )  # fmt: skip


def test_the_compliance_file_says_what_is_learned_under_which_guarantee_and_how_long_it_is_kept() -> None:
    budgets = [Budget("d", bytes([n]) * 32, "tags", 0, 1, "a", [], 0.5 * n, 1e-5) for n in (1, 2)]
    found = report("d", [task("tags"), task("quiet")], [aggregate("a")], budgets, topics.TOPICS, 0)
    assert [(item.task, item.rounds, item.smallest_n, item.epsilon_round) for item in found.tasks] == [
        ("quiet", 0, 0, 0.0),
        ("tags", 1, 3, 0.5),
    ]
    assert [(item.purpose, item.clients, item.epsilon_most) for item in found.purposes] == [("tags", 2, 1.0)]
    text = markdown(found)
    assert "| tags | tags | which tags are asked about |" in text
    assert "| aicache.usage | 7 days | workers |" in text
    assert "0101" not in text, "nobody is named"
