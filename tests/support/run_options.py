"""What a test asks of a worker process besides its work: a name, short time-outs, a registry, a clock that steps back.

Given as JSON in the last argument; each changes one setting of the shipped code, so that a fault that takes a minute in production takes
seconds here.
"""

import json
import signal
import sys
import time
from typing import Any

from aicache.producers.connection import KafkaSettings
from support import counting

STEP_BACK_S = 3_600


def from_command_line() -> tuple[KafkaSettings, dict[str, Any]]:
    """`BOOTSTRAP PREFIX [JSON]`: how to reach Kafka, and the keywords of the shell."""
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    keywords = {name: options[name] for name in ("instance", "let_fail", "web_port") if name in options}
    if "session_s" in options:
        from aicache.streams import app

        app.SESSION_TIMEOUT_S, app.HEARTBEAT_S = options["session_s"], options["session_s"] / 5
    if "timeout_s" in options:
        from aicache.streams.runtime import store

        store.TIMEOUT_S = options["timeout_s"]
    if "stuck_ms" in options:
        from aicache.streams.runtime import direct, faust_shell, watchdog

        watchdog.Watchdog.__init__.__defaults__ = (options["stuck_ms"], *watchdog.Watchdog.__init__.__defaults__[1:])
        direct.WATCH_S = faust_shell.WATCH_S = options["stuck_ms"] / 4_000
    if "registry" in options:
        from aicache.schemas.codec import use_framing
        from aicache.schemas.registry import ConfluentFraming, Registry

        use_framing(ConfluentFraming(Registry(options["registry"])))
    if "hang" in options:
        counting.HANGS_AT = options["hang"]
    counting.SLOW_S = options.get("slow_s", 0.0)
    if options.get("clock"):
        signal.signal(signal.SIGHUP, _step_back)
    return KafkaSettings(sys.argv[1], prefix=sys.argv[2]), keywords


def _step_back(*_: object) -> None:
    """The wall clock is set back an hour, as by a bad time server; the monotonic clock goes on."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() - STEP_BACK_S
    time.time_ns = lambda: now_ns() - STEP_BACK_S * 1_000_000_000
    print("the clock stepped back", file=sys.stderr, flush=True)
