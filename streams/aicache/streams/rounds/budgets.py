"""What a round costs its clients, and the record of a client's dropped groups. Pure."""

from collections.abc import Iterable

import numpy as np

from aicache.privacy import accounting, quantize
from aicache.schemas.records import Aggregate, Budget, Manifest, Proposal
from aicache.streams.rounds.state import Changes, RoundState, State, keep_budget, keep_streak

CHANCE_MAX = 1e-6
"""A client is left out when that its groups were dropped every time has, for an honest one, at most this probability."""
ROUNDING = 1e-9
"""A sixth power of a tenth is a little more than a millionth in floating point."""
DAY_MS = 86_400_000
WINDOW_MS = 30 * DAY_MS
"""As members' own rules have it; theirs decide, this is what is published."""


def guarantee_of(proposal: Proposal) -> accounting.RoundGuarantee:
    """What one round of a task guarantees to each client."""
    return accounting.round_guarantee(
        noise=proposal.noise,
        sensitivity=quantize.sensitivity(proposal.clip, proposal.scale, proposal.length),
        sigma=proposal.sigma,
        members=len(proposal.roster),
        threshold=proposal.threshold,
        honest=proposal.honest,
        length=proposal.length,
        delta=proposal.delta,
    )


def charge(state: State, current: RoundState, changes: Changes) -> list[Budget]:
    """Add the round to what each listed client has spent: after k votes it may be opened at any later time."""
    assert current.manifest is not None
    proposal = current.proposal
    cost = np.asarray(guarantee_of(proposal).rdp)
    records = []
    for client in _clients(current.manifest):
        start_ms = proposal.opened_ms - proposal.opened_ms % WINDOW_MS
        before = state.budgets.get((client, proposal.purpose))
        fresh = before is None or before.window_start_ms != start_ms
        spent = cost if fresh else np.asarray(before.rdp) + cost  # type: ignore[union-attr]
        record = Budget(
            deployment=proposal.deployment,
            client=client,
            purpose=proposal.purpose,
            window_start_ms=start_ms,
            rounds=1 if fresh else before.rounds + 1,  # type: ignore[union-attr]
            last_round=proposal.round_id,
            rdp=spent.tolist(),
            epsilon=accounting.epsilon_from_rdp(spent, proposal.delta),
            delta=proposal.delta,
        )
        state.budgets[client, proposal.purpose] = record
        keep_budget(record, changes)
        records.append(record)
    return records


def _clients(manifest: Manifest) -> Iterable[bytes]:
    return (entry.client for group in manifest.groups for entry in group.clients)


def note_dropped(state: State, manifest: Manifest, aggregate: Aggregate, groups: int, changes: Changes) -> None:
    """Keep each client's record of dropped groups.

    With g groups drawn anew each round an honest client is in a given spoiler's group once in g; the record is the probability
    that this has happened as often in a row as it has. An opened group clears it. With one group the record stays at 1: then
    nobody can be told from the spoiler.
    """
    dropped = {group.group for group in aggregate.groups if group.status == "dropped"}
    if groups < 2 or not dropped:
        opened = _clients(manifest) if groups > 1 else ()
        cleared = [client for client in opened if client in state.streaks]
    else:
        cleared = []
        for group in manifest.groups:
            for entry in group.clients:
                if group.group in dropped:
                    chance = len(dropped) / groups
                    state.streaks[entry.client] = state.streaks.get(entry.client, 1.0) * chance
                    keep_streak(state, entry.client, changes)
                elif entry.client in state.streaks:
                    cleared.append(entry.client)
    for client in cleared:
        del state.streaks[client]
        keep_streak(state, client, changes)


def excluded(state: State) -> frozenset[bytes]:
    """Clients that the public rule leaves out of manifests."""
    return frozenset(client for client, chance in state.streaks.items() if chance <= CHANCE_MAX * (1 + ROUNDING))
