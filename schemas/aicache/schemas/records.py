"""The records of every topic, typed: field for field what the .avsc files beside this one say (a test holds the two equal).

Decoded Avro becomes one of these, and only these are encoded. The meaning, unit and reader of each field stand in the schema.
Pure: no clock, no I/O.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

# ---------------------------------------------------------------- shared parts


@dataclass(frozen=True, slots=True)
class PartitionOffset:
    """A place in a topic."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where in `updates` the chunks of one ciphertext stand: one partition, a rising offset each."""

    partition: int
    offsets: list[int]


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A differential-privacy guarantee as it is published: for whom, against whom, over what, how much."""

    mechanism: str  # discrete-gaussian-sum | discrete-laplace | randomized-response | none
    noise: str  # committee | clients | local | central | none
    unit: str  # the unit of privacy: client
    neighbouring: str  # add-or-remove | replace-one
    window: str  # what the guarantee spans: round, or task:NAME for all rounds so far
    epsilon: float
    delta: float
    sensitivity: float  # L2, integer grid, after clipping, scaling and rounding
    sigma: float  # standard deviation of the whole noise in the sum, integer grid
    honest: int  # parties assumed to add their noise share honestly
    rdp: list[float]  # Rényi divergence at the orders of aicache.privacy.accounting.ORDERS


# ---------------------------------------------------------------- tasks and models


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model task learns: linear map from input labels to output labels, one weight a pair."""

    inputs: list[str]
    outputs: list[str]
    step: float
    momentum: float
    window: int  # how many model versions back a client may have started from (asynchronous rounds)


@dataclass(frozen=True, slots=True)
class AdaptiveClipping:
    """How the clip follows a quantile of the clients' norms from round to round."""

    quantile: float
    rate: float
    weight: float  # of the bit, in units of the clip of the vector itself
    clip_min: float
    clip_max: float


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned. Topic tasks, key = task."""

    deployment: str
    task: str
    version: int
    state: str  # active | paused | ended
    kind: str  # sum | mean | weighted-mean | histogram | pairs | count-sketch | model | evaluation
    description: str
    purpose: str  # which privacy budget it spends
    length: int
    labels: list[str]
    clip: float  # L2 bound of all that is masked, an adaptive clip's bit included
    clipping: str  # flat | per-layer | adaptive
    layers: list[int]
    scale: float
    noise: str  # committee | clients
    noise_multiplier: float  # sigma of the planned noise in the sum, in units of the sensitivity
    honest: int  # h, for noise = clients
    delta: float
    n_min: int
    n_max: int
    deadline_ms: int  # from opening to closing
    grace_ms: int  # for members' vectors after the deadline
    interval_ms: int  # from the end of one round to the opening of the next
    rounds: int  # 0: without end
    groups: int
    robust: str  # none | trimmed-mean | median | norm-filter
    members: int
    threshold: int
    parameters: str  # n10k | n60k
    sketch_depth: int  # count-sketch: rows; else 0
    sketch_width: int  # count-sketch: columns; else 0
    model: ModelSpec | None
    evaluates: str  # evaluation: the model task it measures; else empty
    clips: list[float] = field(default_factory=list)  # per-layer: the L2 bound of each layer
    adaptive: AdaptiveClipping | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One point of a model's curve."""

    name: str
    value: float
    n: int


@dataclass(frozen=True, slots=True)
class Model:
    """The newest global model of a task. Topic models, key = task."""

    deployment: str
    task: str
    version: int
    parent: int  # the version it was made from; -1 for the first
    round_id: str  # empty for the first and after a roll-back
    digest: bytes
    length: int
    weights: bytes  # float64, little-endian
    created_ms: int
    n: int  # clients that contributed to this version
    guarantee: Guarantee | None
    metrics: list[Metric]


# ---------------------------------------------------------------- people: committee and clients


