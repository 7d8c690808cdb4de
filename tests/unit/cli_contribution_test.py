"""`aicache privacy preview --contribution`: what a contribution would be, by the client's own path, without Kafka and at no cost."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from aicache.cli.app import run
from aicache.cli.frame import OK, USAGE
from aicache.privacy.errors import LocalError
from aicache.producers.ledger import FILE
from aicache.streams.rounds.models import first_model
from aicache.streams.rounds.preview import lines, preview
from aicache.streams.rounds.task import from_mapping
from support.rounds import START_MS

Capture = pytest.CaptureFixture[str]
BASE = {"task": "tags", "kind": "histogram", "labels": ["a", "b", "c"], "epsilon": 2.0, "rounds": 4}
MODEL = {"inputs": ["a", "b"], "outputs": ["b", "c"]}


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AICACHE_CLIENT__FOLDER", str(tmp_path / "client"))
    (tmp_path / "tags.toml").write_text('task = "tags"\nkind = "histogram"\nlabels = ["a", "b", "c"]\nepsilon = 2.0\n')
    return tmp_path


def test_it_tells_what_stays_what_leaves_and_what_it_costs() -> None:
    found = preview(from_mapping(BASE, "demo"), ["a", "a", "c"], entropy=os.urandom, now_ms=START_MS)
    assert (found.stays["coordinates"], found.stays["not_zero"]) == (3, 2)
    assert found.stays["norm"] == pytest.approx(5**0.5)
    assert found.stays["norm_clipped"] == pytest.approx(1.0)
    assert 800 < found.stays["largest_integer"] <= 1_002, "the committee adds the noise"
    assert found.leaves["chunks_bytes"] > 6 * 2_048
    assert found.epsilon_all == pytest.approx(2.0, rel=1e-3)
    assert found.epsilon_round < found.epsilon_all


def test_noise_by_the_client_is_in_its_integers_and_named() -> None:
    task = from_mapping({**BASE, "noise": "clients", "honest": 10}, "demo")
    found = preview(task, ["a"], entropy=os.urandom, now_ms=START_MS)
    assert found.noise["sigma_own"] == pytest.approx(found.noise["sigma_sum"] / 10**0.5)
    assert any("this client adds σ" in what for _, what in lines(found))


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({"kind": "mean"}, [0.5, 1, -2]),
        ({"kind": "weighted-mean"}, [[0.5, 1, -2], 3]),
        ({"kind": "count-sketch", "labels": [], "sketch_depth": 3, "sketch_width": 64}, ["pypi:numpy", "pypi:scipy"]),
        ({"clipping": "adaptive"}, ["b"]),
        ({"clipping": "per-layer", "layers": [1, 2]}, ["b"]),
    ],
)
def test_every_kind_and_way_of_clipping_has_a_preview(changes: dict, data: list) -> None:
    task = from_mapping({**BASE, **changes}, "demo")
    found = preview(task, data, entropy=os.urandom, now_ms=START_MS)
    assert found.stays["coordinates"] == task.length
    assert found.stays["norm_clipped"] <= task.clip
    assert len(lines(found)) == 9


def test_a_model_starts_from_a_version_and_the_envelope_says_which() -> None:
    task = from_mapping({**BASE, "kind": "model", "labels": [], "model": MODEL}, "demo")
    found = preview(
        task, [["a", "b"], ["b", "c"]], entropy=os.urandom, now_ms=START_MS, model=first_model(task, START_MS)
    )
    assert found.leaves["envelope"]["model_version"] == 0
    assert ("leaves: model version", "0") in lines(found)
    with pytest.raises(LocalError, match="model"):
        preview(task, [["a", "b"]], entropy=os.urandom, now_ms=START_MS)


def test_the_command_makes_nothing_and_charges_nothing(folder: Path, capsys: Capture) -> None:
    (folder / "mine.json").write_text('["a", "a", "b"]')
    words = ["privacy", "preview", "--contribution", "tags.toml", "--data", "mine.json"]
    assert run([*words, "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert (found["sent"], found["contribution"]["stays"]["not_zero"]) == (False, 2)
    assert run(words) == OK
    assert "nothing was charged" in capsys.readouterr().out
    assert not (folder / "client" / FILE).exists()


@pytest.mark.parametrize(
    ("words", "text", "told"),
    [
        (["--contribution", "tags.toml"], "[]", "--data"),
        (["--contribution", "tags.toml", "--data", "nowhere.json"], "[]", "cannot be read"),
        (["--contribution", "tags.toml", "--data", "mine.json"], "[", "cannot be read"),
        (["--contribution", "tags.toml", "--data", "mine.json"], '["secret-label"]', "vocabulary"),
        (["--contribution", "nowhere.toml", "--data", "mine.json"], "[]", "does not exist"),
        ([], "[]", "which event"),
    ],
)
def test_what_cannot_be_previewed_is_told_and_not_quoted(
    folder: Path, capsys: Capture, words: list[str], text: str, told: str
) -> None:
    (folder / "mine.json").write_text(text)
    assert run(["privacy", "preview", *words]) == USAGE
    error = capsys.readouterr().err
    assert told in error
    assert "secret-label" not in error


def test_what_would_leave_does_not_hang_on_the_data_but_for_its_bytes() -> None:
    """The same records of the same sizes, whatever the client holds."""
    task = from_mapping(BASE, "demo")
    found = [preview(task, data, entropy=os.urandom, now_ms=START_MS).leaves for data in ([], ["a"] * 1_000)]
    assert found[0] == found[1]
    assert np.isfinite(preview(task, [], entropy=os.urandom, now_ms=START_MS).stays["norm_clipped"])
