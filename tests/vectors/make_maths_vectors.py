"""Writes mask.json, share.json, quantize.json, statement.json and seal.json beside itself, from the reference in plain integers.

They are written once and then stand: a change of them is a change of the protocol. Everything comes from fixed seeds; only sealed
texts are fresh each time, since HPKE draws its own keys.
"""

import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).parents[1]))

from aicache.privacy import sealing
from support import naive

HERE = Path(__file__).parent
SETS = {"n10k": (1 << 15, 1 << 32), "n60k": (1 << 16, 1 << 31)}


def seed(label: str) -> bytes:
    return hashlib.sha256(b"vector " + label.encode()).digest()


def words(label: str, count: int, below: int) -> list[int]:
    return [value % below for value in naive.words(naive.keystream(seed(label), 8 * count), 8)]


def write(name: str, about: str, cases: list[dict]) -> None:
    body = ",\n".join(json.dumps(case) for case in cases)
    (HERE / name).write_text(f'{{"about": {json.dumps(about)},\n"cases": [\n{body}\n]}}\n')


def mask_cases() -> list[dict]:
    cases = []
    rho = seed("rho")
    for name, (delta, bound) in SETS.items():
        for label, length in (("one", 1), ("two-blocks", 2049)):
            message = [value - bound + 1 for value in words(f"{name} {label}", length, 2 * bound - 1)]
            message[0] = bound - 1
            key_seed, error_seed = seed(f"key {name} {label}"), seed(f"error {name} {label}")
            key = naive.gaussian(key_seed, naive.N)
            packed = naive.encrypt(message, key, rho, delta, error_seed)
            cases.append(
                {
                    "case": f"encrypt-{name}-{label}",
                    "parameters": name,
                    "rho": rho.hex(),
                    "key_seed": key_seed.hex(),
                    "error_seed": error_seed.hex(),
                    "message": message,
                    "key_start": key[:16],
                    "public_element_start": naive.public_elements(rho, 1)[0][:4],
                    "ciphertext_start": packed[:48].hex(),
                    "ciphertext_sha256": hashlib.sha256(packed).hexdigest(),
                }
            )
    return cases


