"""What the coordinator checks of other people's records before it counts them, beyond who signed them.

Members and verifiers check all of it again: these checks keep one bad record from stopping rounds. Pure.
"""

from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.statements import member_sender_id
from aicache.schemas.records import Aggregate, Envelope, Task
from aicache.schemas.signing import verify_record
from aicache.streams.reducer.noise import noise_of
from aicache.streams.rounds.budgets import guarantee_of
from aicache.streams.rounds.state import RoundState, State
from aicache.streams.rounds.task import validate


def check_task(task: Task) -> None:
    """A task that cannot work would stop the coordinator at every round."""
    try:
        validate(task)
    except LocalError as error:
        raise RemoteError(f"the task cannot work: {error}", reason="bad-task") from None


def verify_envelope(state: State, current: RoundState, record: Envelope) -> None:
    """Digest, place and model version are the sender's own word: nobody else can claim them first."""
    if record.member:
        roster = current.proposal.roster
        if not 1 <= record.member <= len(roster) or not 0 <= record.group < current.proposal.groups:
            raise RemoteError("no such member or group in the round", reason="not-in-roster", got=record.member)
        identity = roster[record.member - 1].identity_key
        if record.sender != member_sender_id(identity, record.group):
            raise RemoteError("the envelope is not the member's own", reason="foreign-vector")
        verify_record(record, identity)
        return
    enrolment = state.clients.get(record.sender)
    if enrolment is None or enrolment.revoked:
        raise RemoteError("the client is not enrolled", reason="not-enrolled")
    verify_record(record, enrolment.public_key)


def check_aggregate(current: RoundState, record: Aggregate) -> None:
    """An aggregate of its round in form; that its sum is right, anybody can recompute."""
    fits = record.length == current.proposal.length and record.n >= 0 and record.scale == current.proposal.scale
    if not fits or len(record.sum) not in ({8 * record.length} if record.n else {0, 8 * record.length}):
        raise RemoteError("the aggregate does not fit its round", reason="bad-aggregate", got=len(record.sum))
    if record.guarantee.rdp != guarantee_of(current.proposal).rdp:
        raise RemoteError("the aggregate's guarantee is not its round's", reason="bad-aggregate")
    assert current.manifest is not None, "an aggregate is of the manifest that the round has"
    opened = [group.group for group in record.groups if group.status == "opened"]
    if record.sigma not in (0.0, noise_of(current.proposal, current.manifest, opened)):
        raise RemoteError("the aggregate's noise is not its round's", reason="bad-aggregate", got=record.sigma)
