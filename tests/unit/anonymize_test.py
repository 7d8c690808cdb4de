"""Only public names of a known form leave, times and versions are coarse, and pseudonyms cannot be followed."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.privacy import anonymize
from aicache.privacy.errors import LocalError

KEY = bytes(range(32))


def test_a_pseudonym_is_the_documented_hmac() -> None:
    message = b"aicache/pseudonym/1" + (5).to_bytes(4, "big") + b"usage" + (7).to_bytes(8, "big")
    assert anonymize.pseudonym(KEY, "usage", 7) == hmac.new(KEY, message, hashlib.sha256).digest()[:16]


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), st.integers(0, 10**6), st.integers(0, 10**6))
def test_pseudonyms_agree_only_for_one_purpose_and_one_period(a: str, b: str, first: int, second: int) -> None:
    same = anonymize.pseudonym(KEY, a, first) == anonymize.pseudonym(KEY, b, second)
    assert same == ((a, first) == (b, second))


def test_a_pseudonym_changes_with_the_period_and_with_the_key() -> None:
    week = 7 * 86_400_000
    times = [week * 3000 - 1, week * 3000, week * 3001 - 1, week * 3001]
    names = [anonymize.pseudonym(KEY, "usage", anonymize.period_of(t, week)) for t in times]
    assert names[1] == names[2]
    assert len(set(names)) == 3
    assert anonymize.pseudonym(bytes(32), "usage", 3000) != names[1]


@pytest.mark.parametrize(("key", "purpose", "period"), [(b"short", "usage", 1), (KEY, "", 1), (KEY, "usage", -1)])
def test_a_pseudonym_needs_a_whole_key_a_purpose_and_a_period(key: bytes, purpose: str, period: int) -> None:
    with pytest.raises(LocalError) as error:
        anonymize.pseudonym(key, purpose, period)
    assert "short" not in str(error.value)


def test_a_period_needs_a_length() -> None:
    for time_ms, period_ms in ((1, 0), (-1, 10)):
        with pytest.raises(LocalError):
            anonymize.period_of(time_ms, period_ms)


@given(st.integers(0, 2**40), st.integers(1, anonymize.TIME_STEP_S_MAX))
def test_times_are_rounded_down_to_the_step(time_s: int, step_s: int) -> None:
    coarse = anonymize.generalise_time(time_s, step_s)
    assert coarse % step_s == 0
    assert 0 <= time_s - coarse < step_s


@pytest.mark.parametrize(("time_s", "step_s"), [(-1, 10), (1, 0), (1, anonymize.TIME_STEP_S_MAX + 1)])
def test_times_and_steps_out_of_range_are_refused(time_s: int, step_s: int) -> None:
    with pytest.raises(LocalError):
        anonymize.generalise_time(time_s, step_s)


@pytest.mark.parametrize(
    ("version", "parts", "coarse"),
    [
        ("2.4.1", 2, "2.4"),
        ("v2.4.1rc3+local.7", 2, "2.4"),
        ("1!3.2", 1, "3"),
        ("20.04", 2, "20.4"),
        ("7", 3, "7"),
        ("1.2.3.4.5", 3, "1.2.3"),
        ("3.11.0b4", 2, "3.11"),
        ("1.0.0-alice-laptop", 3, "1.0.0"),
    ],
)
def test_versions_keep_their_first_numbers_alone(version: str, parts: int, coarse: str) -> None:
    assert anonymize.generalise_version(version, parts) == coarse


@pytest.mark.parametrize("version", ["", "latest", "alice@host", "1." * 40 + "1", "../1.2", "1.2 3", "1.2\n", "١.٢"])
def test_what_is_no_version_is_refused_and_not_quoted(version: str) -> None:
    with pytest.raises(LocalError) as error:
        anonymize.generalise_version(version)
    assert version.strip() == "" or version not in str(error.value)
    with pytest.raises(LocalError):
        anonymize.generalise_version("1.2", 4)


@pytest.mark.parametrize(
    "name",
    [
        "pypi:numpy",
        "pypi:ruamel.yaml",
        "npm:@angular/core",
        "npm:left-pad",
        "crate:serde_json",
        "maven:org.apache.kafka/kafka-clients",
        "apt:libstdc++6",
        "tag:c++",
        "tag:c#",
        "tag:16.04",
        "rule:F401",
        "rule:no-unused-vars",
        "op:build",
        "sig:00112233445566778899aabbccddeeff",
    ],
)
def test_public_names_pass(name: str) -> None:
    assert anonymize.check_item(name) == name


SECRETS = [
    "/home/alice/project",
    "C:\\Users\\alice",
    "alice@example.org",
    "pypi:/home/alice/x",
    "pypi:alice@example.org",
    "pypi:Numpy with spaces",
    "pypi:numpy\n",
    "pypi:",
    "pypi:" + "a" * 81,
    "tag:" + "x" * 41,
    "op:rm -rf",
    "sig:not-hexadecimal!",
    "sig:abc",
    "rule:SELECT * FROM users",
    "free text",
    "",
    ":",
    "unknown:thing",
    "tag:ünïcode",
    "host:build-7.corp.example",
    "npm:../../etc/passwd",
    "maven:kafka",
    "AKIA0123456789ABCDEF",
    "pypi:build-7.corp.example",
    "apt:db1.internal",
    "tag:192.168.17.4",
    "pypi:ghp16charsandmore0000000001",
    "npm:d41d8cd98f00b204e9800998ecf8427e",
]


@pytest.mark.parametrize("name", SECRETS)
def test_everything_else_is_refused_and_not_quoted(name: str) -> None:
    with pytest.raises(LocalError) as error:
        anonymize.check_item(name)
    local = name.partition(":")[2] or name
    for said in (str(error.value), repr(error.value.got)):
        assert len(local) < 2 or local not in said


@given(st.text(max_size=60))
def test_whatever_passes_is_short_printable_and_without_blanks(name: str) -> None:
    try:
        passed = anonymize.check_item(name)
    except LocalError:
        return
    assert passed.isascii()
    assert passed.isprintable()
    assert " " not in passed
    assert len(passed) <= anonymize.NAME_CHARS_MAX + 10


def test_with_a_list_only_listed_names_pass() -> None:
    listed = frozenset({"pypi:numpy"})
    assert anonymize.check_item("pypi:numpy", listed) == "pypi:numpy"
    with pytest.raises(LocalError, match="list of public names"):
        anonymize.check_item("pypi:company-internal", listed)


def test_a_listed_name_passes_even_if_it_looks_like_a_key() -> None:
    name = "pypi:alibabacloud-accountlabel20200315"
    with pytest.raises(LocalError, match="looks like"):
        anonymize.check_item(name)
    assert anonymize.check_item(name, frozenset({name})) == name


def test_a_release_is_a_checked_name_with_a_coarse_version() -> None:
    assert anonymize.generalise_release("pypi:numpy@2.4.1") == "pypi:numpy@2.4"
    assert anonymize.generalise_release("npm:@angular/core@17.3.1", 1) == "npm:@angular/core@17"
    assert anonymize.generalise_release("") == ""
    for wrong in ("pypi:numpy", "alice@example.org", "pypi:numpy@alice"):
        with pytest.raises(LocalError):
            anonymize.generalise_release(wrong)


def test_words_come_from_a_closed_vocabulary() -> None:
    languages = frozenset({"", "python", "c++", "Bad Word"})
    assert anonymize.check_word("python", languages) == "python"
    assert anonymize.check_word("", languages) == ""
    for wrong in ("alice", "Bad Word"):
        with pytest.raises(LocalError):
            anonymize.check_word(wrong, languages)


def test_rare_items_are_suppressed_at_the_threshold_exactly() -> None:
    counts = {"tag:a": 5.0, "tag:b": 4.999, "tag:c": 80.0}
    items = ["tag:c", "tag:b", "tag:a", "tag:new", "tag:kept"]
    assert anonymize.suppress_rare(items, counts, 5, frozenset({"tag:kept"})) == ["tag:c", "tag:a", "tag:kept"]
    with pytest.raises(LocalError):
        anonymize.suppress_rare(items, counts, 0)
