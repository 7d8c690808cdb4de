"""Findings of linters and Bandit: ids of public rules leave, and nothing else of what the tools wrote."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.cli import frame
from aicache.cli.app import run
from aicache.privacy.anonymize import check_item
from aicache.privacy.errors import LocalError
from aicache.producers.signals import rules
from aicache.producers.signals.rules import FORMS, Findings, public_rules, read, tell_findings

CANARY = "Zq7f3kCanary"
OUTPUTS: dict[str, Any] = {
    "sarif": {
        "runs": [
            {
                "tool": {"driver": {"name": CANARY, "rules": [{"id": "B602"}, {"id": f"ACME-{CANARY}"}]}},
                "results": [
                    {"ruleId": "F401", "message": {"text": CANARY}},
                    {"ruleId": "F401"},
                    {"ruleIndex": 0},
                    {"ruleIndex": 1},
                    {"rule": {"id": "E501"}},
                    {"ruleId": CANARY},
                ],
            }
        ]
    },
    "ruff": [
        {"code": code, "filename": f"/home/{CANARY}/x.py", "message": CANARY}
        for code in ("F401", "F401", None, "ZQ999")
    ],
    "pylint": [{"message-id": "C0114", "path": CANARY, "message": CANARY}, {"message-id": "C9901"}],
    "bandit": {"results": [{"test_id": "B602", "code": CANARY, "filename": CANARY}], "errors": [CANARY]},
    "flake8": {f"{CANARY}.py": [{"code": "E501", "text": CANARY}, {"code": "ACM100"}]},
}
FOUND = {
    "sarif": Findings({"rule:B602": 1, "rule:E501": 1, "rule:F401": 2}, 2),
    "ruff": Findings({"rule:F401": 2}, 2),
    "pylint": Findings({"rule:C0114": 1}, 1),
    "bandit": Findings({"rule:B602": 1}, 0),
    "flake8": Findings({"rule:E501": 1}, 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_public_rules_are_counted_and_others_only_how_many(form: str) -> None:
    found = read(json.dumps(OUTPUTS[form]), form)
    assert found == FOUND[form]
    assert CANARY not in repr(found)


def test_pylints_two_forms_say_the_same() -> None:
    newer = {"messages": [{"messageId": row["message-id"]} for row in OUTPUTS["pylint"]], "statistics": {}}
    assert read(json.dumps(newer), "pylint") == FOUND["pylint"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["", "null", "3", CANARY, f'{{"{CANARY}": 1}}', "[" * 100_000, '{"runs": 3}', "[3]"])
def test_what_is_no_output_is_refused_and_not_quoted(form: str, text: str) -> None:
    try:
        found = read(text, form)
    except LocalError as refused:
        assert CANARY not in f"{refused} {refused.got} {refused.needed}"
    else:
        assert not found.counts


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["F401", "results", "runs"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["runs", "results", "code"]), inner),
    max_leaves=12,
)


@given(json_values, st.sampled_from(list(FORMS)))
def test_any_json_is_read_or_refused(value: Any, form: str) -> None:
    with contextlib.suppress(LocalError):
        assert set(read(json.dumps(value), form).counts) <= {"rule:F401"}


def test_forms_and_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LocalError, match="form"):
        read("[]", "checkstyle")
    monkeypatch.setattr(rules, "OUTPUT_CHARS_MAX", 10)
    with pytest.raises(LocalError, match="long"):
        read("[" + " " * 20 + "]", "ruff")
    monkeypatch.undo()
    many = json.dumps([{"code": "F401"}] * 1_000)
    assert read(many, "ruff").counts == {"rule:F401": rules.COUNT_MAX}


def test_every_public_rule_has_the_form_of_one_and_the_list_has_those_of_all_four_tools() -> None:
    assert {"F401", "PLR0913", "E501", "W503", "C0114", "B101", "B602", "S101"} <= public_rules()
    assert len(public_rules()) > 1_300
    for name in public_rules():
        assert check_item(f"rule:{name}") == f"rule:{name}"


def test_findings_are_told_a_rule_an_event() -> None:
    told: list[tuple[Any, ...]] = []
    count = tell_findings(
        lambda kind, items, **more: told.append((kind, items, more)), FOUND["sarif"], "pypi:ruff@0.17"
    )
    assert count == 3
    assert told[-1] == ("finding", ["rule:F401"], {"release": "pypi:ruff@0.17", "count": 2})


def test_what_ruff_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(f"import os\n{CANARY} = 1\n")
    for form, output in (("ruff", "json"), ("sarif", "sarif")):
        words = [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--exit-zero",
            "--no-cache",
            "--output-format",
            output,
        ]
        done = subprocess.run([*words, "x.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert read(done.stdout, form).counts["rule:F401"] == 1


def test_an_owner_sees_what_would_leave_of_a_linters_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--set", f"client.folder={tmp_path}/client", "privacy", "preview", "--findings", "out.json", "--form"]
    Path("out.json").write_text(json.dumps(OUTPUTS["ruff"]))
    assert run([*words, "ruff", "--release", "pypi:ruff@0.17.6", "--json"]) == frame.OK
    shown = json.loads(capsys.readouterr().out)
    (event,) = shown["records"][0]["events"]
    assert (event["kind"], event["items"], event["count"], event["release"]) == (
        "finding",
        ["rule:F401"],
        2,
        "pypi:ruff@0.17",
    )
    assert (shown["unknown"], shown["sent"]) == (2, False)
    assert run([*words, "ruff"]) == frame.OK
    told = capsys.readouterr().out
    assert "rule:F401" in told
    assert "2 findings of rules that are not public" in told
    assert CANARY not in told
    assert run([*words, "sarif"]) == frame.USAGE
    assert CANARY not in capsys.readouterr().err
    Path("out.json").unlink()
    assert run([*words, "ruff"]) == frame.USAGE
