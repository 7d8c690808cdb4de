"""Private tables on Faust. Boundary: faust, through the runtime's shell."""

from typing import NoReturn

from aicache.producers.connection import KafkaSettings
from aicache.streams.recommendations.private import PrivateTables
from aicache.streams.runtime.faust_shell import FaustShell


def run_private_tables(
    settings: KafkaSettings, *, instance: str | None = None, metrics_port: int = 0, let_fail: int = 0
) -> NoReturn:
    """Run the processor until a signal ends it; prints `ready private-tables` when it reads."""
    FaustShell(PrivateTables(), settings, instance=instance, metrics_port=metrics_port, let_fail=let_fail).run()
