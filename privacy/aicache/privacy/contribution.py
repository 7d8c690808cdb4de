"""What a party adds to a sum before it is masked: its clipped, rounded vector and its share of the noise.

The order is the guarantee: clip, scale, round under the condition, and only then add noise. Noise that is added first is clipped
away with the vector, and noise that is not drawn afresh cancels between two rounds.
Invariant: without its noise, a message has an L2 norm of at most `quantize.sensitivity(clip, scale, length)`.
Pure: no clock, no I/O; entropy comes from the caller.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import noise, quantize
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError

FloatVector: TypeAlias = NDArray[np.float64]
IntVector: TypeAlias = NDArray[np.int64]


def client_message(
    vector: FloatVector, *, clip: float, scale: float, sigma_share: float | None, entropy: ByteSource
) -> IntVector:
    """What a client masks: its bounded integers, and noise where clients add it.

    Args:
        vector: shape (d,), float64, finite.
        clip: C, L2.
        scale: integers a unit.
        sigma_share: from `accounting.share_sigma` where the task's noise is `clients`; None where the committee adds it.
        entropy: fresh secret bytes, for rounding and for noise.

    Returns:
        Shape (d,), int64.

    Raises:
        LocalError: as `quantize.quantize`, or sigma_share is out of range; nothing is made.
    """
    message = quantize.quantize(vector, clip=clip, scale=scale, entropy=entropy)
    if sigma_share is None:
        return message
    message += noise.discrete_gaussian(sigma_share, message.size, entropy)
    return message


def member_message(length: int, *, sigma_share: float | None, entropy: ByteSource) -> IntVector:
    """What a committee member masks, for each group: noise alone, or zeros where the clients add it.

    Args:
        length: d.
        sigma_share: from `accounting.share_sigma` where the task's noise is `committee`; None where clients add it.
        entropy: fresh secret bytes.

    Returns:
        Shape (d,), int64.

    Raises:
        LocalError: sigma_share or length is out of range.
    """
    if length < 1:
        raise LocalError("a vector has at least one coordinate", got=length, needed=1)
    if sigma_share is None:
        return np.zeros(length, dtype=np.int64)
    return noise.discrete_gaussian(sigma_share, length, entropy)
