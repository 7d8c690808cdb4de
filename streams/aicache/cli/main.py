"""The entry of the command `aicache`: nothing but the way out, so that a Ctrl-C is clean from the first moment on.

Everything else is imported inside `main`, where an interrupt is already expected.
"""

import os
import signal
import sys

INTERRUPTED = 130


def main() -> int:
    """Run the command line and return its exit code: see `aicache.cli.frame`."""
    try:
        from aicache.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from here on only what Python does at its end
    if code == INTERRUPTED:
        sys.stderr.write("interrupted\n")
    try:
        sys.stdout.flush()
    except OSError:  # the reader of our output has gone: Python's own flush at its end shall not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


if __name__ == "__main__":
    sys.exit(main())