@dataclass(frozen=True, slots=True)
class CommitteeMember:
    """A member's identity and current epoch key. Topic committee, key = member number."""

    deployment: str
    member: int  # 1 … m
    identity_key: bytes  # Ed25519, 32 bytes
    epoch: int
    epoch_key_id: bytes  # digest("epoch-key", both public parts), 32 bytes
    mlkem_key: bytes  # ML-KEM-768 public part, 1,184 bytes
    x25519_key: bytes  # X25519 public part, 32 bytes
    valid_from_ms: int
    valid_until_ms: int
    retired: bool
    signature: bytes


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """A client asks to be enrolled. Topic joins, key = client."""

    deployment: str
    public_key: bytes
    requested_ms: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The operator admits or revokes a client. Topic enrolments, key = client."""

    deployment: str
    client: bytes
    public_key: bytes
    admitted_ms: int
    revoked: bool
    reason: str
    signature: bytes  # the operator's


# ---------------------------------------------------------------- rounds


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A model version that a round accepts."""

    version: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """A committee member as the round sees it."""

    member: int
    identity_key: bytes
    epoch_key_id: bytes


@dataclass(frozen=True, slots=True)
class Proposal:
    """A round is proposed; the digest of this record is rho. Topic rounds, key = round."""

    deployment: str
    task: str
    task_version: int
    round_id: str
    number: int  # of the task, from 1
    kind: str
    purpose: str
    model_versions: list[ModelVersion]
    enrolments_end: list[PartitionOffset]
    updates_start: list[PartitionOffset]
    opened_ms: int
    deadline_ms: int  # absolute, Unix milliseconds
    grace_ms: int
    n_min: int
    n_max: int
    roster: list[RosterEntry]
    threshold: int
    quorum: int
    length: int
    clip: float
    scale: float
    noise: str
    sigma: float  # planned for the sum, integer grid
    honest: int
    delta: float
    groups: int
    robust: str
    parameters: str
    clipping: str = "flat"
    layers: list[int] = field(default_factory=list)
    clips: list[float] = field(default_factory=list)
    adaptive: AdaptiveClipping | None = None
    clip_from: str = ""  # adaptive: the round whose opened sum the clip follows from


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """No more envelopes. Topic rounds, key = round."""

    deployment: str
    task: str
    round_id: str
    rho: bytes
    closed_ms: int
    reason: str  # full | deadline


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One client whose ciphertext counts."""

    client: bytes
    digest: bytes
    model_version: int
    place: Place


@dataclass(frozen=True, slots=True)
class ManifestGroup:
    """The clients of one group, sorted by client."""

    group: int
    clients: list[ManifestEntry]


@dataclass(frozen=True, slots=True)
class MemberVector:
    """A member's noise vector for one group."""

    group: int
    sender: bytes
    digest: bytes
    place: Place


@dataclass(frozen=True, slots=True)
class ManifestMember:
    """A member of S: its revealed nonce and its vectors, one a group."""

    member: int
    nonce: bytes
    vectors: list[MemberVector]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a round adds up. Topic rounds, key = round."""

    deployment: str
    task: str
    round_id: str
    rho: bytes
    members: list[ManifestMember]
    groups: list[ManifestGroup]
    left_out: list[int]  # groups under n_min


@dataclass(frozen=True, slots=True)
class RoundAborted:
    """A round ends without a result. Topic rounds, key = round."""

    deployment: str
    task: str
    round_id: str
    rho: bytes
    aborted_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Approval:
    """A member's signed yes to a proposal, with the commitment to its nonce. Topic votes, key = round."""

    deployment: str
    task: str
    round_id: str
    rho: bytes
    member: int
    epoch_key_id: bytes
    nonce_commitment: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Vote:
    """A member's one vote in a round: for a manifest, or to abort (32 zero bytes). Topic votes, key = round."""

    deployment: str
    task: str
    round_id: str
    rho: bytes
    member: int
    epoch_key_id: bytes
    manifest_digest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class UpdateChunk:
    """A piece of a ciphertext. Topic updates, key = round + sender."""

    round_id: str
    sender: bytes
    index: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed claim: a ciphertext's digest and place, a sealed key share for each member. Topic envelopes, key = round."""

    deployment: str
    task: str
    round_id: str
    rho: bytes
    sender: bytes  # client id, or member_sender_id
    member: int  # 0 for a client
    epoch_key_id: bytes  # zeros for a client
    group: int  # -1 for a client: its group is drawn later
    model_version: int  # -1 where the task has no model
    digest: bytes
    place: Place
    sealed: list[bytes]  # for members 1 … m in order
    signature: bytes


