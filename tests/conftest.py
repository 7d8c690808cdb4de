"""Options that every test folder shares."""

import hashlib
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from support.fault_results import Results

CI_TENTH = 10
settings.register_profile("tests", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("tests")
pytest_plugins = ["aicache.local.pytest_plugin"]  # its broker starts with the first test that asks for it


def pytest_configure(config: pytest.Config) -> None:
    """A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start inherits it."""
    if config.getoption("--results") and not hasattr(
        config, "workerinput"
    ):  # workers report to the process that started them
        config.pluginmanager.register(Results(config.getoption("--results")))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", action="store_true", help="run every case of the fault sweeps, not a tenth of them")
    parser.addoption("--results", type=Path, help="add what became of each test to this JSON file")
    parser.addoption("--containers-required", action="store_true", help="a missing Docker engine is a failure")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the fault sweeps run a tenth, always the same one, unless --faults asks for all."""
    if config.getoption("--faults"):
        return
    kept, left = [], []
    for item in items:
        mark = item.get_closest_marker("faults")
        number = hashlib.sha256(item.nodeid.encode()).digest()[0]
        (left if mark and not mark.kwargs.get("always") and number % CI_TENTH else kept).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept
