"""Incidents and trends on Faust. Boundary: faust, through the runtime's shell."""

from typing import NoReturn

from aicache.producers.connection import KafkaSettings
from aicache.streams.anomalies.incidents import Incidents
from aicache.streams.anomalies.trends import Trends
from aicache.streams.runtime.faust_shell import FaustShell


def run_incidents(settings: KafkaSettings) -> NoReturn:
    """Run the incidents processor until a signal ends it; prints `ready incidents` when it reads."""
    FaustShell(Incidents(), settings).run()


def run_trends(settings: KafkaSettings) -> NoReturn:
    """Run the trends processor until a signal ends it; prints `ready trends` when it reads."""
    FaustShell(Trends(), settings).run()
