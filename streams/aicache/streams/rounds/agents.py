"""The coordinator on Faust. Boundary: faust, through the runtime's shell."""

import sys
from typing import NoReturn

from aicache.producers.connection import KafkaSettings
from aicache.streams.rounds.enrolment import Admission
from aicache.streams.rounds.logic import Coordinator
from aicache.streams.runtime.faust_shell import FaustShell


def run(
    settings: KafkaSettings,
    admission: Admission,
    identities: dict[int, bytes] | None = None,
    *,
    metrics_port: int = 0,
) -> NoReturn:
    """Run the coordinator until a signal ends it; prints `ready coordinator` when it reads.

    No breaker: what anybody may write must not stop the rounds of all, and what it sets aside is claims, not events.
    """
    fold = Coordinator(settings.deployment, admission, identities)
    FaustShell(fold, settings, metrics_port=metrics_port, let_fail=sys.maxsize).run()
