"""Signals of the client: what is the same for everybody with the same fault, and that nothing of one's own leaves."""

import asyncio
import contextlib
import json
import logging
import secrets
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aicache.privacy.anonymize import check_item
from aicache.privacy.errors import LocalError
from aicache.producers.signals import Asgi, CrashHandler, Durations, signature, watch_crashes
from aicache.producers.signals.advisories import Finding, match, pins
from aicache.producers.signals.hooks import TOLD_MAX, CrashTeller
from aicache.producers.signals.templates import Templates, template_item
from aicache.producers.usage import Rules, make_event

SALT = b"deployment"
PUBLIC = frozenset({"numpy"})


class Told:
    """Takes events as a client does: each goes through what refuses anything that is not public."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, kind: str, items: list[str], **more: Any) -> None:
        self.events.append(make_event(kind, items, time_s=1_700_000_000, rules=Rules(), **more))


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def own_code(name: str, body: str, message: str = "") -> Callable[[], object]:
    """A function of that name in a module and file of that name."""
    scope: dict[str, Any] = {"__name__": name, "message": message}
    exec(compile(f"def {name}():\n{body}", f"/home/{name}/{name}.py", "exec"), scope)
    return scope[name]  # type: ignore[no-any-return]


RESHAPE = "    import numpy\n    return numpy.reshape([1, 2, 3], (2, 2))"


def test_the_same_fault_in_public_code_has_the_same_signature_whoever_calls_it() -> None:
    first = signature(caught(own_code("alpha", RESHAPE)), salt=SALT, public=PUBLIC)
    second = signature(caught(own_code("beta", "    x = 1\n\n" + RESHAPE)), salt=SALT, public=PUBLIC)
    assert first == second
    assert first.release.startswith("pypi:numpy@")
    assert check_item(first.item)


def test_another_fault_another_salt_or_a_package_that_is_not_public_has_another_signature() -> None:
    reshape = caught(own_code("alpha", RESHAPE))
    other = caught(own_code("alpha", "    import numpy\n    return numpy.stack([])"))
    seen = signature(reshape, salt=SALT, public=PUBLIC)
    assert signature(other, salt=SALT, public=PUBLIC).item != seen.item
    assert signature(reshape, salt=b"other", public=PUBLIC).item != seen.item
    private = signature(reshape, salt=SALT, public=())
    assert private.item != seen.item
    assert private.release == ""


def test_own_frames_are_one_mark_however_many_and_whatever_their_names() -> None:
    deep = own_code(
        "deep", "    def inner(n):\n        return inner(n - 1) if n else int(message)\n    return inner(40)", "x"
    )
    flat = own_code("flat", "    return int(message)", "y")
    assert signature(caught(deep), salt=SALT, public=()) == signature(caught(flat), salt=SALT, public=())


def test_own_types_of_exceptions_are_one_mark_and_causes_count() -> None:
    raising = "    class {0}(Exception): pass\n    raise {0}(message)"
    a = caught(own_code("a", raising.format("CompanyError"), "secret"))
    b = caught(own_code("b", raising.format("OtherError"), "text"))
    assert signature(a, salt=SALT, public=()) == signature(b, salt=SALT, public=())
    chained = caught(
        own_code("c", "    try:\n        1 / 0\n    except Exception as e:\n        raise KeyError(message) from e")
    )
    plain = caught(own_code("c", "    raise KeyError(message)"))
    assert signature(chained, salt=SALT, public=()) != signature(plain, salt=SALT, public=())


def test_a_module_that_calls_itself_main_is_not_public() -> None:
    main, own = own_code("__main__", "    raise ValueError"), own_code("mine", "    raise ValueError")
    assert signature(caught(main), salt=SALT, public=()) == signature(caught(own), salt=SALT, public=())


def test_no_canary_of_paths_names_and_messages_leaves() -> None:
    told = Told()
    handler = CrashHandler(told, salt=SALT, public=PUBLIC)
    teller = handler.teller
    templates = Templates(salt=SALT, known={template_item("connection to <address> lost", SALT)})
    canaries = [f"canary{secrets.token_hex(6)}" for _ in range(2_000)]
    for number, canary in enumerate(canaries):
        teller._told = 0
        error = caught(own_code(canary, RESHAPE if number % 2 else f"    raise KeyError('{canary}', message)", canary))
        error.add_note(canary)
        record = logging.LogRecord(
            canary, logging.ERROR, f"/{canary}", 1, f"{canary} %s", (canary,), (type(error), error, error.__traceback__)
        )
        handler.handle(record)
        item = templates.learn(f"user {canary} opened /home/{canary}/x.py at 10.0.0.{number % 250}")
        assert item is None
    text = repr(told.events)
    assert len(told.events) == len(canaries)
    assert teller.lost == 0
    assert not [canary for canary in canaries if canary in text]
    assert "numpy" in text


def test_two_lines_watch_a_program_and_its_threads_and_can_be_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    told, before = Told(), []
    monkeypatch.setattr(sys, "excepthook", lambda *args: before.append(args))
    monkeypatch.setattr(threading, "excepthook", lambda args: before.append(args))
    old = sys.excepthook
    undo = watch_crashes(told, salt=SALT, public=PUBLIC)
    error = caught(own_code("mine", "    raise ValueError"))
    sys.excepthook(type(error), error, error.__traceback__)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    thread = threading.Thread(target=own_code("mine", "    raise ValueError"))
    thread.start()
    thread.join()
    assert len(told.events) == 2
    assert len(before) == 3
    undo()
    assert sys.excepthook is old


def test_a_hook_that_cannot_tell_raises_nothing_and_counts_what_is_lost() -> None:
    def full(*_: Any, **__: Any) -> None:
        raise LocalError("the queue is full", got=1, needed=0)

    teller = CrashTeller(full, salt=SALT, public=PUBLIC)
    teller(ValueError())
    assert teller.lost == 1


def test_a_loop_of_crashes_is_told_a_bounded_number_of_times_a_minute() -> None:
    told, now = Told(), [0.0]
    teller = CrashTeller(told, salt=SALT, public=PUBLIC, clock=lambda: now[0])
    for _ in range(1_000):
        teller(ValueError())
    assert len(told.events) == TOLD_MAX
    assert teller.lost == 1_000 - TOLD_MAX
    now[0] = 60.0
    teller(ValueError())
    assert len(told.events) == TOLD_MAX + 1


def test_an_asgi_application_tells_its_crashes_and_durations_and_nothing_of_a_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/secret/crash":
            raise ValueError("secret")

    async def serve() -> None:
        for path in ("/secret/page", "/secret/crash"):
            with contextlib.suppress(ValueError):
                await watched({"type": "http", "path": path}, None, None)  # type: ignore[arg-type]
        await watched({"type": "lifespan", "path": ""}, None, None)  # type: ignore[arg-type]

    told = Told()
    watched = Asgi(app, told, operation="op:serve", salt=SALT, public=PUBLIC)
    asyncio.run(serve())
    watched.durations.flush()
    assert [(event.kind, event.count) for event in told.events] == [("failure", 1), ("duration", 2)]
    assert "secret" not in repr(told.events)


def test_durations_leave_in_sketches_and_impossible_ones_not_at_all() -> None:
    told = Told()
    durations = Durations(told)
    for _ in range(120):
        durations.add("op:build", 0.5, "pypi:tool@1.2.3")
    for bad in (-1.0, float("nan"), 1e9):
        with pytest.raises(LocalError):
            durations.add("op:build", bad)
    assert [event.count for event in told.events] == [50, 50]
    durations.flush()
    durations.flush()
    assert [event.count for event in told.events] == [50, 50, 20]
    assert told.events[0].release == "pypi:tool@1.2"


def test_only_templates_on_the_public_list_are_told() -> None:
    public = template_item("connection to <address> lost after <number> s", SALT)
    templates = Templates(salt=SALT, known={public})
    lines = [f"connection to 10.0.0.{n}:99 lost after {n} s" for n in range(5)]
    assert {templates.learn(line) for line in lines} == {public}
    assert templates.learn("the secret project failed") is None
    assert templates.unknown == 1


LOCK = """\
# a comment
requests==2.30.0 \\
    --hash=sha256:00
