"""The command line's frame: help, JSON, errors and exit codes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from aicache.cli import app as application
from aicache.cli import frame
from aicache.cli.app import run
from aicache.privacy.errors import AicacheError, LocalError, RemoteError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees a configuration of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("AICACHE_")]:
        monkeypatch.delenv(name)


def commands(node: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    children = getattr(node, "commands", None)
    if children:
        for name, child in children.items():
            yield from commands(child, (*path, name))
    else:
        yield path, node


ALL = list(commands(typer.main.get_command(application.app)))


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_has_help_with_an_example_and_json(path: tuple[str, ...], command: object) -> None:
    text = command.help or ""
    assert f"`aicache {' '.join(path)}" in text.split("Example:")[-1], "an example of itself"
    assert any("--json" in option.opts for option in command.params)


def test_help_is_no_error_and_a_wrong_word_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == frame.OK
    assert "130" in capsys.readouterr().out
    assert run(["no-such-command"]) == frame.USAGE
    assert run(["config", "show", "--no-such-flag"]) == frame.USAGE
    assert run(["--set", "nonsense", "config", "show"]) == frame.USAGE


def test_config_show_says_where_each_value_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    Path("aicache.toml").write_text("[client]\nn_min = 7\n")
    assert run(["--kafka", "k:1", "config", "show", "--json"]) == frame.OK
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["client.n_min"] == {"key": "client.n_min", "value": "7", "source": "aicache.toml"}
    assert rows["kafka.bootstrap_servers"]["source"] == "--set kafka.bootstrap_servers"
    assert run(["config", "show"]) == frame.OK
    assert "aicache.toml" in capsys.readouterr().out


def test_a_wrong_file_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("aicache.toml").write_text("[client]\nn_mni = 7\n")
    assert run(["config", "show"]) == frame.USAGE
    captured = capsys.readouterr()
    assert captured.err == "error: aicache.toml: unknown key client.n_mni\n"
    assert captured.out == ""


class AwayError(AicacheError):
    unreachable = True


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LocalError("x"), frame.USAGE),
        (RemoteError("x", reason="bad"), frame.FAILED),
        (AwayError("x"), frame.UNREACHABLE),
        (AicacheError("x"), frame.FAILED),
        (KeyboardInterrupt(), frame.INTERRUPTED),
        (ModuleNotFoundError("x", name="river.anomaly"), frame.EXTRA_MISSING),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_error_has_its_exit_code(error: BaseException, code: int) -> None:
    def body() -> int:
        raise error

    assert frame.run_guarded(body) == code


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise ModuleNotFoundError("No module named 'faust'", name="faust")

    assert frame.run_guarded(body) == frame.EXTRA_MISSING
    assert "pip install 'aicache[streams]'" in capsys.readouterr().err


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    def body() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        frame.run_guarded(body)


def test_no_kafka_at_all_is_a_usage_error_that_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    context = typer.Context(typer.main.get_command(application.app), obj=frame.Options())

    def body() -> int:
        frame.kafka_of(context)
        return frame.OK

    assert frame.run_guarded(body) == frame.USAGE
    assert "aicache up" in capsys.readouterr().err


def test_an_interrupt_at_any_moment_is_exit_code_130_without_a_traceback(tmp_path: Path) -> None:
    """The signal comes in the middle of the imports: a module of that name stands in their way."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "aicache.cli.main", "config", "show"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m aicache.cli.main config show --json | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


def test_help_loads_nothing_heavy() -> None:
    body = (
        "import sys; from aicache.cli.app import run; run(['--help']);"
        "print(sorted({'numpy', 'pydantic', 'confluent_kafka', 'faust', 'river', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_records_become_json_and_secrets_do_not() -> None:
    from aicache.schemas.records import PartitionOffset

    assert frame.plain({"place": PartitionOffset(1, 2), "id": b"\x01\xff", "path": Path("x")}) == {
        "place": {"partition": 1, "offset": 2},
        "id": "01ff",
        "path": "x",
    }
