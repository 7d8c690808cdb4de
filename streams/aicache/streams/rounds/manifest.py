"""Step 5, close: which members' nonces and which clients a manifest lists.

S is a set of at least k members that have given their last endorsement and whose noise vectors all of S have endorsed and the
reducer has read; a client is listed if all of S endorsed it under the digest that the reducer read. Larger sets survive more
failures afterwards, smaller ones may list more clients: the largest set is taken that loses at most `LOSS_MAX` of the clients
that the best set has. Groups are drawn by the nonces of S. Pure.
"""

from itertools import combinations

from aicache.privacy.statements import member_sender_id
from aicache.schemas.records import Manifest, ManifestEntry, ManifestGroup, ManifestMember, MemberVector
from aicache.streams.committee.rules import group_of
from aicache.streams.rounds.state import RoundState

LOSS_MAX = 0.02
SETS_MAX = 2_000
"""Sets looked at, largest first: all of them for committees of up to eleven members."""


def make_manifest(current: RoundState, excluded: frozenset[bytes] = frozenset()) -> Manifest | None:
    """The manifest of a closed round.

    Args:
        current: the round, with all that has come.
        excluded: clients that the public rule leaves out.

    Returns:
        None where fewer than k members can be listed; a manifest without groups where no group has n_min clients.
    """
    proposal = current.proposal
    ready = [number for number in sorted(current.nonces) if number in current.approvals]
    choices: list[tuple[tuple[int, ...], list[bytes]]] = []
    looked_at = 0
    for size in range(len(ready), proposal.quorum - 1, -1):
        for chosen in combinations(ready, size):
            looked_at += 1
            if looked_at > SETS_MAX:
                break
            if _vectors_stand(current, chosen):
                choices.append((chosen, _common_clients(current, chosen, excluded)))
    if not choices:
        return None
    best = max(len(clients) for _, clients in choices)
    members, clients = next(choice for choice in choices if len(choice[1]) >= best * (1 - LOSS_MAX))
    nonces = [current.nonces[number] for number in members]
    groups: dict[int, list[ManifestEntry]] = {group: [] for group in range(proposal.groups)}
    for client in sorted(clients[: proposal.n_max]):  # the first to arrive: names must not decide who counts
        claim = current.claims[client][current.received[client]]
        entry = ManifestEntry(client, claim.digest, claim.model_version, claim.place)
        groups[group_of(nonces, client, proposal.groups)].append(entry)
    listed = [ManifestGroup(group, entries) for group, entries in groups.items() if len(entries) >= proposal.n_min]
    return Manifest(
        deployment=proposal.deployment,
        task=proposal.task,
        round_id=proposal.round_id,
        rho=current.rho,
        members=[_listed_member(current, number) for number in members],
        groups=listed,
        left_out=[group for group, entries in groups.items() if len(entries) < proposal.n_min],
    )


def _senders(current: RoundState, number: int) -> list[tuple[int, bytes]]:
    identity = current.proposal.roster[number - 1].identity_key
    return [(group, member_sender_id(identity, group)) for group in range(current.proposal.groups)]


def _agreed(current: RoundState, members: tuple[int, ...], sender: bytes) -> bool:
    """All members endorsed what the reducer read, and an envelope says where it stands."""
    digest = current.received.get(sender)
    return (
        digest is not None
        and digest in current.claims.get(sender, {})
        and all(current.endorsed.get(number, {}).get(sender) == digest for number in members)
    )


def _vectors_stand(current: RoundState, members: tuple[int, ...]) -> bool:
    return all(_agreed(current, members, sender) for number in members for _, sender in _senders(current, number))


def _common_clients(current: RoundState, members: tuple[int, ...], excluded: frozenset[bytes]) -> list[bytes]:
    return [
        sender
        for sender, digest in current.received.items()
        if sender not in excluded
        and (claim := current.claims.get(sender, {}).get(digest)) is not None
        and not claim.member
        and _agreed(current, members, sender)
    ]


def _listed_member(current: RoundState, number: int) -> ManifestMember:
    vectors = []
    for group, sender in _senders(current, number):
        claim = current.claims[sender][current.received[sender]]
        vectors.append(MemberVector(group, sender, claim.digest, claim.place))
    return ManifestMember(number, current.nonces[number], vectors)
