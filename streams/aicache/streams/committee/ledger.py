"""What each client has spent, kept by the committee: nobody's round opens over a client's budget.

Spending is a sum of Rényi vectors (Mironov 2017) for a client, a purpose and a window. An endorsement reserves, a persisted vote
charges for good, a persisted abort releases; two rounds at a time can so not both pass where only one fits.
Ledgers travel between members as signed files: who joins a committee takes the largest entry of each client out of the ledgers of
k members before it, so at least one honest ledger is among them and spending is never forgotten.
Boundary: reads and writes the member's store inside the caller's transaction; no clock.
"""

import json
from collections.abc import Iterable, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from aicache.privacy.accounting import ORDERS, epsilon_from_rdp
from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.statements import NO_EPOCH_KEY, digest, sign, statement, verify
from aicache.streams.committee.limits import DAY_MS, Limits
from aicache.streams.committee.store import Store

Rdp = NDArray[np.float64]
CACHE_MAX = 4_096
KEPT_MS = 400 * DAY_MS
"""So long after its end a window is remembered: far longer than a round lasts, and than an owner may change the windows' length."""
NO_RHO = bytes(32)


class Ledger:
    """Spending and reservations of all clients.

    Args:
        store: where they stand.
        limits: the owner's budgets.
    """

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._epsilons: dict[tuple[bytes, float], float] = {}

    def spent(self, client: bytes, purpose: str, window_ms: int) -> Rdp:
        """What is gone for good."""
        sql = "SELECT rdp FROM spent WHERE client = ? AND purpose = ? AND window_ms = ?"
        row = self._store.one(sql, client, self._limits.account(purpose), window_ms)
        return np.zeros(len(ORDERS)) if row is None else np.frombuffer(row[0], np.float64)

    def promised(self, client: bytes, purpose: str, window_ms: int) -> Rdp:
        """What endorsements of rounds that are still open hold back."""
        sql = (
            "SELECT rounds.rdp FROM reserved JOIN rounds USING (round_id)"
            " WHERE reserved.client = ? AND rounds.purpose = ? AND rounds.window_ms = ?"
        )
        total = np.zeros(len(ORDERS))
        for (rdp,) in self._store.all(sql, client, self._limits.account(purpose), window_ms):
            total = total + np.frombuffer(rdp, np.float64)
        return total

    def reserve(self, client: bytes, round_id: str, purpose: str, window_ms: int, rdp: Rdp) -> None:
        """Hold the round's cost back.

        Raises:
            RemoteError: `over-budget`, naming the client and what it would come to.
        """
        budget = self._limits.budget(purpose)
        total = self.spent(client, purpose, window_ms) + self.promised(client, purpose, window_ms) + rdp
        epsilon = self._epsilon(total, budget.delta) if budget else float("inf")
        allowed = budget.epsilon if budget else 0.0
        if not epsilon <= allowed:
            raise RemoteError(
                f"client {client.hex()} would come to epsilon {epsilon:.3f} for {purpose}, allowed in this window: {allowed:g}",
                reason="over-budget",
                got=epsilon,
                needed=allowed,
            )
        self._store.run("INSERT OR IGNORE INTO reserved VALUES (?, ?)", client, round_id)

    def _epsilon(self, rdp: Rdp, delta: float) -> float:
        # Most clients of a round have the same history, so the same vector comes again and again.
        key = (rdp.tobytes(), delta)
        if key not in self._epsilons:
            if len(self._epsilons) >= CACHE_MAX:
                self._epsilons.clear()
            self._epsilons[key] = epsilon_from_rdp(rdp, delta)
        return self._epsilons[key]

    def release(self, round_id: str) -> None:
        """The round holds nothing back any more."""
        self._store.run("DELETE FROM reserved WHERE round_id = ?", round_id)

    def charge(self, clients: Iterable[bytes], purpose: str, window_ms: int, rdp: Rdp) -> None:
        """Spend a round's cost for good, for each of these clients."""
        for client in clients:
            total = self.spent(client, purpose, window_ms) + rdp
            self._store.run(
                "INSERT INTO spent VALUES (?, ?, ?, 1, ?)"
                " ON CONFLICT (client, purpose, window_ms) DO UPDATE SET rounds = rounds + 1, rdp = excluded.rdp",
                client,
                self._limits.account(purpose),
                window_ms,
                total.tobytes(),
            )

    def forget(self, now_ms: int) -> int:
        """Delete what was spent in windows that are long over: nothing can be charged there; gives how many entries."""
        gone = 0
        for (purpose,) in self._store.all("SELECT DISTINCT purpose FROM spent"):
            budget = self._limits.budget(purpose)
            length_ms = budget.window_ms if budget is not None else KEPT_MS
            sql = "DELETE FROM spent WHERE purpose = ? AND window_ms <= ?"
            gone += self._store.run(sql, purpose, now_ms - KEPT_MS - length_ms)
        return gone


