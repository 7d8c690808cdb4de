"""Runs the counting fold on the direct shell: `python -m support.run_direct_counting BOOTSTRAP PREFIX [OPTIONS]`."""

import signal
import threading

from aicache.streams.runtime.direct import DirectShell
from aicache.streams.runtime.logs import write_json_logs
from support.counting import Counting
from support.run_options import from_command_line

if __name__ == "__main__":
    write_json_logs()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    settings, keywords = from_command_line()
    shell = DirectShell(Counting(), settings, **keywords)
    shell.run(stopped.is_set, lambda: print("ready trends", flush=True))