def open_cases() -> list[dict]:
    rho, length, senders = seed("rho"), 5, 3
    delta = SETS["n10k"][0]
    keys = [naive.gaussian(seed(f"open key {i}"), naive.N) for i in range(senders)]
    messages = [[value - 500 for value in words(f"open {i}", length, 1001)] for i in range(senders)]
    packed = [
        naive.encrypt(m, k, rho, delta, seed(f"open error {i}"))
        for i, (m, k) in enumerate(zip(messages, keys, strict=True))
    ]
    total = naive.add(packed)
    key_sum = [sum(column) for column in zip(*keys, strict=True)]
    base = {
        "parameters": "n10k",
        "rho": rho.hex(),
        "length": length,
        "senders": senders,
        "key_seeds": [seed(f"open key {i}").hex() for i in range(senders)],
        "key_off": {},
        "total": b"".join(value.to_bytes(6, "little") for value in total).hex(),
    }
    opened = naive.open_sum(total, key_sum, senders, length, rho, delta)
    assert opened == [sum(column) for column in zip(*messages, strict=True)]
    good = "open-three-senders"  # the others are like it but for what they name
    remainder = {"error": "RemoteError", "reason": "remainder"}
    flipped = b"".join(
        ((value + delta // 2 * (i == 9)) % naive.Q).to_bytes(6, "little") for i, value in enumerate(total)
    ).hex()
    return [
        {"case": good, **base, "message": opened},
        {"case": "bad_one-key-missing", "like": good, "key_seeds": base["key_seeds"][:2], **remainder},
        {"case": "bad_key-off-by-one", "like": good, "key_off": {"7": 1}, **remainder},
        {"case": "bad_key-sum-beyond-the-bound", "like": good, "key_off": {"0": 30_000}, **remainder},
        {"case": "bad_another-round", "like": good, "rho": seed("another").hex(), **remainder},
        {"case": "bad_half-a-step-in-the-padding", "like": good, "total": flipped, **remainder},
        {
            "case": "bad_too-few-bytes",
            **base,
            "total": base["total"][:-12],
            "error": "RemoteError",
            "reason": "ciphertext-size",
        },
        {"case": "bad_no-senders", "like": good, "senders": 0, "error": "LocalError"},
        {"case": "bad_too-many-senders", "like": good, "senders": 10_001, "error": "LocalError"},
    ]


def share_cases() -> list[dict]:
    cases = []
    secret = [value - naive.P // 2 for value in words("secret", 12, naive.P)]
    for threshold, members in ((1, 1), (1, 3), (2, 3), (3, 5), (4, 7)):
        seeds = [seed(f"share {threshold} {members} {i}") for i in range(threshold - 1)]
        shares = naive.split(secret, threshold, members, seeds)
        encoded = seeds + [b"".join(v.to_bytes(2, "little") for v in share) for share in shares[threshold - 1 :]]
        cases.append(
            {
                "case": f"split-{threshold}-of-{members}",
                "secret": secret,
                "threshold": threshold,
                "members": members,
                "seeds": [each.hex() for each in seeds],
                "encoded": [each.hex() for each in encoded],
                "residues": shares,
            }
        )
    skipping = next(
        s for s in (seed(f"skip {i}") for i in range(10_000)) if max(naive.words(naive.keystream(s, 64), 2)) >= naive.P
    )
    cases.append({"case": "expand-skips-a-word", "seed": skipping.hex(), "expanded": naive.expand_seed(skipping, 32)})
    good = {"size": 12, "error": "RemoteError", "reason": "bad-share"}
    cases += [
        {"case": "bad_share-too-short", "encoded_share": "00" * 23, **good},
        {"case": "bad_share-too-long", "encoded_share": "00" * 25, **good},
        {"case": "bad_share-empty", "encoded_share": "", **good},
        {
            "case": "bad_share-has-a-word-that-is-p",
            "encoded_share": naive.P.to_bytes(2, "little").hex() + "00" * 22,
            **good,
        },
        {
            "case": "bad_secret-beyond-the-field",
            "secret": [32_761],
            "threshold": 2,
            "members": 3,
            "error": "LocalError",
        },
        {"case": "bad_threshold-above-members", "secret": [1], "threshold": 4, "members": 3, "error": "LocalError"},
        {"case": "bad_threshold-zero", "secret": [1], "threshold": 0, "members": 3, "error": "LocalError"},
    ]
    return cases


def quantize_cases() -> list[dict]:
    cases = []
    for label, length, scale, small in (
        ("small", 8, 100.0, 0.3),
        ("half-steps", 64, 8.0, 0.0625),
        ("long", 300, 1000.0, 0.05),
    ):
        if label == "half-steps":
            vector = [small] * length
        else:
            vector = [(value / 2**32 - 0.5) * 2 * small for value in words(f"quantize {label}", length, 2**32)]
        entropy = seed(f"quantize {label}")
        cases.append(
            {
                "case": f"round-{label}",
                "vector": vector,
                "clip": 1.0,
                "scale": scale,
                "seed": entropy.hex(),
                "integers": naive.quantize(vector, 1.0, scale, entropy),
            }
        )
    bad = {"vector": ["0.5"], "clip": 1.0, "scale": 10.0, "seed": seed("bad").hex(), "error": "LocalError"}
    cases += [
        {"case": "bad_not-a-number", **bad, "vector": ["nan"]},
        {"case": "bad_infinite", **bad, "vector": ["0.1", "-inf"]},
        {"case": "bad_empty", **bad, "vector": []},
        {"case": "bad_clip-zero", **bad, "clip": 0.0},
        {"case": "bad_scale-negative", **bad, "scale": -1.0},
        {"case": "bad_scale-huge", **bad, "scale": 1e12},
    ]
    return cases


def statement_cases() -> list[dict]:
    key = Ed25519PrivateKey.from_private_bytes(seed("identity"))
    public = key.public_key().public_bytes_raw()
    rho, sender = seed("rho"), seed("sender")

    def encode(*fields: bytes | str | int) -> bytes:
        bodies = [
            f.to_bytes(8, "big", signed=True) if isinstance(f, int) else f.encode() if isinstance(f, str) else f
            for f in fields
        ]
        return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)

    def hashed(*fields: bytes | str | int) -> str:
        return hashlib.sha256(encode(*fields)).hexdigest()

    said = ["Vote", "prod", "tags", "round-1", rho.hex(), bytes(32).hex(), [3, seed("manifest").hex()]]
    message = b"aicache/statement/1" + encode("Vote", "prod", "tags", "round-1", rho, bytes(32), 3, seed("manifest"))
    signature = key.sign(message)
    verify = {"public_key": public.hex(), "statement": message.hex(), "signature": signature.hex()}
    bad = {"error": "RemoteError", "reason": "bad-signature"}
    return [
        {
            "case": "digest-of-mixed-fields",
            "label": "share",
            "fields": [rho.hex(), 3, sender.hex()],
            "digest": hashed("aicache/share", rho, 3, sender),
        },
        {"case": "digest-of-nothing", "label": "x", "fields": [], "digest": hashed("aicache/x")},
        {"case": "digest-of-a-negative-number", "label": "x", "fields": [-1], "digest": hashed("aicache/x", -1)},
        {
            "case": "record-digest",
            "record_label": "manifest",
            "fingerprint": "0102030405060708",
            "body": "ff00",
            "digest": hashed("aicache/manifest", bytes(range(1, 9)), b"\xff\x00"),
        },
        {"case": "client-id", "client_key": public.hex(), "digest": hashed("aicache/client", public)},
        {
            "case": "member-sender-id",
            "member_key": public.hex(),
            "group": 2,
            "digest": hashed("aicache/member", public, 2),
        },
        {
            "case": "ciphertext-digest",
            "rho": rho.hex(),
            "sender": sender.hex(),
            "ciphertext": "00010203",
            "digest": hashlib.sha256(encode("aicache/ciphertext", rho, sender) + bytes(range(4))).hexdigest(),
        },
        {"case": "statement", "said": said, "private_key": seed("identity").hex(), **verify},
        {
            "case": "bad_signature-altered",
            **verify,
            "signature": (bytes([signature[0] ^ 1]) + signature[1:]).hex(),
            **bad,
        },
        {"case": "bad_signature-truncated", **verify, "signature": signature[:-1].hex(), **bad},
        {"case": "bad_statement-altered", **verify, "statement": (message[:-1] + b"\x00").hex(), **bad},
        {
            "case": "bad_another-key",
            **verify,
            "public_key": Ed25519PrivateKey.from_private_bytes(seed("other")).public_key().public_bytes_raw().hex(),
            **bad,
        },
        {"case": "bad_key-too-short", **verify, "public_key": public[:-1].hex(), **bad},
    ]


def seal_cases() -> list[dict]:
    secret = seed("mlkem 0") + seed("mlkem 1") + seed("x25519")
    key = sealing.EpochKey.from_bytes(secret)
    info, plaintext = seed("info"), b"share" + seed("digest")
    sealed = sealing.seal(key.mlkem_public, key.x25519_public, info, plaintext)
    parts = {"secret": secret.hex(), "mlkem_public": key.mlkem_public.hex(), "x25519_public": key.x25519_public.hex()}
    case = {"secret": secret.hex(), "info": info.hex(), "sealed": sealed.hex()}
    bad = {"error": "RemoteError", "reason": "unsealing"}
    return [
        {"case": "key", **parts, "key_id": key.key_id.hex()},
        {"case": "open", **case, "plaintext": plaintext.hex()},
        {"case": "bad_info", **case, "info": seed("another info").hex(), **bad},
        {"case": "bad_mlkem-part-altered", **case, "sealed": (bytes([sealed[0] ^ 1]) + sealed[1:]).hex(), **bad},
        {
            "case": "bad_x25519-part-altered",
            **case,
            "sealed": (sealed[:1088] + bytes([sealed[1088] ^ 1]) + sealed[1089:]).hex(),
            **bad,
        },
        {"case": "bad_tag-altered", **case, "sealed": (sealed[:-1] + bytes([sealed[-1] ^ 1])).hex(), **bad},
        {"case": "bad_truncated", **case, "sealed": sealed[:1119].hex(), **bad},
        {"case": "bad_another-key", **case, "secret": (secret[:64] + seed("other")).hex(), **bad},
    ]


if __name__ == "__main__":
    write(
        "mask.json",
        "c = a·s + Δ·x + e modulo q; each sum of ciphertexts opens with the sum of keys (key_off is added to it).",
        mask_cases() + open_cases(),
    )
    write("share.json", "Shamir over p = 65521; the first threshold − 1 shares are seeds.", share_cases())
    write("quantize.json", "Scaling and conditional stochastic rounding of vectors within the clip.", quantize_cases())
    write(
        "statement.json",
        "Digests, and what signatures cover; fields in hex are bytes, `said` is a statement's parts in order.",
        statement_cases(),
    )
    write(
        "seal.json",
        "HPKE MLKEM768-X25519, HKDF-SHA256, AES-128-GCM; secret = ML-KEM seed, X25519 scalar.",
        seal_cases(),
    )
