"""Runs the counting fold on the Faust shell: `python -m support.run_faust_counting BOOTSTRAP PREFIX`."""

import sys

from aicache.producers.connection import KafkaSettings
from aicache.streams.runtime.contract import Step
from aicache.streams.runtime.faust_shell import FaustShell
from support.counting import Counting


class TimedCounting(Counting):
    def tick(self, state: object, now_ms: int) -> Step:
        return Step()


if __name__ == "__main__":
    FaustShell(TimedCounting(), KafkaSettings(sys.argv[1], prefix=sys.argv[2])).run()
