import pytest

from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.sealing import SEALED_EXTRA_BYTES, EpochKey, seal
from aicache.privacy.statements import digest

KEY = EpochKey.generate()
INFO = digest("share", bytes(32), 1, bytes(32))


def test_what_is_sealed_opens_with_the_key_and_its_stored_form() -> None:
    for plaintext in (b"", b"x", bytes(4128)):
        sealed = seal(KEY.mlkem_public, KEY.x25519_public, INFO, plaintext)
        assert len(sealed) == len(plaintext) + SEALED_EXTRA_BYTES
        assert KEY.open(sealed, INFO) == plaintext
        restored = EpochKey.from_bytes(KEY.to_bytes())
        assert restored.open(sealed, INFO) == plaintext
        assert restored.key_id == KEY.key_id == digest("epoch-key", KEY.mlkem_public, KEY.x25519_public)


def test_nothing_opens_for_another_round_member_sender_or_key_or_when_altered() -> None:
    sealed = seal(KEY.mlkem_public, KEY.x25519_public, INFO, b"share")
    others = [
        digest("share", b"1" * 32, 1, bytes(32)),
        digest("share", bytes(32), 2, bytes(32)),
        digest("share", bytes(32), 1, b"1" * 32),
    ]
    for info in [*others, b""]:
        with pytest.raises(RemoteError) as caught:
            KEY.open(sealed, info)
        assert caught.value.reason == "unsealing"
    with pytest.raises(RemoteError):
        EpochKey.generate().open(sealed, INFO)
    flipped = [
        sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in (0, 1087, 1088, 1119, 1120, len(sealed) - 1)
    ]
    for bad in [*flipped, b"", sealed[:-1], sealed[:100], sealed + b"x"]:
        with pytest.raises(RemoteError):
            KEY.open(bad, INFO)


def test_each_of_the_two_parts_is_needed() -> None:
    """A key with only one part right opens nothing."""
    other = EpochKey.generate()
    sealed = seal(KEY.mlkem_public, KEY.x25519_public, INFO, b"share")
    mixed = [KEY.to_bytes()[:64] + other.to_bytes()[64:], other.to_bytes()[:64] + KEY.to_bytes()[64:]]
    for data in mixed:
        with pytest.raises(RemoteError):
            EpochKey.from_bytes(data).open(sealed, INFO)


def test_sealing_twice_gives_different_bytes() -> None:
    assert seal(KEY.mlkem_public, KEY.x25519_public, INFO, b"x") != seal(
        KEY.mlkem_public, KEY.x25519_public, INFO, b"x"
    )


def test_bad_keys_are_refused_and_secrets_not_shown() -> None:
    for mlkem, x25519 in ((b"", KEY.x25519_public), (KEY.mlkem_public, b""), (b"\xff" * 1184, KEY.x25519_public)):
        with pytest.raises(RemoteError) as caught:
            seal(mlkem, x25519, INFO, b"x")
        assert caught.value.reason == "bad-epoch-key"
    for data in (b"", bytes(95), bytes(97)):
        with pytest.raises(LocalError) as local:
            EpochKey.from_bytes(data)
        assert local.value.got == len(data)
    assert KEY.to_bytes().hex()[:16] not in repr(KEY)
    assert repr(KEY) == f"EpochKey({KEY.key_id.hex()[:8]})"
