"""Run one command, and end it when whoever asked for it is gone, however they went.

`python -I guard.py PIDFILE COMMAND…` starts the command and watches its own parent in two ways: the pipe on its
standard input (closed by the kernel when the parent dies) and its parent's process id. Linux's PR_SET_PDEATHSIG alone
would not do for the parent: it fires when the *thread* that forked ends. It does do for the guard, which has one thread: when the
guard is killed, the kernel kills the command.

Invariant: the command never outlives the guard, the guard never outlives its parent by more than `POLL_S` + `ORPHAN_GRACE_S`.
Boundary: standard library only and no import of aicache, because it runs with `-I -S` to start in 20 ms.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
POLL_S = 0.25
ORPHAN_GRACE_S = 0.5  # nobody waits for an orphan to finish: everything here survives a kill


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends (Linux; elsewhere the guard's own watch has to do)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _run(pid_file: Path, command: list[str]) -> int:
    parent = os.getppid()
    # The guard is single-threaded, so what runs between fork and exec is safe here.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)
    pid_file.write_text(str(child.pid))
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the parent, which decides
    watched = [sys.stdin.fileno()]
    while child.poll() is None:
        readable, _, _ = select.select(watched, [], [], POLL_S)
        if (readable and not os.read(watched[0], 1)) or os.getppid() != parent:
            child.terminate()
            try:
                child.wait(ORPHAN_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
            break
    code = child.wait()
    with contextlib.suppress(OSError):
        pid_file.unlink()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(_run(Path(sys.argv[1]), sys.argv[2:]))
