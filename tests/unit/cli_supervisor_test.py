"""The supervisor, on small real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aicache.local import supervisor as module
from aicache.local.supervisor import Service, ServiceFailedError, Supervisor, back_off_s
from aicache.privacy.errors import LocalError


def service(name: str, body: str) -> Service:
    return Service(name, [sys.executable, "-S", "-c", body])


GOOD = "import signal; print('ready good', flush=True); signal.pause()"


def test_a_service_is_ready_when_it_says_so_and_gone_after_the_stop(tmp_path: Path) -> None:
    said = []
    with Supervisor(tmp_path, on_change=lambda name, what: said.append((name, what))) as running:
        running.start([service("good", GOOD)])
        assert running.states() == {"good": "starting"}
        running.wait_until_ready()
        assert running.states() == {"good": "ready"}
        pid = running.pid("good")
        assert pid is not None
    assert not psutil.pid_exists(pid)
    assert said == [("good", "started"), ("good", "ready"), ("good", "stopped")]


def test_a_killed_service_is_started_again(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as running:
        running.start([service("good", GOOD)])
        running.wait_until_ready()
        first = running.pid("good")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        running.run(until=lambda: running.restarts() == 1)
        assert running.states() == {"good": "waiting"}
        running.wait_until_ready()
        assert running.pid("good") not in (None, first)


def test_a_service_that_keeps_failing_ends_the_deployment_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACK_OFF_FIRST_S", 0.0)
    with Supervisor(tmp_path) as running:
        running.start([service("bad", "import sys; sys.exit('the disk is full')")])
        with pytest.raises(ServiceFailedError, match=r"bad ended 6 times[\s\S]*the disk is full"):
            running.wait_until_ready()


def test_a_service_that_is_silent_too_long_is_named(tmp_path: Path) -> None:
    with Supervisor(tmp_path, ready_timeout_s=0.2) as running:
        running.start([service("silent", "import signal; signal.pause()")])
        with pytest.raises(ServiceFailedError, match="silent was not ready"):
            running.wait_until_ready()


def test_a_terminals_codes_around_the_line_do_not_hide_it(tmp_path: Path) -> None:
    body = r"import signal; print('\x1b[?25l\x08\x1b[?25hready good', flush=True); signal.pause()"
    with Supervisor(tmp_path, ready_timeout_s=20) as running:
        running.start([service("good", body)])
        running.wait_until_ready()


def test_another_services_readiness_does_not_count(tmp_path: Path) -> None:
    with Supervisor(tmp_path, ready_timeout_s=0.2) as running:
        running.start([service("goo", GOOD)])
        with pytest.raises(ServiceFailedError, match="goo was not ready"):
            running.wait_until_ready()


def test_two_services_of_one_name_are_refused(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as running, pytest.raises(LocalError, match="two services are called good"):
        running.start([service("good", GOOD), service("good", GOOD)])


def test_waiting_doubles_up_to_its_bound() -> None:
    assert [back_off_s(failures) for failures in (1, 2, 3, 4, 5, 6, 20)] == [0.5, 1, 2, 4, 8, 10, 10]


STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready stubborn', flush=True)
while True: signal.pause()
"""


def test_a_service_that_ignores_the_request_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_GRACE_S", 0.2)
    with Supervisor(tmp_path) as running:
        running.start([service("stubborn", STUBBORN)])
        running.wait_until_ready()
        process = psutil.Process(running.pid("stubborn"))
    psutil.wait_procs([process], timeout=10)
    assert not process.is_running()


PARENT = """
import sys
from pathlib import Path
from aicache.local.supervisor import Service, Supervisor
running = Supervisor(Path(sys.argv[1]))
running.start([Service("good", [sys.executable, "-S", "-c", sys.argv[2]])])
running.wait_until_ready()
print(running.pid("good"), flush=True)
sys.stdin.read()
"""


def test_a_service_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), GOOD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        guarding = child.parent()
        assert guarding is not None
        began = time.monotonic()
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs([child, guarding], timeout=10)
    assert alive == []
    assert time.monotonic() - began < 5
