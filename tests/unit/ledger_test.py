"""The client's ledger: never behind what was sent, whatever crashes, is restored, or is damaged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.privacy.accounting import ORDERS, epsilon_from_rdp, gaussian_rdp
from aicache.privacy.errors import LocalError
from aicache.producers import ledger as ledgers
from aicache.producers.ledger import FILE, LOG_WINDOW_MS, NEW_FILE, Ledger, Limit
from aicache.producers.ledger_lines import Carried, check_of
from aicache.streams.rounds.budgets import WINDOW_MS

DAY_MS = 86_400_000
NOW_MS = 60 * LOG_WINDOW_MS + 5
COST = gaussian_rdp(0.25)
LIMIT = Limit(4.0)


def charged(folder: Path, rounds: int) -> Ledger:
    ledger = Ledger(folder)
    for number in range(rounds):
        ledger.charge("trends", NOW_MS, f"r{number}", COST, LIMIT)
    return ledger


def epsilon(rounds: int) -> float:
    return epsilon_from_rdp(rounds * COST, 1e-6)


def log_says(ledger: Ledger, rounds: int, *, limit: Limit = LIMIT, opened_ms: int = NOW_MS) -> bool:
    start_ms = NOW_MS - NOW_MS % LOG_WINDOW_MS
    return ledger.raise_to(
        "trends", start_ms, rounds * COST, rounds=rounds, last_round=f"r{rounds - 1}", opened_ms=opened_ms, limit=limit
    )


def test_the_logs_windows_are_those_of_the_coordinator() -> None:
    assert LOG_WINDOW_MS == WINDOW_MS


def test_what_was_charged_is_there_after_a_restart(tmp_path: Path) -> None:
    before = charged(tmp_path, 3)
    again = Ledger(tmp_path)
    assert again.spent() == before.spent()
    assert again.spent()[0].epsilon == pytest.approx(epsilon(3))
    assert [entry.rounds for entry in again.spent()] == [3]
    assert all(again.has(f"r{number}") for number in range(3))


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    charged(tmp_path, 1)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_round_is_charged_once(tmp_path: Path) -> None:
    ledger = charged(tmp_path, 1)
    with pytest.raises(LocalError, match="already"):
        ledger.charge("trends", NOW_MS, "r0", COST, LIMIT)
    assert ledger.spent()[0].rounds == 1


def test_a_round_that_the_limit_does_not_cover_costs_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    rounds = 0
    with pytest.raises(LocalError, match="does not cover") as caught:
        for number in range(1_000):
            ledger.charge("trends", NOW_MS, f"r{number}", COST, LIMIT)
            rounds += 1
    assert epsilon(rounds) <= LIMIT.epsilon < epsilon(rounds + 1)
    assert caught.value.got == pytest.approx(epsilon(rounds + 1))
    assert ledger.spent()[0].rounds == rounds
    assert Ledger(tmp_path).spent() == ledger.spent()


def test_purposes_and_windows_do_not_share_a_budget(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    limit = Limit(epsilon(1) * 1.01)
    ledger.charge("trends", NOW_MS, "a", COST, limit)
    with pytest.raises(LocalError):
        ledger.charge("trends", NOW_MS, "b", COST, limit)
    ledger.charge("models", NOW_MS, "b", COST, limit)
    ledger.charge("trends", NOW_MS + LOG_WINDOW_MS, "c", COST, limit)
    assert len(ledger.spent()) == 3


def test_a_lost_ledger_is_raised_to_what_the_log_says(tmp_path: Path) -> None:
    charged(tmp_path, 5)
    (tmp_path / FILE).unlink()
    ledger = Ledger(tmp_path)
    assert log_says(ledger, 5)
    assert ledger.spent()[0].epsilon == pytest.approx(epsilon(5))
    assert ledger.has("r4")
    assert not log_says(ledger, 5), "it is believed once"
    assert Ledger(tmp_path).spent() == ledger.spent()


def test_a_ledger_restored_from_a_backup_is_raised_by_what_is_missing(tmp_path: Path) -> None:
    charged(tmp_path, 2)
    backup = (tmp_path / FILE).read_bytes()
    charged_later = Ledger(tmp_path)
    charged_later.charge("trends", NOW_MS, "r2", COST, LIMIT)
    (tmp_path / FILE).write_bytes(backup)
    restored = Ledger(tmp_path)
    assert log_says(restored, 3)
    assert restored.spent()[0].epsilon == pytest.approx(epsilon(3))
    assert restored.spent()[0].rounds == 3


def test_a_ledger_that_is_ahead_of_the_log_stays(tmp_path: Path) -> None:
    """What was sent and then left out of the manifest was spent all the same."""
    ledger = charged(tmp_path, 4)
    assert not log_says(ledger, 3)
    assert ledger.spent()[0].epsilon == pytest.approx(epsilon(4))


def test_renewal_windows_shorter_than_the_logs_renew_nevertheless(tmp_path: Path) -> None:
    """The log's total of 30 days is compared with the file's of the same 30 days, not with that of one day."""
    day = Limit(4.0, window_ms=LOG_WINDOW_MS // 30)
    ledger = Ledger(tmp_path)
    ledger.charge("trends", NOW_MS, "r0", COST, day)
    later_ms = NOW_MS + 3 * day.window_ms
    assert not log_says(ledger, 1, limit=day, opened_ms=later_ms)
    ledger.charge("trends", later_ms, "r1", COST, day)
    assert [entry.rounds for entry in ledger.spent()] == [1, 1]


def test_what_the_log_charged_in_a_window_that_is_over_is_not_charged_again(tmp_path: Path) -> None:
    assert not log_says(Ledger(tmp_path), 5, opened_ms=NOW_MS + LOG_WINDOW_MS)


def test_costs_without_bound_at_some_orders_are_kept(tmp_path: Path) -> None:
    cost = COST.copy()
    cost[-1] = np.inf
    ledger = Ledger(tmp_path)
    ledger.charge("trends", NOW_MS, "r0", cost, LIMIT)
    again = Ledger(tmp_path)
    assert again.spent() == ledger.spent()
    assert not again.raise_to(
        "trends", NOW_MS - NOW_MS % LOG_WINDOW_MS, cost, rounds=1, last_round="r0", opened_ms=NOW_MS, limit=LIMIT
    )


@pytest.mark.parametrize("cost", [np.full(len(ORDERS), np.nan), -COST, COST[:-1]])
def test_a_cost_that_is_none_is_refused(tmp_path: Path, cost: np.ndarray) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises((LocalError, ValueError)):
        ledger.charge("trends", NOW_MS, "r0", cost, LIMIT)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"epsilon": 0.0},
        {"epsilon": float("nan")},
        {"epsilon": float("inf")},
        {"epsilon": 1.0, "delta": 0.0},
        {"epsilon": 1.0, "delta": 1.0},
        {"epsilon": 1.0, "window_ms": 0},
    ],
)
def test_a_limit_that_limits_nothing_is_refused(fields: dict) -> None:
    with pytest.raises(LocalError):
        Limit(**fields)


# ---------------------------------------------------------------- damage and crashes


def test_a_ledger_cut_anywhere_knows_all_that_was_acknowledged(tmp_path: Path) -> None:
    """Prefixes of the file, as a crash in the middle of a write leaves it: whole lines count, the torn one was never acted on."""
    charged(tmp_path, 3)
    data = (tmp_path / FILE).read_bytes()
    ends = [at for at in range(len(data) + 1) if at == 0 or data[at - 1 : at] == b"\n"]
    near_ends = {end + step for end in ends for step in range(-3, 2) if 0 <= end + step <= len(data)}
    for cut in sorted(near_ends.union(range(0, len(data), 11))):
        (tmp_path / FILE).write_bytes(data[:cut])
        ledger = Ledger(tmp_path)
        whole = sum(end <= cut for end in ends) - 1
        assert sum(entry.rounds for entry in ledger.spent()) == whole
    ledger.charge("trends", NOW_MS, "after", COST, LIMIT)
    assert Ledger(tmp_path).has("after")


def test_a_charge_after_a_torn_line_replaces_it(tmp_path: Path) -> None:
    charged(tmp_path, 2)
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[:-40])
    ledger = Ledger(tmp_path)
    ledger.charge("trends", NOW_MS, "r9", COST, LIMIT)
    assert sorted(Ledger(tmp_path)._seen) == ["r0", "r9"]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    folder.mkdir(exist_ok=True)
    (folder / FILE).unlink(missing_ok=True)
    before = charged(folder, 2).spent()
    good = bytearray((folder / FILE).read_bytes())
    good[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / FILE).write_bytes(good)
    try:
        assert Ledger(folder).spent() == before, "harmless: the same numbers in other letters"
    except LocalError as error:
        assert "damaged" in str(error)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: [lines[1], lines[0]],
        lambda lines: [lines[0], lines[0], lines[1]],
        lambda lines: [b"{}", *lines],
        lambda lines: [b"[" * 100_000, *lines],
        lambda lines: [lines[0], b"\xff\xfe", lines[1]],
    ],
    ids=["first line gone", "order changed", "line twice", "no charge", "nested deeply", "no text"],
)
def test_lines_that_do_not_follow_each_other_are_noticed(tmp_path: Path, change) -> None:
    charged(tmp_path, 2)
    lines = (tmp_path / FILE).read_bytes().splitlines()
    (tmp_path / FILE).write_bytes(b"\n".join(change(lines)) + b"\n")
    with pytest.raises(LocalError, match="is damaged: nothing is spent"):
        Ledger(tmp_path)


def test_a_negative_charge_with_a_right_check_is_refused(tmp_path: Path) -> None:
    fields = {
        "purpose": "trends",
        "window_start_ms": 0,
        "log_window_start_ms": 0,
        "round": "r0",
        "rounds": 1,
        "rdp": (-COST).tolist(),
    }
    (tmp_path / FILE).write_bytes(json.dumps({"charge": fields, "check": check_of("", fields)}).encode() + b"\n")
    with pytest.raises(LocalError, match="line 1"):
        Ledger(tmp_path)


def test_a_full_disk_is_an_error_and_nothing_counts_as_charged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = charged(tmp_path, 1)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocalError, match="No space left"):
        ledger.charge("trends", NOW_MS, "r1", COST, LIMIT)
    assert not ledger.has("r1")
    monkeypatch.undo()
    ledger.charge("trends", NOW_MS, "r2", COST, LIMIT)
    assert sorted(Ledger(tmp_path)._seen) == ["r0", "r2"]


# ---------------------------------------------------------------- over years


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written anew every few charges."""
    monkeypatch.setattr(ledgers, "COMPACT_BYTES", 8_000)


