"""A member's epoch keys: made, announced, and erased so that the log's sealed shares become dead bytes.

Boundary: the member's store inside the caller's transaction; the clock comes as an argument.
"""

from aicache.privacy.entropy import ByteSource
from aicache.privacy.sealing import EpochKey
from aicache.schemas.records import CommitteeMember
from aicache.streams.committee.core import Core
from aicache.streams.committee.voting import Voter

STORAGE_KEY_BYTES = 16
LOSS_STEP = 1_000


def new_epoch(core: Core, now_ms: int, entropy: ByteSource, step: int = 1) -> int:
    """Make the next epoch key and announce it (inside the caller's transaction).

    Args:
        core: the member.
        now_ms: Unix milliseconds, from when the key is valid.
        entropy: for the key under which opened shares are stored.
        step: how far the number rises; more than one where numbers may have been used that this store does not know.

    Returns:
        The epoch's number.
    """
    store = core.store
    row = store.one("SELECT max(epoch) FROM epochs")
    epoch = 1 if row[0] is None else int(row[0]) + step
    key = EpochKey.generate()
    until_ms = now_ms + core.limits.epoch_ms + core.limits.lasting_ms
    store.run(
        "INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, 0)",
        epoch,
        key.key_id,
        key.to_bytes(),
        entropy(STORAGE_KEY_BYTES),
        now_ms,
        until_ms,
    )
    _announce(core, epoch, key, now_ms, until_ms, retired=False)
    return epoch


def _announce(core: Core, epoch: int, key: EpochKey, from_ms: int, until_ms: int, *, retired: bool) -> None:
    record = CommitteeMember(
        deployment=core.deployment,
        member=core.number,
        identity_key=core.identity,
        epoch=epoch,
        epoch_key_id=key.key_id,
        mlkem_key=key.mlkem_public,
        x25519_key=key.x25519_public,
        valid_from_ms=from_ms,
        valid_until_ms=until_ms,
        retired=retired,
        signature=b"",
    )
    core.say("aicache.committee", str(core.number).encode(), record)


def retire(core: Core, now_ms: int) -> None:
    """Announce that this member is gone, and erase all its keys."""
    epoch, _, _ = core.current_epoch()
    key, _ = core.epoch_key(epoch)
    _announce(core, epoch, key, now_ms, now_ms, retired=True)
    core.store.run("UPDATE epochs SET secret = NULL, storage_key = NULL, erased = 1")
    core.store.set_meta("retired", 1)
    core.forget_epoch(epoch)


def erase_old_epochs(core: Core, voter: Voter, now_ms: int) -> bool:
    """Erase the keys before the newest that no open round needs, and those whose time is over; whether there was one."""
    erased = False
    newest, _, _ = core.current_epoch()
    sql = "SELECT epoch, valid_until_ms FROM epochs WHERE erased = 0 AND epoch < ?"
    for epoch, until_ms in core.store.all(sql, newest):
        using = [current for current in core.live_rounds() if current.epoch == epoch]
        if using and now_ms <= until_ms:
            continue
        for current in using:
            voter.give_up(current)
        sql = "UPDATE epochs SET secret = NULL, storage_key = NULL, erased = 1 WHERE epoch = ?"
        core.store.run(sql, epoch)
        core.forget_epoch(epoch)
        erased = True
    return erased
