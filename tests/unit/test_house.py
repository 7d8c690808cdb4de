"""The walls of the house: imports go one way, Kafka stays at the edges, and what must be pure is pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("privacy", "schemas", "producers", "streams", "local", "cli")
"""From the ground up: a room imports only from itself and from those before it."""

FOLDERS = {
    "privacy": ROOT / "privacy/aicache/privacy",
    "schemas": ROOT / "schemas/aicache/schemas",
    "producers": ROOT / "producers/aicache/producers",
    "streams": ROOT / "streams/aicache/streams",
    "local": ROOT / "streams/aicache/local",
    "cli": ROOT / "streams/aicache/cli",
}
IMPURE = {"time", "os", "random", "secrets", "asyncio", "socket", "threading", "subprocess", "datetime"}
KAFKA = {"confluent_kafka", "aiokafka", "faust"}
KAFKA_FILES = {"kafka.py", "agents.py", "app.py", "admin.py", "insights.py", "watermarks.py"}
KAFKA_FOLDERS = {"runtime", "reducer", "committee", "local"}


def modules(room: str) -> Iterator[Path]:
    return iter(sorted(FOLDERS[room].rglob("*.py")))


def imported(path: Path) -> Iterator[str]:
    """The full name of every module that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            if node.module == "aicache":
                yield from (f"aicache.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in imported(path)
        if name.startswith("aicache.") and name.split(".")[1] not in allowed
    ]
    assert wrong == []


def test_kafka_libraries_stay_at_the_edges() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for room in ROOMS
        for path in modules(room)
        for name in imported(path)
        if name.split(".")[0] in KAFKA
        and path.name not in KAFKA_FILES
        and not KAFKA_FOLDERS & {*path.relative_to(FOLDERS[room]).parts[:-1], room}
    ]
    assert wrong == []


def test_mathematics_and_logic_take_clock_and_entropy_as_arguments() -> None:
    pure = [*modules("privacy"), *(path for path in modules("streams") if path.name == "logic.py")]
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in pure
        for name in imported(path)
        if name.split(".")[0] in IMPURE or name.startswith("numpy.random")
    ]
    assert wrong == []
    assert len(pure) > 5


def test_nothing_unpickles_and_no_generator_of_numpy_makes_secrets() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in modules(room)
        for name in imported(path)
        if name.split(".")[0] in {"pickle", "shelve", "marshal", "dill", "cloudpickle"}
        or (room in {"privacy", "producers"} and "np.random" in path.read_text())
    ]
    assert wrong == []


def test_the_namespace_package_has_no_init_file_of_its_own() -> None:
    assert not list(ROOT.glob("*/aicache/__init__.py"))
    assert not (ROOT / "docker/__init__.py").exists(), "it would shadow the docker library"
