"""Known answers for every deterministic step, and `bad_` cases which have to be refused with the named error."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy import masking, shamir, statements
from aicache.privacy.errors import AicacheError, RemoteError
from aicache.privacy.parameters import by_name
from aicache.privacy.quantize import quantize
from aicache.privacy.sealing import EpochKey, key_id

HERE = Path(__file__).parent


def _cases(name: str) -> list[Any]:
    cases = json.loads((HERE / name).read_text())["cases"]
    assert any(case["case"].startswith("bad_") for case in cases)
    named = {case["case"]: case for case in cases}
    return [pytest.param({**named.get(case.get("like"), {}), **case}, id=case["case"]) for case in cases]


def _expect(case: dict[str, Any], run: Any) -> None:
    """A good case runs; a bad one raises what it names, and the error says what was got or needed."""
    if "error" not in case:
        assert not case["case"].startswith("bad_")
        run()
        return
    with pytest.raises(AicacheError) as caught:
        run()
    assert type(caught.value).__name__ == case["error"]
    if "reason" in case:
        assert isinstance(caught.value, RemoteError)
        assert caught.value.reason == case["reason"]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text)


def _encrypt(case: dict[str, Any]) -> None:
    mask, rho = by_name(case["parameters"]), _bytes(case["rho"])
    key = masking.sample_key(mask, lambda _: _bytes(case["key_seed"]))
    assert key[:16].tolist() == case["key_start"]
    elements = masking.public_elements(rho, 0, 1, mask)[0, :4] & np.uint64(mask.modulus - 1)
    assert elements.tolist() == case["public_element_start"]
    message = np.array(case["message"], np.int64)
    packed = masking.encrypt(message, key, rho, mask, lambda _: _bytes(case["error_seed"]))
    assert packed[:48].hex() == case["ciphertext_start"]
    assert hashlib.sha256(packed).hexdigest() == case["ciphertext_sha256"]


def _open(case: dict[str, Any]) -> None:
    mask = by_name(case["parameters"])
    total = np.zeros(masking.packed_size(case["length"], mask) // 6, np.uint64)
    masking.add_packed(total, _bytes(case["total"]))
    keys = [masking.sample_key(mask, lambda _, seed=seed: _bytes(seed)) for seed in case["key_seeds"]]
    key_sum = np.sum(keys, axis=0)
    for index, off in case["key_off"].items():
        key_sum[int(index)] += off
    opened = masking.open_sum(total, key_sum, case["senders"], case["length"], _bytes(case["rho"]), mask)
    assert opened.tolist() == case["message"]


@pytest.mark.parametrize("case", _cases("mask.json"))
def test_mask_vectors(case: dict[str, Any]) -> None:
    _expect(case, lambda: _open(case) if "total" in case else _encrypt(case))


def _split(case: dict[str, Any]) -> None:
    seeds = iter(case.get("seeds", ["00" * 32] * 64))
    secret, threshold, members = np.array(case["secret"], np.int64), case["threshold"], case["members"]
    encoded = shamir.split(secret, threshold, members, lambda _: _bytes(next(seeds)))
    assert [share.hex() for share in encoded] == case["encoded"]
    residues = [shamir.expand(share, secret.size) for share in encoded]
    assert [share.tolist() for share in residues] == case["residues"]
    last = range(members - threshold + 1, members + 1)
    assert shamir.combine({m: residues[m - 1] for m in last}, threshold).tolist() == case["secret"]


@pytest.mark.parametrize("case", _cases("share.json"))
def test_share_vectors(case: dict[str, Any]) -> None:
    if "seed" in case:
        assert shamir.expand(_bytes(case["seed"]), 32).tolist() == case["expanded"]
    elif "encoded_share" in case:
        _expect(case, lambda: shamir.expand(_bytes(case["encoded_share"]), case["size"]))
    else:
        _expect(case, lambda: _split(case))


@pytest.mark.parametrize("case", _cases("quantize.json"))
def test_quantize_vectors(case: dict[str, Any]) -> None:
    vector = np.array([float(value) for value in case["vector"]], np.float64)

    def run() -> None:
        seed = _bytes(case["seed"])
        integers = quantize(vector, clip=case["clip"], scale=case["scale"], entropy=lambda _: seed)
        assert integers.tolist() == case["integers"]

    _expect(case, run)


def _digest(case: dict[str, Any]) -> bytes:
    if "label" in case:
        fields = [_bytes(field) if isinstance(field, str) else field for field in case["fields"]]
        return statements.digest(case["label"], *fields)
    if "record_label" in case:
        return statements.record_digest(case["record_label"], _bytes(case["fingerprint"]), _bytes(case["body"]))
    if "client_key" in case:
        return statements.client_id(_bytes(case["client_key"]))
    if "member_key" in case:
        return statements.member_sender_id(_bytes(case["member_key"]), case["group"])
    return statements.ciphertext_digest(_bytes(case["rho"]), _bytes(case["sender"]), _bytes(case["ciphertext"]))


def _signature(case: dict[str, Any]) -> None:
    message = _bytes(case["statement"])
    if "said" in case:
        record, deployment, task, round_id, rho, epoch_key_id, (member, manifest) = case["said"]
        said = statements.statement(
            record,
            deployment=deployment,
            task=task,
            round_id=round_id,
            rho=_bytes(rho),
            epoch_key_id=_bytes(epoch_key_id),
            fields=(member, _bytes(manifest)),
        )
        assert said == message
        key = Ed25519PrivateKey.from_private_bytes(_bytes(case["private_key"]))
        assert statements.sign(key, said).hex() == case["signature"]
    statements.verify(_bytes(case["public_key"]), message, _bytes(case["signature"]))


@pytest.mark.parametrize("case", _cases("statement.json"))
def test_statement_vectors(case: dict[str, Any]) -> None:
    if "digest" in case:
        assert _digest(case).hex() == case["digest"]
    else:
        _expect(case, lambda: _signature(case))


@pytest.mark.parametrize("case", _cases("seal.json"))
def test_seal_vectors(case: dict[str, Any]) -> None:
    key = EpochKey.from_bytes(_bytes(case["secret"]))
    if "key_id" in case:
        assert key.mlkem_public.hex() == case["mlkem_public"]
        assert key.x25519_public.hex() == case["x25519_public"]
        assert key.key_id.hex() == key_id(key.mlkem_public, key.x25519_public).hex() == case["key_id"]
        assert key.to_bytes().hex() == case["secret"]
    else:
        _expect(case, lambda: _check_opened(key, case))


def _check_opened(key: EpochKey, case: dict[str, Any]) -> None:
    assert key.open(_bytes(case["sealed"]), _bytes(case["info"])).hex() == case["plaintext"]
