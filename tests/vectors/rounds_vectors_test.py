"""The kept rounds: the good one is valid, each bad one is refused by the check that its fault belongs to."""

import json
from pathlib import Path

import pytest

from aicache.streams.rounds.exported import read
from aicache.streams.rounds.verify import verify_round

HERE = Path(__file__).parent
KNOWN = json.loads((HERE / "round-reasons.json").read_text())
KEYS = {
    "operator_key": bytes.fromhex(KNOWN["operator_key"]),
    "identities": {int(number): bytes.fromhex(key) for number, key in KNOWN["identities"].items()},
}


def test_the_good_round_is_valid_with_and_without_pinned_keys() -> None:
    checks = verify_round(read(HERE / "round-good.jsonl"), **KEYS)
    assert all(check.ok for check in checks), checks
    assert not any("skipped" in check.detail for check in checks)
    assert all(check.ok for check in verify_round(read(HERE / "round-good.jsonl")))


@pytest.mark.parametrize("name", sorted(KNOWN["bad"]))
def test_a_bad_round_is_refused_for_its_reason(name: str) -> None:
    expected = KNOWN["bad"][name]
    failed = [check for check in verify_round(read(HERE / f"{name}.jsonl"), **KEYS) if not check.ok]
    assert any(c.name == expected["check"] and c.detail.startswith(expected["reason"] + ":") for c in failed), failed


def test_every_file_has_its_reason() -> None:
    assert {path.stem for path in HERE.glob("round-bad_*.jsonl")} == set(KNOWN["bad"])
    assert len(KNOWN["bad"]) >= 10
