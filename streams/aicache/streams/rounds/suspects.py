"""Whom the public rule suspects, recomputed from the log: anybody can, so nobody is left out on the coordinator's word alone.

The rule is `budgets.note_dropped`, the very function that the coordinator applies; what the log no longer holds is not counted, so this
can suspect fewer than the coordinator, which remembers longer. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aicache.schemas.records import Aggregate, Manifest
from aicache.streams.rounds.budgets import excluded, note_dropped
from aicache.streams.rounds.state import State


@dataclass(frozen=True, slots=True)
class Suspect:
    """A client whose groups were dropped in its last rounds.

    Attributes:
        client: hex.
        rounds: how many in a row.
        chance: how likely that is for a client that does nothing wrong.
        excluded: manifests leave it out.
    """

    client: str
    rounds: int
    chance: float
    excluded: bool


def suspects(
    manifests: Mapping[bytes, Manifest], groups: Mapping[str, int], results: Iterable[Aggregate]
) -> list[Suspect]:
    """Apply the rule to what was opened.

    Args:
        manifests: by digest.
        groups: how many each round's proposal says, by round.
        results: in the order of the log.

    Returns:
        The least likely first.
    """
    state, runs = State(), dict[bytes, int]()
    seen: set[str] = set()
    for result in results:
        manifest = manifests.get(result.manifest_digest)
        if manifest is None or result.round_id in seen or result.round_id not in groups:
            continue
        seen.add(result.round_id)
        before = dict(state.streaks)
        note_dropped(state, manifest, result, groups[result.round_id], {})
        for client, chance in state.streaks.items():
            if before.get(client) != chance or client not in before:
                runs[client] = runs.get(client, 0) + 1
        runs = {client: count for client, count in runs.items() if client in state.streaks}
    out = excluded(state)
    found = [Suspect(client.hex(), runs[client], chance, client in out) for client, chance in state.streaks.items()]
    return sorted(found, key=lambda suspect: (suspect.chance, suspect.client))
