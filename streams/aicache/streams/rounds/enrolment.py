"""Who is admitted: a policy over join requests, and the operator's signature. Pure."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy.errors import RemoteError
from aicache.privacy.statements import client_id
from aicache.schemas.records import Enrolment, JoinRequest
from aicache.schemas.signing import signed, verify_record

OPEN, MANUAL = "open", "manual"


@dataclass(frozen=True, slots=True)
class Admission:
    """How join requests are answered.

    Attributes:
        policy: `open` admits everybody who asks, up to `clients_max`; `manual` leaves it to `aicache enrol`.
        clients_max: how many clients a deployment has at most; limits what made-up identities can do.
        operator_key: signs enrolments; members refuse others.
    """

    policy: str
    clients_max: int
    operator_key: Ed25519PrivateKey = field(repr=False)

    def answer(self, request: JoinRequest, enrolled: int, now_ms: int) -> Enrolment | None:
        """The enrolment that follows from a request; None where the policy leaves it to the operator.

        Raises:
            RemoteError: the request is not signed by its key, or the deployment is full.
        """
        verify_record(request, request.public_key)
        if self.policy != OPEN:
            return None
        if enrolled >= self.clients_max:
            raise RemoteError(
                "the deployment is full", reason="deployment-full", got=enrolled, needed=f"< {self.clients_max}"
            )
        return self.enrol(request.deployment, request.public_key, now_ms)

    def enrol(
        self, deployment: str, public_key: bytes, now_ms: int, *, revoked: bool = False, reason: str = ""
    ) -> Enrolment:
        """A signed enrolment, or its revocation."""
        record = Enrolment(deployment, client_id(public_key), public_key, now_ms, revoked, reason, b"")
        return signed(record, self.operator_key)
