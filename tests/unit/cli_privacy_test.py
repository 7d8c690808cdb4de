"""`aicache privacy …` without Kafka."""

import json
from pathlib import Path

import pytest

from aicache.cli import frame
from aicache.cli.app import run
from aicache.cli.planning import Wish, plan
from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.parameters import N10K

WISH = Wish(
    n=1_000,
    length=64,
    clip=1.0,
    scale=1_000.0,
    rounds=6,
    delta=1e-5,
    noise="committee",
    honest=0,
    members=5,
    threshold=3,
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_less_privacy_is_less_noise_and_more_rounds_are_more() -> None:
    errors = [row.error_mean for row in plan(WISH, (0.5, 1.0, 4.0, 8.0), N10K)]
    assert errors == sorted(errors, reverse=True)
    once = plan(Wish(**{**_fields(WISH), "rounds": 1}), (1.0,), N10K)[0]
    assert once.noise_multiplier < plan(WISH, (1.0,), N10K)[0].noise_multiplier


def test_noise_by_the_committee_costs_the_root_of_all_members_over_the_honest_ones() -> None:
    row = plan(WISH, (1.0,), N10K)[0]
    assert row.error_sum == pytest.approx(row.sigma * (5 / 2) ** 0.5 / WISH.scale)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"n": 1}, LocalError),
        ({"delta": 0.01}, LocalError),
        ({"noise": "nobody"}, LocalError),
        ({"scale": 1e7}, RemoteError),
        ({"n": 20_000}, RemoteError),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changed: dict[str, object], error: type[Exception]) -> None:
    wish = Wish(**{**_fields(WISH), "delta": 1e-6, **changed})
    with pytest.raises(error):
        plan(wish, (1.0,), N10K)


def test_the_command_prints_a_row_for_each_epsilon(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["privacy", "plan", "--epsilon", "1", "--epsilon", "4", "--json"]) == frame.OK
    assert [row["epsilon"] for row in json.loads(capsys.readouterr().out)] == [1.0, 4.0]
    assert run(["privacy", "plan"]) == frame.OK
    assert "error of a mean" in capsys.readouterr().out


def test_the_plot_is_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["privacy", "plan", "--plot", "plan.png", "--json"]) == frame.OK
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_crowds_and_numbers_of_rounds_are_planned_side_by_side_and_drawn_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--clients", "1000", "--clients", "9000", "--rounds", "1", "--rounds", "52", "--epsilon", "2"]
    assert run(["privacy", "plan", *words, "--plot", "plan.svg", "--json"]) == frame.OK
    rows = json.loads(capsys.readouterr().out)
    assert [(row["n"], row["rounds"]) for row in rows] == [(1000, 1), (1000, 52), (9000, 1), (9000, 52)]
    errors = {(row["n"], row["rounds"]): row["error_mean"] for row in rows}
    assert errors[9000, 1] == pytest.approx(errors[1000, 1] / 9)
    assert errors[1000, 52] > 5 * errors[1000, 1]
    drawn = (tmp_path / "plan.svg").read_text()
    assert drawn.count("<!-- 9,000 clients") == 2, "the legend names the curves"
    assert run(["privacy", "plan", "--plot", "plan.docx"]) == frame.USAGE
    assert "plan.docx cannot be drawn" in capsys.readouterr().err


def _fields(wish: Wish) -> dict[str, object]:
    return {name: getattr(wish, name) for name in Wish.__dataclass_fields__}