Jinja2[i18n]==3.1.2 ; python_version >= "3.8"
local @ file:///home/me/secret
odd==not-a-version
"""


def advisory(name: str, package: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    affected = {
        "package": {"ecosystem": "PyPI", "name": package},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
    }
    return {"id": name, "affected": [affected], **more}


def test_advisories_that_affect_pinned_versions_are_found_and_only_they() -> None:
    records = [
        advisory("GHSA-aaaa-bbbb-cccc", "Requests", {"introduced": "0"}, {"fixed": "2.31.0"}),
        advisory("GHSA-dddd-eeee-ffff", "requests", {"introduced": "0"}, {"fixed": "2.30.0"}),
        advisory("PYSEC-2024-1", "jinja2", {"introduced": "3.0"}, {"last_affected": "3.1.2"}),
        advisory("PYSEC-2024-2", "jinja2", {"introduced": "3.1.3"}),
        advisory("PYSEC-2024-3", "jinja2", {"introduced": "0"}, withdrawn="2024-01-01T00:00:00Z"),
        advisory("PYSEC-2024-4", "odd", {"introduced": "0"}),
        advisory("PYSEC-2024-5", "absent", {"introduced": "0"}),
        {"id": "CVE-2024-6", "affected": [{"package": {"ecosystem": "PyPI", "name": "jinja2"}, "versions": ["3.1.2"]}]},
        {"id": "../odd id", "affected": []},
        {},
    ]
    found = match(pins(LOCK), json.loads(json.dumps(records)))
    assert found == [
        Finding("rule:cve-2024-6", "pypi:jinja2@3.1.2"),
        Finding("rule:ghsa-aaaa-bbbb-cccc", "pypi:requests@2.30.0"),
        Finding("rule:pysec-2024-1", "pypi:jinja2@3.1.2"),
    ]
    assert [make_event("finding", [one.item], time_s=0, rules=Rules(), release=one.release).items for one in found]