def charged_daily(
    folder: Path, days: int, *, purpose: str = "trends", limit: Limit = LIMIT, start_ms: int = NOW_MS
) -> Ledger:
    ledger = Ledger(folder)
    for day in range(days):
        ledger.charge(purpose, start_ms + day * DAY_MS, f"{purpose}-{day}", COST / 100, limit)
    return ledger


def test_the_file_stays_small_over_years(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten years, three purposes with windows of a day, a month and a quarter, a round every few days."""
    monkeypatch.setattr(os, "fsync", lambda _handle: None)  # no test of the disk
    (tmp_path / "once").mkdir()
    once = (charged(tmp_path / "once", 1), (tmp_path / "once" / FILE).stat().st_size)[1]
    ledger, largest = Ledger(tmp_path), 0
    limits = {"a": Limit(8.0, window_ms=DAY_MS), "b": LIMIT, "c": Limit(8.0, window_ms=90 * DAY_MS)}
    for day in range(0, 3_650, 5):
        for purpose, limit in limits.items():
            ledger.charge(purpose, NOW_MS + day * DAY_MS, f"{purpose}-{day}", COST / 100, limit)
        largest = max(largest, ledger._end)
    assert largest <= ledgers.COMPACT_BYTES + 2 * once
    earlier = ledger.earlier()
    assert earlier is not None
    assert earlier.rounds + sum(entry.rounds for entry in ledger.spent()) == 3 * 730
    assert len(ledger.spent()) < 200
    again = Ledger(tmp_path)
    assert (again.earlier(), again.spent()) == (earlier, ledger.spent())


@pytest.mark.usefixtures("often")
def test_a_file_written_anew_says_the_same_of_every_window_that_counts(tmp_path: Path) -> None:
    ledger = charged_daily(tmp_path, 100)
    plain = Ledger(tmp_path)
    assert any(isinstance(line, Carried) for line in ledger._lines)
    assert plain.spent() == ledger.spent()
    assert [entry.rounds for entry in ledger.spent()][:2] == [10, 30]
    assert all(ledger.has(f"trends-{day}") for day in range(60, 100))
    with pytest.raises(LocalError, match="already"):
        ledger.charge("trends", NOW_MS + 99 * DAY_MS, "trends-95", COST, LIMIT)


@pytest.mark.usefixtures("often")
def test_a_window_that_is_not_over_keeps_its_whole_cost_whatever_other_purposes_do(tmp_path: Path) -> None:
    """A purpose with short windows makes the file be written anew; the year of another one goes on."""
    year = Limit(1.0, window_ms=365 * DAY_MS)
    start_ms = year.window_start(NOW_MS)
    before = charged_daily(tmp_path, 20, purpose="yearly", limit=year, start_ms=start_ms).spent()[0]
    charged_daily(tmp_path, 300, purpose="daily", limit=Limit(8.0, window_ms=DAY_MS), start_ms=start_ms)
    (after,) = [entry for entry in Ledger(tmp_path).spent() if entry.purpose == "yearly"]
    assert (after.rounds, after.window_start_ms) == (20, before.window_start_ms)
    assert after.epsilon == pytest.approx(before.epsilon, rel=1e-12)


@pytest.mark.usefixtures("often")
def test_a_copy_from_before_it_was_written_anew_is_raised_by_the_log(tmp_path: Path) -> None:
    ledger = charged(tmp_path, 3)
    backup = (tmp_path / FILE).read_bytes()
    for number in range(3, 20):
        ledger.charge("trends", NOW_MS, f"r{number}", COST / 20, LIMIT)
    assert ledger._compact_end > 0
    spent = ledger.spent()[0]
    total = ledger._totals["trends", LIMIT.window_start(NOW_MS)]
    (tmp_path / FILE).write_bytes(backup)
    restored = Ledger(tmp_path)
    start_ms = NOW_MS - NOW_MS % LOG_WINDOW_MS
    arguments = {"rounds": 20, "last_round": "r19", "opened_ms": NOW_MS, "limit": LIMIT}
    assert restored.raise_to("trends", start_ms, total, **arguments)
    assert restored.spent()[0].rounds == spent.rounds
    assert restored.spent()[0].epsilon == pytest.approx(spent.epsilon)
    assert not Ledger(tmp_path).raise_to("trends", start_ms, total, **arguments), "written anew or not, it knows all"


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_while_it_is_written_anew_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ledger = Ledger(tmp_path)
    number = 0
    while ledger._end <= 8_000:
        ledger.charge("trends", NOW_MS, f"r{number}", COST / 100, LIMIT)
        number += 1
    failed = []

    def fails(*_: object) -> None:
        failed.append(step)
        monkeypatch.undo()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", fails) if step == "fsync" else (Path, "replace", fails)))
    ledger.charge("trends", NOW_MS, "after", COST / 100, LIMIT)
    assert failed == [step]
    again = Ledger(tmp_path)
    assert again.spent()[0].rounds == number + 1
    assert again.has("after")


class KilledError(BaseException):
    """Nothing after it runs, as after kill -9."""


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("step", ["open", "fsync", "replace", "sync_folder"])
def test_a_kill_at_each_step_of_writing_anew_leaves_the_old_file_or_the_whole_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, done: bool
) -> None:
    ledger, number = Ledger(tmp_path), 0
    while ledger._end <= 8_000:
        ledger.charge("trends", NOW_MS, f"r{number}", COST / 100, LIMIT)
        number += 1
    owner = {"open": os, "fsync": os, "replace": Path, "sync_folder": ledgers}[step]
    real = getattr(owner, step)

    def killed(*arguments: object, **named: object) -> None:
        if done:
            real(*arguments, **named)
        raise KilledError

    monkeypatch.setattr(owner, step, killed)
    with pytest.raises(KilledError):
        ledger.charge("trends", NOW_MS, "never said", COST / 100, LIMIT)
    monkeypatch.undo()
    monkeypatch.setattr(ledgers, "COMPACT_BYTES", 8_000)
    again = Ledger(tmp_path)
    assert again.spent()[0].rounds == number
    assert all(again.has(f"r{n}") for n in range(number))
    again.charge("trends", NOW_MS, "after", COST / 100, LIMIT)
    assert Ledger(tmp_path).spent()[0].rounds == number + 1


@pytest.mark.usefixtures("often")
def test_a_new_file_that_is_not_known_to_be_on_disk_stops_the_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    while ledger._end <= 8_000:
        ledger.charge("trends", NOW_MS, f"r{ledger._end}", COST / 100, LIMIT)
    before = ledger.spent()[0]

    def fails(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ledgers, "sync_folder", fails)
    with pytest.raises(LocalError, match="nothing is sent"):
        ledger.charge("trends", NOW_MS, "after", COST / 100, LIMIT)
    monkeypatch.undo()
    assert not ledger.has("after")
    ledger.charge("trends", NOW_MS, "later", COST / 100, LIMIT)
    assert Ledger(tmp_path).spent()[0].rounds == before.rounds + 1


@pytest.mark.usefixtures("often")
def test_what_a_kill_left_of_a_new_file_is_never_read(tmp_path: Path) -> None:
    charged(tmp_path, 2)
    (tmp_path / NEW_FILE).write_bytes(b"half a li")
    assert Ledger(tmp_path).spent()[0].rounds == 2
    charged_daily(tmp_path, 30, purpose="other")
    assert not (tmp_path / NEW_FILE).exists()


def test_a_charge_that_does_not_say_how_long_its_window_is_is_kept_for_more_than_a_year(tmp_path: Path) -> None:
    fields = {
        "purpose": "trends",
        "window_start_ms": NOW_MS,
        "log_window_start_ms": NOW_MS,
        "round": "old",
        "rounds": 1,
        "rdp": COST.tolist(),
    }
    (tmp_path / FILE).write_bytes(json.dumps({"charge": fields, "check": check_of("", fields)}).encode() + b"\n")
    (line,) = Ledger(tmp_path)._lines
    assert not line.over(NOW_MS + 365 * DAY_MS)
    assert line.over(NOW_MS + 500 * DAY_MS)


def test_two_hundred_kills_leave_no_charge_unrecorded(tmp_path: Path) -> None:
    """Processes charge and then say so, as if they sent; each is killed with kill -9 at another moment, also of writing anew."""
    script = Path(__file__).parent.parent / "support" / "run_ledger_kills.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "200"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["kills"], found["unrecorded"], found["lost"]) == (200, 0, 0)
    assert found["written_anew"] >= 5
