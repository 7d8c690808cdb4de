"""What `aicache committee init|run|rotate|status` do, and the ledgers that members hand on.

Boundary: files in the member's folder, the clock, the system's entropy; Kafka only in `run`.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aicache.privacy import parameters
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings
from aicache.streams.committee import ledger
from aicache.streams.committee.core import Core
from aicache.streams.committee.epochs import new_epoch
from aicache.streams.committee.limits import Limits
from aicache.streams.committee.member import Member
from aicache.streams.committee.rules import MEMBERS_MAX
from aicache.streams.committee.store import FILE, Lock, Store, locked

KEY_BYTES = 32
ROTATE_REQUEST = "rotate.request"
REFUSALS_SHOWN = 20


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def init(
    folder: Path,
    member: int,
    *,
    deployment: str,
    operator_key: bytes,
    limits: Limits | None = None,
    pins: Mapping[int, bytes] | None = None,
    replaces: bool = False,
) -> dict[str, Any]:
    """Make a member: its identity, its first epoch key, its empty ledger.

    Args:
        folder: its own; made where it does not exist, readable by nobody else.
        member: its number, 1 … m.
        deployment: the only one that it will serve.
        operator_key: the operator's public key, with which enrolments are signed.
        limits: written to `limits.json`; None: the defaults.
        pins: identities of other members, by number, as their owners gave them; a roster with others is refused.
        replaces: it takes over the number of a member that is gone; it takes part only after `import_ledgers`.

    Returns:
        `{"member", "identity", "epoch", "epoch_key_id"}`, keys in hexadecimal: what clients and other members pin.

    Raises:
        LocalError: the folder holds a member already, or an argument cannot be.
    """
    if not 1 <= member <= MEMBERS_MAX:
        raise LocalError(
            f"a member's number is 1 … {MEMBERS_MAX}, got {member}", got=member, needed=f"1 … {MEMBERS_MAX}"
        )
    if len(operator_key) != KEY_BYTES:
        raise LocalError("the operator's public key has 32 bytes", got=len(operator_key), needed=KEY_BYTES)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    limits = limits or Limits()
    lock = Lock(folder)
    try:
        store = Store(folder / FILE, create=True)
        try:
            core = initialise(
                store,
                member,
                deployment=deployment,
                operator_key=operator_key,
                limits=limits,
                pins=pins or {},
                replaces=replaces,
                now_ms=_now_ms(),
                entropy=os.urandom,
            )
            limits.write(folder)
            return _who(core)
        except BaseException:
            (folder / FILE).unlink()
            raise
        finally:
            store.close()
    finally:
        lock.release()


def initialise(
    store: Store,
    member: int,
    *,
    deployment: str,
    operator_key: bytes,
    limits: Limits,
    pins: Mapping[int, bytes],
    replaces: bool,
    now_ms: int,
    entropy: ByteSource,
) -> Core:
    """Write a new member into an empty store; the arguments are those of `init`."""
    with store.transaction():
        store.set_meta("member", member)
        store.set_meta("deployment", deployment)
        store.set_meta("operator_key", operator_key)
        store.set_meta("identity", entropy(KEY_BYTES))
        store.set_meta("pins", json.dumps({str(number): key.hex() for number, key in pins.items()}))
        if replaces:
            store.set_meta("replaces", 1)
            store.set_meta("needs_ledgers", 1)
        core = Core(store, limits)
        new_epoch(core, now_ms, entropy)
    return core


def _who(core: Core) -> dict[str, Any]:
    if core.store.meta("retired"):
        return {"member": core.number, "deployment": core.deployment, "identity": core.identity.hex(), "retired": True}
    epoch, key_id, until_ms = core.current_epoch()
    return {
        "member": core.number,
        "deployment": core.deployment,
        "identity": core.identity.hex(),
        "epoch": epoch,
        "epoch_key_id": key_id.hex(),
        "valid_until_ms": until_ms,
    }


def run(
    settings: KafkaSettings,
    folder: Path,
    *,
    stop: Callable[[], bool] | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Run a member until it is told to stop (SIGTERM or SIGINT, where this is the main thread).

    It takes part when it has read all that stood in the log.

    Args:
        settings: how to reach Kafka.
        folder: the member's.
        stop: asked between batches; None: signals only.
        on_ready: called then; None: it prints `ready committee-N`.

    Raises:
        LocalError: another process runs this member, the store is stale, the disk is full, or the settings do not fit.
    """
    from aicache.streams.committee.kafka import MemberProcess

    stopped = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
    lock = Lock(folder)
    try:
        store = Store(folder / FILE)
        try:
            process = MemberProcess(settings, folder, store)

            def ready() -> None:
                sys.stdout.write(f"ready committee-{process.member.core.number}\n")
                sys.stdout.flush()

            process.run(lambda: stopped.is_set() or (stop is not None and stop()), on_ready or ready)
        finally:
            store.close()
    finally:
        lock.release()