@dataclass(frozen=True, slots=True)
class Endorsed:
    """A sender and the digest under which a member (or the reducer) knows its ciphertext."""

    sender: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Endorsement:
    """Envelopes that a member could open and accepts; the last batch reveals the nonce. Topic endorsements."""

    deployment: str
    task: str
    round_id: str
    rho: bytes
    member: int
    epoch_key_id: bytes
    sequence: int  # from 0, without gaps
    entries: list[Endorsed]
    last: bool
    nonce: bytes  # 32 bytes in the last one, else empty
    signature: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """A batch of ciphertexts that the reducer has read whole, with their digests. Topic endorsements, key = round."""

    deployment: str
    task: str
    round_id: str
    rho: bytes
    entries: list[Endorsed]


@dataclass(frozen=True, slots=True)
class Opening:
    """A member's summed key shares for one group of one manifest. Topic openings, key = round."""

    deployment: str
    task: str
    round_id: str
    rho: bytes
    manifest_digest: bytes
    member: int
    epoch_key_id: bytes
    group: int
    shares: bytes  # N residues mod p, uint16 little-endian
    signature: bytes


@dataclass(frozen=True, slots=True)
class Budget:
    """What a client has spent in one window of one purpose. Topic budgets, key = client + purpose."""

    deployment: str
    client: bytes
    purpose: str
    window_start_ms: int
    rounds: int
    last_round: str
    rdp: list[float]
    epsilon: float
    delta: float


# ---------------------------------------------------------------- usage


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One thing that happened, generalised; `count` of them where alike."""

    kind: str  # used | shown | taken | dismissed | failure | success | duration | finding
    time_s: int  # Unix seconds, rounded down to the client's time step
    items: list[str]  # namespaced public names: pypi:numpy, tag:python, rule:F401, sig:1f2e…, op:build
    context: list[str]  # recent items, newest last
    release: str  # what it happened with, generalised: pypi:numpy@2.4; empty where it does not apply
    count: int
    sketch: bytes  # duration: a DDSketch as float64 pairs (bucket index, count), little-endian; else empty
    position: int  # shown, taken, dismissed: rank from 0; else -1
    propensity: float  # shown, taken, dismissed: probability of having been shown there; else 0
    answer: str = ""  # shown, taken, dismissed: which answer, as partition/offset of the usage record that it followed


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """Anonymized usage events of one pseudonym. Topic usage, key = pseudonym."""

    deployment: str
    pseudonym: bytes  # 16 bytes, changes each period
    period: int
    sequence: int  # of the pseudonym, from 0
    language: str
    framework: str
    os_family: str
    task: str
    tool: str  # name@generalised version
    events: list[UsageEvent]
    daytime: str = ""  # night | morning | afternoon | evening | weekend, where the client is


# ---------------------------------------------------------------- insights


@dataclass(frozen=True, slots=True)
class GroupSum:
    """The opened sum of one group, or why there is none."""

    group: int
    n: int
    status: str  # opened | dropped
    reason: str
    sum: bytes  # int64, little-endian; empty where dropped


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The result of a round. Topic insights.aggregates, key = round."""

    deployment: str
    task: str
    task_version: int
    round_id: str
    number: int
    kind: str
    manifest_digest: bytes
    closed_ms: int
    n: int  # clients in the opened groups
    length: int
    scale: float
    labels: list[str]
    sum: bytes  # int64, little-endian: the opened groups together
    groups: list[GroupSum]
    guarantee: Guarantee
    sigma: float = 0.0  # standard deviation of all noise in each coordinate of sum, integer grid; 0: not told


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item is recommended."""

    item: str
    weight: float


@dataclass(frozen=True, slots=True)
class Recommended:
    """An item with its score and the reasons for it."""

    item: str
    score: float
    reasons: list[Reason]
    propensity: float = 1.0  # probability of having been put at this rank: below 1 where the order is explored


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What comes next for one pseudonym. Topic insights.recommendations, key = pseudonym + namespace."""

    deployment: str
    pseudonym: bytes
    namespace: str
    time_s: int
    source: PartitionOffset  # the usage record that it follows
    items: list[Recommended]


