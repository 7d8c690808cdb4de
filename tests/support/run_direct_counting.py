"""Runs the counting fold on the direct shell: `python -m support.run_direct_counting BOOTSTRAP PREFIX`."""

import signal
import sys
import threading

from aicache.producers.connection import KafkaSettings
from aicache.streams.runtime.direct import DirectShell
from aicache.streams.runtime.logs import write_json_logs
from support.counting import Counting

if __name__ == "__main__":
    write_json_logs()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    shell = DirectShell(Counting(), KafkaSettings(sys.argv[1], prefix=sys.argv[2]))
    shell.run(stopped.is_set, lambda: print("ready trends", flush=True))
