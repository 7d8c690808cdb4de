"""How a task or a proposal says that vectors are clipped, as a rule of `aicache.privacy.clipping`; and the path of a clip that adapts.

The clip of a proposal bounds all that is masked, whatever the rule: sensitivity, noise and room for the sum follow from clip, scale
and length alone. A clip that adapts is the task's in the first round, and then follows from the opened, noised sum before: anybody
who reads the log can compute it. Pure.
"""

import math

from aicache.privacy.clipping import ADAPTIVE, FLAT, PER_LAYER, ROUNDING, AdaptiveClip, Clipping
from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas.records import AdaptiveClipping, Aggregate, Proposal, Task

CLIPPINGS = (FLAT, PER_LAYER, ADAPTIVE)


def rule_of(record: Task | Proposal) -> Clipping:
    """The rule that clients follow.

    Raises:
        LocalError: the parts do not fit each other or the length.
    """
    if record.clipping not in CLIPPINGS:
        raise LocalError("not a way of clipping", got=record.clipping, needed=CLIPPINGS)
    adaptive, layered = record.clipping == ADAPTIVE, record.clipping == PER_LAYER
    if adaptive != (record.adaptive is not None) or (not layered and (record.layers or record.clips)):
        got = (record.clipping, record.adaptive is not None, len(record.layers), len(record.clips))
        raise LocalError(
            "clipping and its settings contradict each other", got=got, needed="those of one way of clipping"
        )
    if layered and sum(record.layers) != record.length:
        raise LocalError("layers make up the length", got=sum(record.layers), needed=record.length)
    how = None if record.adaptive is None else quantile_rule(record.adaptive)
    return Clipping(record.clip, tuple(record.layers), tuple(record.clips), how)


def quantile_rule(settings: AdaptiveClipping) -> AdaptiveClip:
    """The update's arithmetic.

    Raises:
        LocalError: a setting is out of range, or the bounds are out of order.
    """
    low, high = settings.clip_min, settings.clip_max
    if not (0 < low <= high < math.inf):
        raise LocalError("the clip's bounds are out of order", got=(low, high), needed="0 < clip_min ≤ clip_max")
    return AdaptiveClip(settings.quantile, settings.rate, settings.weight)


def masked_length(task: Task) -> int:
    """Coordinates of a masked vector of the task: its own, and the bit where the clip adapts."""
    return task.length + rule_of(task).extra


def within(clip: float, settings: AdaptiveClipping) -> float:
    """The clip, held to its bounds."""
    return min(settings.clip_max, max(settings.clip_min, clip))


def clip_after(before: Proposal, opened: Aggregate) -> float | None:
    """The clip that follows from an opened sum, before it is held to its bounds.

    Args:
        before: the round that was opened.
        opened: its aggregate; the last coordinate is the noised sum of the clients' bits.

    Returns:
        None where that round had no bits or opened nothing.
    """
    if before.adaptive is None or opened.n < 1 or len(opened.sum) != 8 * before.length:
        return None
    rule = quantile_rule(before.adaptive)
    bits = int.from_bytes(opened.sum[-8:], "little", signed=True) / before.scale
    vector_clip = rule.vector_clip(before.clip)
    return before.clip * (rule.next_clip(vector_clip, bits, opened.n) / vector_clip)


def check_clipping(proposal: Proposal) -> None:
    """The proposal's way of clipping is possible, and a clip that adapts is within its bounds.

    Raises:
        RemoteError: `bad-clipping`, `clip-out-of-bounds`.
    """
    try:
        rule_of(proposal)
    except LocalError as error:
        raise RemoteError(str(error), reason="bad-clipping", got=error.got, needed=error.needed) from None
    settings = proposal.adaptive
    if settings is not None and not settings.clip_min <= proposal.clip <= settings.clip_max:
        raise RemoteError(
            "the clip is outside the bounds that the task declares",
            reason="clip-out-of-bounds",
            got=proposal.clip,
            needed=(settings.clip_min, settings.clip_max),
        )


def check_follows(proposal: Proposal, before: Proposal | None, opened: Aggregate | None, first: float) -> None:
    """A clip that adapts is what follows from the round before it.

    Args:
        proposal: the round.
        before: the newest round of the task with an opened sum before it; None: there is none.
        opened: its aggregate.
        first: the task's own clip, which that of the first round is.

    Raises:
        RemoteError: `clip-does-not-follow`.
    """
    settings = proposal.adaptive
    if settings is None:
        return
    followed = first if before is None or opened is None else clip_after(before, opened)
    needed = None if followed is None else within(followed, settings)
    if needed is None or abs(proposal.clip - needed) > ROUNDING * needed:
        raise RemoteError(
            f"the clip {proposal.clip:g} does not follow from the round before it: {needed} does",
            reason="clip-does-not-follow",
            got=proposal.clip,
            needed=needed,
        )
