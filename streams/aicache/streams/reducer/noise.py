"""How much noise is in what a round opened: all that its parties add, which is more than what its guarantee counts on.

Each client, or each member of the manifest for each group, adds its own share of the noise (`accounting.share_sigma`). A plain sum has all
of them in it, exactly. A robust rule averages groups' means, and which ones depends on the noise: by the Gaussian Poincaré inequality
Var f ≤ E‖∇f‖² σ² (Boucheron, Lugosi and Massart 2013, theorem 3.20) a trimmed mean or a median of noisy means varies at most as the average
of the noisiest means would that may make it up. For the norm filter, which jumps, the same holds given what it keeps.
What clients add by rounding at random (a variance of at most 1/4 each) is not counted. Whoever adds less than its share
makes it less: what is certain is the guarantee's. Invariant: a function of the proposal, the manifest and which groups were opened. Pure.
"""

import math
from collections.abc import Collection

from aicache.privacy.accounting import CLIENTS, share_sigma
from aicache.schemas.records import Manifest, ManifestGroup, Proposal
from aicache.streams.reducer.opening import means_averaged


def noise_of(proposal: Proposal, manifest: Manifest, opened: Collection[int]) -> float:
    """σ of all the noise in each coordinate of the sum of a round: exact for a plain sum, at most so much under a robust rule.

    Args:
        proposal: says who adds noise, and how much.
        manifest: whose ciphertexts were added.
        opened: numbers of the groups that were opened.

    Returns:
        Integer grid; 0 where no group was opened.

    Raises:
        LocalError: a share of the noise is under 2, or counts are out of order.
        RemoteError: `unknown-rule`.
    """
    groups = [group for group in manifest.groups if group.group in opened]
    if not groups:
        return 0.0
    members = len(proposal.roster)
    share = share_sigma(proposal.noise, proposal.sigma, members, proposal.threshold, proposal.honest)
    shares = [_shares(proposal, manifest, group) for group in groups]
    averaged = means_averaged(proposal.robust, len(groups))
    if not averaged:
        return share * math.sqrt(sum(shares))
    clients = [len(group.clients) for group in groups]
    variances = sorted((count / n**2 for count, n in zip(shares, clients, strict=True)), reverse=True)
    return share * sum(clients) * math.sqrt(sum(variances[:averaged])) / averaged


def _shares(proposal: Proposal, manifest: Manifest, group: ManifestGroup) -> int:
    """How many shares of noise are in a group's sum."""
    if proposal.noise == CLIENTS:
        return len(group.clients)
    return sum(vector.group == group.group for member in manifest.members for vector in member.vectors)
