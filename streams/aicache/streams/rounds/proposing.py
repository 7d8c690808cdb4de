"""Step 1, open: what a round of a task says. Pure."""

from collections.abc import Mapping

from aicache.privacy import parameters, quantize
from aicache.privacy.errors import LocalError
from aicache.privacy.statements import record_digest
from aicache.schemas.clipping import masked_length, within
from aicache.schemas.codec import body_of
from aicache.schemas.records import ModelVersion, PartitionOffset, Proposal, RosterEntry, Task
from aicache.streams.rounds.state import RoundState, State, enrolments_end

EPOCH_MARGIN_MS = 120_000
"""An epoch key has to outlast a round by this much to be named in it."""


def roster_of(state: State, task: Task, ends_ms: int) -> list[RosterEntry]:
    """Members 1 … m with keys that outlast the round; shorter than m where a member's key is missing or expires."""
    found = []
    for number in range(1, task.members + 1):
        member = state.committee.get(number)
        if member is None or member.retired or member.valid_until_ms < ends_ms + EPOCH_MARGIN_MS:
            break
        found.append(RosterEntry(number, member.identity_key, member.epoch_key_id))
    return found


def model_versions(state: State, task: Task) -> list[ModelVersion]:
    """The versions that a client may have started from: the newest first, then those of the window behind it."""
    if task.kind not in {"model", "evaluation"}:
        return []
    known = state.versions.get(task.evaluates or task.task, [])
    behind = task.model.window if task.model is not None else 0
    return list(reversed(known))[: behind + 1]


def propose(state: State, task: Task, number: int, now_ms: int) -> RoundState:
    """A round of a task, opened now.

    Raises:
        LocalError: the committee is not complete, or the task's model is missing.
    """
    deadline_ms = now_ms + task.deadline_ms
    roster = roster_of(state, task, deadline_ms + task.grace_ms)
    if len(roster) < task.members:
        raise LocalError("the committee is not complete", got=len(roster), needed=task.members)
    versions = model_versions(state, task)
    if task.kind in {"model", "evaluation"} and not versions:
        raise LocalError("the task's model is not there yet", got=task.evaluates or task.task, needed="a model")
    length, clip, clip_from = masked_length(task), task.clip, ""
    if task.adaptive is not None:
        known = state.tasks[task.task]
        clip, clip_from = within(known.clip or task.clip, task.adaptive), known.clip_from
    proposal = Proposal(
        deployment=task.deployment,
        task=task.task,
        task_version=task.version,
        round_id=f"{task.task}-{number}",
        number=number,
        kind=task.kind,
        purpose=task.purpose,
        model_versions=versions,
        enrolments_end=enrolments_end(state),
        updates_start=_starts(state.updates_end),
        opened_ms=now_ms,
        deadline_ms=deadline_ms,
        grace_ms=task.grace_ms,
        n_min=task.n_min,
        n_max=task.n_max,
        roster=roster,
        threshold=task.threshold,
        quorum=parameters.quorum(task.members, task.threshold),
        length=length,
        clip=clip,
        scale=task.scale,
        noise=task.noise,
        sigma=task.noise_multiplier * quantize.sensitivity(clip, task.scale, length),
        honest=task.honest,
        delta=task.delta,
        groups=task.groups,
        robust=task.robust,
        parameters=task.parameters,
        clipping=task.clipping,
        layers=task.layers,
        clips=task.clips,
        adaptive=task.adaptive,
        clip_from=clip_from,
    )
    return RoundState(proposal, record_digest("proposal", *body_of(proposal)), phase_since_ms=now_ms)


def _starts(ends: Mapping[int, int]) -> list[PartitionOffset]:
    """A round's ciphertexts are written after its proposal: nothing that an envelope has already named is one of them."""
    return [PartitionOffset(partition, end) for partition, end in sorted(ends.items())]