def rotate(folder: Path, *, after_loss: bool = False) -> dict[str, Any]:
    """Make the next epoch key; a running member is asked to, and does it within a second.

    Args:
        folder: the member's; `run` publishes the key at its next start where none runs now.
        after_loss: the store was restored from a copy: give up all open rounds, erase all old keys, and take part only
            after `import_ledgers`, as what clients spent since the copy is not in it. The member must not run.

    Returns:
        Who the member is now, or `{"requested": True}` where the running member was asked.
    """
    try:
        lock = Lock(folder)
    except LocalError:
        if after_loss:
            raise
        (folder / ROTATE_REQUEST).touch()
        return {"requested": True}
    try:
        store = Store(folder / FILE)
        try:
            member = Member(store, Limits.load(folder))
            if after_loss:
                member.lose_history(_now_ms(), os.urandom)
            else:
                member.rotate(_now_ms(), os.urandom)
            return _who(member.core)
        finally:
            store.close()
    finally:
        lock.release()


def retire(folder: Path) -> dict[str, Any]:
    """End a member for good: its keys are erased now, and its next `run` tells everybody and ends.

    Args:
        folder: the member's, which must not run. Export the ledger before, if another member takes its place.
    """
    lock = Lock(folder)
    try:
        store = Store(folder / FILE)
        try:
            member = Member(store, Limits.load(folder))
            who = _who(member.core)
            member.retire(_now_ms())
            return {**who, "retired": True}
        finally:
            store.close()
    finally:
        lock.release()


def status(folder: Path) -> dict[str, Any]:
    """How the member stands, also while it runs: who it is, its rounds, what it refused and why, what waits to be published."""
    store = Store(folder / FILE, read_only=True)
    try:
        core = Core(store, Limits.load(folder))
        rounds = [
            {
                "round": current.round_id,
                "task": current.proposal.task,
                "number": current.proposal.number,
                "verdict": current.verdict,
                "closed": current.closed,
                "decision": "" if current.decision is None else current.decision.hex(),
                "endorsed": store.one("SELECT count(*) FROM senders WHERE round_id = ?", current.round_id)[0],
                "ends_ms": current.ends_ms,
            }
            for current in core.live_rounds()
        ]
        sql = "SELECT at_ms, round_id, sender, reason, detail FROM refusals ORDER BY id DESC LIMIT ?"
        refusals = [
            {"at_ms": at_ms, "round": round_id, "sender": sender.hex(), "reason": reason, "detail": detail}
            for at_ms, round_id, sender, reason, detail in store.all(sql, REFUSALS_SHOWN)
        ]
        return {
            **_who(core),
            "running": locked(folder),
            "needs_ledgers": bool(store.meta("needs_ledgers")),
            "enrolled": store.one("SELECT count(*) FROM enrolments WHERE revoked = 0")[0],
            "clients_charged": store.one("SELECT count(DISTINCT client) FROM spent")[0],
            "rounds_open": rounds,
            "rounds_over": store.one("SELECT count(*) FROM rounds WHERE over = 1")[0],
            "to_publish": store.one("SELECT count(*) FROM outbox")[0],
            "refused": dict(store.all("SELECT reason, n FROM counts ORDER BY reason")),
            "refusals": refusals,
        }
    finally:
        store.close()


def export_ledger(folder: Path) -> str:
    """The member's ledger as a signed text, for a member that joins; works while the member runs."""
    store = Store(folder / FILE, read_only=True)
    try:
        core = Core(store, Limits.load(folder))
        return ledger.export(
            store, deployment=core.deployment, member=core.number, key=core.identity_key, now_ms=_now_ms()
        )
    finally:
        store.close()


def import_ledgers(folder: Path, texts: Sequence[str], *, roster: Mapping[int, bytes], threshold: int) -> int:
    """Take over what clients have spent, out of the ledgers of k members of the roster before.

    Args:
        folder: of the new member, which must not run.
        texts: what `export_ledger` gave to the members before.
        roster: all identities of the roster before, by number.
        threshold: t of that roster; k follows.

    Returns:
        How many entries were taken. The member takes part from its next start on.
    """
    lock = Lock(folder)
    try:
        store = Store(folder / FILE)
        try:
            with store.transaction():
                taken = ledger.import_all(
                    store,
                    texts,
                    deployment=str(store.meta("deployment")),
                    roster=dict(roster),
                    quorum=parameters.quorum(len(roster), threshold),
                )
                store.run("DELETE FROM meta WHERE name = 'needs_ledgers'")
            return taken
        finally:
            store.close()
    finally:
        lock.release()
