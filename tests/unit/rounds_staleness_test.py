"""Asynchronous rounds: who starts from an older model of the window counts less, before its vector is clipped."""

import math
from types import SimpleNamespace

import pytest

from aicache.privacy.errors import LocalError
from aicache.producers.session import staleness_weight
from aicache.schemas.records import ModelVersion


def proposal(kind: str, *versions: int) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, model_versions=[ModelVersion(version, bytes(32)) for version in versions])


def test_each_version_behind_the_newest_weighs_less() -> None:
    window = proposal("model", 7, 6, 5)
    weights = [staleness_weight(window, version) for version in (7, 6, 5)]  # type: ignore[arg-type]
    assert weights == [1.0, 1 / math.sqrt(2), 1 / math.sqrt(3)]


def test_evaluations_and_tasks_without_a_model_are_not_weighted() -> None:
    assert staleness_weight(proposal("evaluation", 7, 6), 6) == 1.0  # type: ignore[arg-type]
    assert staleness_weight(proposal("histogram"), -1) == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [4, 8, -1])
def test_a_version_outside_the_window_is_not_contributed(version: int) -> None:
    with pytest.raises(LocalError, match="does not accept"):
        staleness_weight(proposal("model", 7, 6, 5), version)  # type: ignore[arg-type]
