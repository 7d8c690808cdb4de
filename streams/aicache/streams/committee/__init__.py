"""Committee members: they hold the shares of mask keys, and open sums that a quorum voted for, never a single update."""
