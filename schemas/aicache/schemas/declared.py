"""A round is what its task declares: what somebody agreed to when they read the task is what happens.

Everything that a proposal takes from its task is compared, and the noise is that of the task for the round's clip. Whoever has both
records can check it: clients do before they contribute, and verifiers do afterwards. Pure.
"""

from aicache.privacy import quantize
from aicache.privacy.clipping import ROUNDING
from aicache.privacy.errors import RemoteError
from aicache.schemas.clipping import check_clipping, masked_length
from aicache.schemas.records import Proposal, Task

SAME = (
    "deployment", "task", "kind", "purpose", "n_min", "n_max", "grace_ms", "threshold", "scale", "noise", "honest", "delta", "groups",
    "robust", "parameters", "clipping", "layers", "clips", "adaptive",
)  # fmt: skip
"""Fields that a proposal has from its task as they are."""


def check_declared(proposal: Proposal, task: Task) -> None:
    """Hold a proposal to its task.

    Args:
        proposal: the round.
        task: in the version that the proposal names.

    Raises:
        RemoteError: `not-the-task`; names what differs. `bad-clipping`, `clip-out-of-bounds` as `check_clipping`.
    """
    check_clipping(proposal)
    found = {name: getattr(proposal, name) for name in SAME}
    wanted = {name: getattr(task, name) for name in SAME}
    found |= {
        "version": proposal.task_version,
        "members": len(proposal.roster),
        "deadline_ms": proposal.deadline_ms - proposal.opened_ms,
        "length": proposal.length,
    }
    wanted |= {
        "version": task.version,
        "members": task.members,
        "deadline_ms": task.deadline_ms,
        "length": masked_length(task),
    }
    if task.adaptive is None:
        found["clip"], wanted["clip"] = proposal.clip, task.clip
    differ = [name for name in found if found[name] != wanted[name]]
    sigma = task.noise_multiplier * quantize.sensitivity(proposal.clip, proposal.scale, proposal.length)
    if abs(proposal.sigma - sigma) > ROUNDING * sigma:
        differ.append("sigma")
    if differ:
        raise RemoteError(
            f"the round is not as its task declares: {', '.join(differ)}",
            reason="not-the-task",
            got={name: found.get(name, proposal.sigma) for name in differ},
            needed={name: wanted.get(name, sigma) for name in differ},
        )
