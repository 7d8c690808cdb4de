"""Incidents and trends on Faust. Boundary: faust, through the runtime's shell."""

import gc
from typing import NoReturn

from aicache.producers.connection import KafkaSettings
from aicache.streams.anomalies.incidents import Incidents
from aicache.streams.anomalies.trends import Trends
from aicache.streams.runtime.direct import GC_OBJECTS
from aicache.streams.runtime.faust_shell import FaustShell


def run_incidents(
    settings: KafkaSettings, *, instance: str | None = None, metrics_port: int = 0, let_fail: int = 0
) -> NoReturn:
    """Run the incidents processor until a signal ends it; prints `ready incidents` when it reads."""
    _warm_up()
    FaustShell(Incidents(), settings, instance=instance, metrics_port=metrics_port, let_fail=let_fail).run()


def run_trends(
    settings: KafkaSettings, *, instance: str | None = None, metrics_port: int = 0, let_fail: int = 0
) -> NoReturn:
    """Run the trends processor until a signal ends it; prints `ready trends` when it reads."""
    FaustShell(Trends(), settings, instance=instance, metrics_port=metrics_port, let_fail=let_fail).run()


def _warm_up() -> None:
    """Import what detectors import when they are first used: in the middle of the log that would stop it for a second.

    And let the garbage collector look less often, as the other shell does: incidents are many small objects without cycles.
    """
    import river.drift
    import scipy.signal
    import scipy.stats

    assert river.drift and scipy.signal and scipy.stats, "imported for what they bring"
    gc.set_threshold(GC_OBJECTS, 20, 10)