@dataclass(frozen=True, slots=True)
class ItemTable:
    """Neighbours of one item, for scoring on the client. Topic insights.tables, key = item, or task + NUL + item."""

    deployment: str
    item: str
    version: int
    popularity: float  # share of all occurrences
    neighbours: list[str]  # the highest weight first
    weights: bytes  # uint8, a neighbour each: weight = low + scale · byte / 255
    scale: float
    guarantee: Guarantee | None
    low: float = 0.0  # weight of byte 0
    task: str = ""  # the task of pairs that it was solved from; empty: learned from usage
    linear: bytes = b""  # uint8, a neighbour each: linear weight = linear_low + linear_scale · byte / 255; empty: none
    linear_low: float = 0.0
    linear_scale: float = 0.0
    count: float = 0.0  # how often the item came, faded
    after: bytes = b""  # uint8, a neighbour each: how likely right after it; empty: not known
    after_scale: float = 0.0  # probability of byte 255 of `after`
    after_count: float = 0.0


@dataclass(frozen=True, slots=True)
class ItemCount:
    """What one partition of usage has counted of one item. Topic counts, key = item + partition."""

    deployment: str
    item: str
    partition: int  # of usage
    clock: int  # examples that the partition had learned: by them counts fade
    count: float  # how often the item came, faded
    neighbours: list[str]  # most often first
    counts: bytes  # how often each came with it, faded: float32, little-endian
    linear: bytes = b""  # the linear weight of each: float32, little-endian; empty: none
    after: bytes = b""  # how often each came right after it, faded faster: float32, little-endian; empty: none
    after_count: float = 0.0  # how often the item came, faded as `after`


@dataclass(frozen=True, slots=True)
class ItemVectors:
    """What the model of one partition knows of some items beside neighbours. Topics counts, insights.tables, key = partition + piece."""

    deployment: str
    partition: int  # of usage
    piece: int  # of the partition's items, from 0
    clock: int  # examples that the partition had learned
    items: list[str]
    input: bytes  # int8, a vector an item: what it says where it is at hand
    output: bytes  # int8, a vector an item: what it answers to
    scales: bytes  # three an item, what a step of either is, and the pace of its input: float32, little-endian
    bias: bytes  # one an item: float32, little-endian
    counts: bytes  # four an item, at three speeds and as part of a sequence: float32, little-endian


@dataclass(frozen=True, slots=True)
class TableWeights:
    """How one partition's model weighs what tables and vectors say. Topics counts, insights.tables, key = weights + partition."""

    deployment: str
    partition: int  # of usage
    clock: int  # examples that the partition had learned
    ordered: float  # how much of what was learned were sequences
    head: bool  # whether linear weights alone name more of what comes among the first
    weights: bytes  # lengths of context × features: float32, little-endian


@dataclass(frozen=True, slots=True)
class FeedbackSums:
    """What one partition of usage knows of how its answers fared. Topic counts, key = namespace + partition."""

    deployment: str
    namespace: str
    partition: int  # of usage
    time_s: int
    sums: bytes  # products of the estimates' terms, summed: a square matrix, float64, little-endian


