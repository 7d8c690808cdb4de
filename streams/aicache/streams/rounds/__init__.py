"""Rounds: tasks, the coordinator that opens and closes rounds, and the check that anybody can make of one."""
