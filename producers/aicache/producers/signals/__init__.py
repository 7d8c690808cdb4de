"""Signals of what breaks and what is slow, made on the client: hashes of public frames, sketches of durations, advisory ids.

Two lines are enough, and nothing leaves but what a `Client` would show with `dry_run=True`:

    from aicache.producers.signals import watch_crashes
    watch_crashes(client.record, salt=b"of the deployment", public={"numpy", "requests"})
"""

from aicache.producers.signals.durations import Durations
from aicache.producers.signals.emerging import Emerging
from aicache.producers.signals.hooks import Asgi, CrashHandler, Tell, watch_crashes
from aicache.producers.signals.rules import Findings, read, tell_findings
from aicache.producers.signals.stacks import Signature, signature

__all__ = [
    "Asgi",
    "CrashHandler",
    "Durations",
    "Emerging",
    "Findings",
    "Signature",
    "Tell",
    "read",
    "signature",
    "tell_findings",
    "watch_crashes",
]