# ---------------------------------------------------------------- ledgers that travel


def _ledger_statement(deployment: str, member: int, body: str) -> bytes:
    return statement(
        "Ledger",
        deployment=deployment,
        task="",
        round_id="",
        rho=NO_RHO,
        epoch_key_id=NO_EPOCH_KEY,
        fields=(member, digest("ledger", body)),
    )


def export(store: Store, *, deployment: str, member: int, key: Ed25519PrivateKey, now_ms: int) -> str:
    """All that was spent, with what is promised counted as spent, as a signed text."""
    store_rows = store.each("SELECT client, purpose, window_ms, rounds, rdp FROM spent")
    entries: dict[tuple[bytes, str, int], tuple[int, Rdp]] = {
        (client, purpose, window_ms): (rounds, np.frombuffer(rdp, np.float64))
        for client, purpose, window_ms, rounds, rdp in store_rows
    }
    sql = "SELECT r.client, rounds.purpose, rounds.window_ms, rounds.rdp FROM reserved r JOIN rounds USING (round_id)"
    for client, purpose, window_ms, rdp in store.each(sql):
        rounds, total = entries.get((client, purpose, window_ms), (0, np.zeros(len(ORDERS))))
        entries[client, purpose, window_ms] = (rounds + 1, total + np.frombuffer(rdp, np.float64))
    rows = [
        [client.hex(), purpose, window_ms, rounds, [float(value) for value in rdp]]
        for (client, purpose, window_ms), (rounds, rdp) in sorted(entries.items())
    ]
    body = json.dumps(
        {
            "deployment": deployment,
            "member": member,
            "made_ms": now_ms,
            "orders": list(map(float, ORDERS)),
            "rows": rows,
        }
    )
    return json.dumps({"body": body, "signature": sign(key, _ledger_statement(deployment, member, body)).hex()}) + "\n"


def import_all(store: Store, texts: Sequence[str], *, deployment: str, roster: dict[int, bytes], quorum: int) -> int:
    """Take over the largest spending of each client (inside the caller's transaction).

    Args:
        store: the new member's.
        texts: what `export` made, of members before this one.
        deployment: whose ledgers they have to be.
        roster: identities of the members before, by number, as the owner knows them (not as the operator says).
        quorum: k of that roster: so many distinct members have to have signed.

    Returns:
        How many entries were taken.

    Raises:
        RemoteError: a ledger does not verify.
        LocalError: too few of them.
    """
    bodies: dict[int, dict[str, object]] = {}
    for text in texts:
        number, body = _read(text, deployment, roster)
        bodies[number] = body
    if len(bodies) < quorum:
        raise LocalError(
            f"ledgers of {len(bodies)} members are not enough: {quorum} distinct members have to have signed theirs",
            got=sorted(bodies),
            needed=quorum,
        )
    taken = 0
    for body in bodies.values():
        for client, purpose, window_ms, rounds, rdp in body["rows"]:  # type: ignore[attr-defined]
            key = (bytes.fromhex(client), purpose, window_ms)
            row = store.one("SELECT rounds, rdp FROM spent WHERE client = ? AND purpose = ? AND window_ms = ?", *key)
            old_rounds, old = (0, np.zeros(len(ORDERS))) if row is None else (row[0], np.frombuffer(row[1], np.float64))
            largest = np.maximum(old, np.array(rdp, np.float64))
            store.run(
                "INSERT OR REPLACE INTO spent VALUES (?, ?, ?, ?, ?)", *key, max(rounds, old_rounds), largest.tobytes()
            )
            taken += 1
    return taken


def _read(text: str, deployment: str, roster: dict[int, bytes]) -> tuple[int, dict[str, object]]:
    try:
        outer = json.loads(text)
        signature, raw = bytes.fromhex(outer["signature"]), outer["body"]
        body = json.loads(raw)
        number = int(body["member"])
        orders = [float(order) for order in body["orders"]]
    except (ValueError, KeyError, TypeError):
        raise RemoteError("this is not an exported ledger", reason="bad-ledger") from None
    if number not in roster or body["deployment"] != deployment:
        raise RemoteError(
            f"the ledger of member {number} of {body['deployment']!r} is not one of the roster before",
            reason="foreign-ledger",
            got=number,
            needed=sorted(roster),
        )
    if orders != list(map(float, ORDERS)):
        raise RemoteError(
            "the ledger counts at other Rényi orders", reason="bad-ledger", got=len(orders), needed=len(ORDERS)
        )
    verify(roster[number], _ledger_statement(deployment, number, raw), signature)
    return number, body
