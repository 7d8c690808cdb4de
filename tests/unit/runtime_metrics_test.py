"""What a worker tells of itself: names that dashboards and alert rules rely on, health, and when it counts as stuck."""

import json
import logging
import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from aicache.streams.runtime.logs import JsonLines
from aicache.streams.runtime.metrics import Metrics, MetricsServer, names
from aicache.streams.runtime.watchdog import Watchdog

ROOT = Path(__file__).parents[2]
PROMISED = {
    f"aicache_worker_{name}"
    for name in (
        "inputs_total",
        "batches_total",
        "dead_letters_total",
        "fenced_total",
        "batch_seconds",
        "partitions",
        "position",
        "lag",
        "event_skew_seconds",
        "state_changes_total",
        "load_seconds",
    )
}
PLACE = ("usage", 0)


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_exported_names_are_those_that_are_promised() -> None:
    assert names(Metrics("trends")) == PROMISED


def test_every_promised_name_is_documented() -> None:
    page = (ROOT / "docs" / "runtime.md").read_text(encoding="utf-8")
    assert {name for name in PROMISED if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("file", ["grafana-dashboard.json", "alerts.yaml"])
def test_dashboard_and_alert_rules_ask_only_for_exported_names(file: str) -> None:
    asked = set(re.findall(r"aicache_worker_[a-z_]+", (ROOT / "docker" / file).read_text(encoding="utf-8")))
    exported = PROMISED | {f"aicache_worker_batch_seconds_{part}" for part in ("bucket", "count", "sum")}
    assert asked
    assert asked <= exported


def test_health_follows_the_worker() -> None:
    metrics = Metrics("trends")
    server = MetricsServer(metrics, 0)
    try:
        assert [get(server.port, path)[0] for path in ("/live", "/ready", "/else")] == [200, 503, 404]
        metrics.ready = True
        assert get(server.port, "/ready")[0] == 200
        metrics.live = False
        assert [get(server.port, path)[0] for path in ("/live", "/ready")] == [503, 503]
        metrics.batch(3, 20, 0.01)
        assert 'aicache_worker_inputs_total{partition="3",processor="trends"} 20.0' in get(server.port, "/metrics")[1]
    finally:
        server.close()


def test_a_place_that_is_not_held_any_more_is_told_no_longer() -> None:
    metrics = Metrics("trends")
    metrics.places({PLACE: 4}, {PLACE: 9})
    assert (
        metrics.registry.get_sample_value(
            "aicache_worker_lag", {"processor": "trends", "topic": "usage", "partition": "0"}
        )
        == 5
    )
    metrics.places({}, {})
    assert (
        metrics.registry.get_sample_value(
            "aicache_worker_lag", {"processor": "trends", "topic": "usage", "partition": "0"}
        )
        is None
    )


def test_a_place_that_stands_still_while_records_wait_is_stuck() -> None:
    watchdog = Watchdog(stuck_ms=100)
    assert watchdog.look({PLACE: 5}, {PLACE: 9}, 0) is None
    assert watchdog.look({PLACE: 5}, {PLACE: 9}, 99) is None
    assert watchdog.look({PLACE: 5}, {PLACE: 20}, 100) == "usage partition 0 stands still at 5 while its end is at 20"


@pytest.mark.parametrize(
    "looks",
    [
        [({PLACE: 5}, {PLACE: 9}), ({PLACE: 6}, {PLACE: 9}), ({PLACE: 7}, {PLACE: 9})],
        [({PLACE: 9}, {PLACE: 9}), ({PLACE: 9}, {PLACE: 9}), ({PLACE: 9}, {PLACE: 10})],
        [({PLACE: 5}, {PLACE: 9}), ({}, {}), ({PLACE: 5}, {PLACE: 9})],
        [({PLACE: 5}, {}), ({PLACE: 5}, {}), ({PLACE: 5}, {})],
    ],
    ids=["moves", "idle", "given up and back", "end not known"],
)
def test_what_moves_is_idle_or_was_away_is_not_stuck(looks: list[tuple[dict, dict]]) -> None:
    watchdog = Watchdog(stuck_ms=100)
    assert [watchdog.look(*look, now_ms=number * 99) for number, look in enumerate(looks)] == [None] * 3


def test_a_worker_that_takes_its_places_in_turn_is_not_stuck_but_one_place_may_not_wait_for_ever() -> None:
    watchdog, ends, other = Watchdog(stuck_ms=100), {PLACE: 9, ("usage", 1): 9_999}, ("usage", 1)
    looks = [watchdog.look({PLACE: 5, other: number}, ends, now_ms=number * 50) for number in range(21)]
    assert looks[:20] == [None] * 20
    assert looks[20] == "usage partition 0 stands still at 5 while its end is at 9"


def test_a_log_line_is_one_json_object() -> None:
    record = logging.LogRecord("aicache.runtime", logging.INFO, "", 0, "fenced", (), None)
    record.fields = {"partition": 3}
    told = json.loads(JsonLines().format(record))
    assert (told["event"], told["partition"], told["level"]) == ("fenced", 3, "info")
