"""What all processors share: the contract of folds, the fenced store, two shells, dead letters, health and metrics."""