@dataclass(frozen=True, slots=True)
class LiftEstimate:
    """One estimator's view, in items taken an answer."""

    estimator: str  # ips | self-normalised | doubly-robust
    ranker: float  # what the ranker's order would have brought
    bandit: float
    lift: float  # their difference
    low: float  # by the central limit theorem, for one look
    high: float
    watched_low: float  # may be looked at as often as one likes
    watched_high: float


@dataclass(frozen=True, slots=True)
class Lift:
    """How the bandit's order fares against the ranker's. Topic insights.trends, key = namespace."""

    deployment: str
    namespace: str
    time_s: int
    answers: int  # shown, and their time for feedback is over
    taken: float  # share of them of which something was taken
    confidence: float
    estimates: list[LiftEstimate]


@dataclass(frozen=True, slots=True)
class SeriesCount:
    """What one partition of usage has counted of one series in one window, so far. Topic series, key = all but the counts."""

    deployment: str
    series: str  # the signature or operation, in public names
    release: str
    window_start_s: int
    window_s: int
    partition: int  # of usage
    events: int  # all that could have failed, or all durations
    failures: int
    sketch: bytes  # durations: float64 pairs (bucket index, count), little-endian; else empty
    people: int = 0  # different pseudonyms with failures or durations of this series and release so far, up to a cap
    heaviest: list[int] = field(default_factory=list)  # failures of the people with most in the window, at most three


@dataclass(frozen=True, slots=True)
class ExposureCount:
    """How many people had a candidate and an outcome in a period. Topic series, key = all but the counts."""

    deployment: str
    outcome: str  # the operation that was tried
    candidate: str  # what they had used; empty: all people
    stratum: str  # language and operating system
    period_start_s: int
    period_s: int
    partition: int  # of usage
    people: int
    failing: int


@dataclass(frozen=True, slots=True)
class Incident:
    """Something broke or slowed down. Topic insights.anomalies, key = incident."""

    deployment: str
    incident: str
    status: str  # opened | growing | resolved
    kind: str  # failure-rate | latency | new-signature | rate-change | duration-shift | association
    subject: str  # the series, in public names
    release: str  # the release it points to; empty where none
    versions: list[str]  # all releases affected
    since_s: int
    updated_s: int
    seen: float
    expected: float
    unit: str
    severity: float  # 0 … 1
    confidence: float  # 0 … 1
    explanation: str
    n: int
    guarantee: Guarantee | None
    acknowledged_by: str = ""
    acknowledged_ms: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A person knows of an incident: quiet until it has grown a lot. Topic acknowledgements, key = incident."""

    deployment: str
    incident: str
    since_s: int  # of the incident: one that comes back later is not acknowledged
    who: str
    note: str
    acknowledged_ms: int
    seen: float  # of the incident, as it was
    n: int


@dataclass(frozen=True, slots=True)
class Trend:
    """How a series moves. Topic insights.trends, key = series + period."""

    deployment: str
    series: str
    period_start_s: int
    period_s: int
    value: float
    previous: float
    unit: str
    guarantee: Guarantee | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be processed: where it stands and why, never what it said. Topic dead-letters."""

    deployment: str
    processor: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    detail: str
    size_bytes: int


Record: TypeAlias = (
    Task
    | Model
    | CommitteeMember
    | JoinRequest
    | Enrolment
    | Proposal
    | RoundClosed
    | Manifest
    | RoundAborted
    | Approval
    | Vote
    | UpdateChunk
    | Envelope
    | Endorsement
    | Receipt
    | Opening
    | Budget
    | UsageBatch
    | Aggregate
    | Recommendation
    | ItemTable
    | ItemCount
    | ItemVectors
    | TableWeights
    | FeedbackSums
    | Lift
    | SeriesCount
    | ExposureCount
    | Incident
    | Acknowledgement
    | Trend
    | DeadLetter
)
