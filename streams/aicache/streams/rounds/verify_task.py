"""A verified round is what its task declares, and a clip that adapts is what follows from the opened sum before it. Pure."""

from aicache.privacy.errors import RemoteError
from aicache.schemas.clipping import check_clipping, check_follows, rule_of
from aicache.schemas.declared import check_declared
from aicache.schemas.records import Aggregate, Proposal, Task
from aicache.streams.rounds.verify_records import Found


def check_task(found: Found, proposal: Proposal) -> str:
    """The round is what its task declares.

    Raises:
        RemoteError: `not-the-task`, and as `check_clipping`.
    """
    task = _task_of(found, proposal)
    if task is None:
        return f"skipped: the log no longer holds version {proposal.task_version} of {proposal.task}"
    check_declared(proposal, task)
    return f"as version {task.version} of {task.task} declares it"


def check_clip(found: Found, proposal: Proposal) -> str:
    """Recompute the clip.

    Raises:
        RemoteError: `bad-clipping`, `clip-out-of-bounds`, `clip-does-not-follow`.
    """
    check_clipping(proposal)
    task = _task_of(found, proposal)
    settings = proposal.adaptive
    if settings is None:
        layers = f", {len(proposal.layers)} layers" if proposal.layers else ""
        return f"{proposal.clipping}, norm at most {proposal.clip:g}{layers}"
    earlier = _newest_before(found, proposal)
    name = "" if earlier is None else earlier[0].round_id
    if proposal.clip_from and earlier is None:
        return f"skipped: the log no longer holds round {proposal.clip_from}, from which the clip is said to follow"
    if name != proposal.clip_from:
        raise RemoteError(
            f"the clip is said to follow from {proposal.clip_from or 'no round'}, but {name or 'none'} was the last that opened",
            reason="clip-does-not-follow",
            got=proposal.clip_from,
            needed=name,
        )
    if earlier is None:
        if task is None:
            return "skipped: the log does not hold the task, whose clip is that of the first round"
        check_follows(proposal, None, None, task.clip)
        return f"adaptive, norm at most {proposal.clip:g}: the task's, before any round was opened"
    check_follows(proposal, *earlier, proposal.clip)
    own = rule_of(proposal).adaptive
    assert own is not None, "its settings are there"
    return f"adaptive, norm at most {proposal.clip:g} ({own.vector_clip(proposal.clip):g} of the vector), from {name}"


def _task_of(found: Found, proposal: Proposal) -> Task | None:
    versions = [task for task in found.tasks if (task.task, task.version) == (proposal.task, proposal.task_version)]
    return versions[0] if versions else None


def _newest_before(found: Found, proposal: Proposal) -> tuple[Proposal, Aggregate] | None:
    """The newest round of the task before this one whose clients sent bits and whose sum was opened."""
    best: tuple[Proposal, Aggregate] | None = None
    for name, records in found.opened.items():
        before = found.earlier.get(name)
        if (
            before is None
            or before.task != proposal.task
            or before.adaptive is None
            or before.number >= proposal.number
        ):
            continue
        opened = next((record for record in records if record.n > 0), None)
        if opened is not None and (best is None or before.number > best[0].number):
            best = before, opened
    return best
