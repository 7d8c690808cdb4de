"""The samplers and pseudonyms give the numbers that were written down, and refuse what was written down as bad."""

import json
from pathlib import Path
from typing import Any

import pytest

from aicache.privacy import anonymize, noise
from aicache.privacy.errors import LocalError

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("noise_and_pseudonyms.json").read_text())
SAMPLERS = {"gaussian": noise.discrete_gaussian, "laplace": noise.discrete_laplace}


@pytest.mark.parametrize("case", VECTORS["noise"], ids=lambda case: f"{case['law']} {case['scale']}")
def test_a_key_gives_the_samples_that_were_written_down(case: dict[str, Any]) -> None:
    key = bytes.fromhex(case["key"])
    drawn = SAMPLERS[case["law"]](case["scale"], len(case["samples"]), lambda size: key[:size])
    assert drawn.tolist() == case["samples"]


@pytest.mark.parametrize("case", VECTORS["bad_noise"], ids=lambda case: f"{case['law']} {case['scale']}")
def test_a_bad_scale_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(LocalError):
        SAMPLERS[case["law"]](float(case["scale"]), 4, bytes)


@pytest.mark.parametrize("case", VECTORS["pseudonyms"], ids=lambda case: f"{case['purpose']} {case['period']}")
def test_a_pseudonym_is_the_one_that_was_written_down(case: dict[str, Any]) -> None:
    key = bytes.fromhex(case["key"])
    assert anonymize.pseudonym(key, case["purpose"], case["period"]).hex() == case["pseudonym"]


@pytest.mark.parametrize("case", VECTORS["bad_pseudonyms"], ids=["key", "purpose", "period"])
def test_a_bad_pseudonym_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(LocalError):
        anonymize.pseudonym(bytes.fromhex(case["key"]), case["purpose"], case["period"])
