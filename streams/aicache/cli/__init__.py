"""The command line `aicache`."""
