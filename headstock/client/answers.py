"""What servers answer, as JSON. A newer server may say more than is written here."""

from typing import Any, Literal, NotRequired, TypedDict


class Tenant(TypedDict):
    """A tenant; the moment is in ISO 8601."""

    name: str
    created_at: str


class Tenants(TypedDict):
    """Tenants, by name; `next` goes on as `after`, None: there are no more."""

    tenants: list[Tenant]
    next: str | None


class FeatureCache(TypedDict):
    """Whether features of a tenant's inputs may be kept."""

    mode: Literal["off", "own", "shared"]


class Quota(TypedDict, total=False):
    """What a tenant may have, and ask in a minute, at most; None: without a limit."""

    adapters: int | None
    versions: int | None
    bytes: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None


class TenantUsage(TypedDict):
    """What a tenant has, and what it used of the server that answered, since that one started."""

    adapters: int
    versions: int
    bytes: int
    since: str
    requests: int
    rows: int
    tokens: int
    truncated: int
    compute_share: float


class NewKey(TypedDict):
    """A new key; `key` is shown this once."""

    id: str
    key: str
    expires_at: str | None


class Key(TypedDict):
    """A key without its secret."""

    id: str
    scopes: list[str]
    created_at: str
    revoked_at: str | None
    expires_at: str | None


class Keys(TypedDict):
    """A tenant's keys, revoked ones included; `next` goes on as `after`."""

    keys: list[Key]
    next: str | None


class AuditRow(TypedDict):
    """One change: who (the id of a key), when, what, to whom."""

    seq: int
    at: str
    actor: str
    action: str
    tenant: str | None
    adapter: str | None
    detail: dict[str, Any]


class AuditTrail(TypedDict):
    """Changes, newest first; `next` goes on as `after`."""

    changes: list[AuditRow]
    next: int | None


class Release(TypedDict):
    """Which version answers; `revision` grows with each change."""

    stable: int
    revision: int


class Published(TypedDict):
    """An uploaded version; `created` is false where these very bytes were known."""

    version: int
    digest: str
    created: bool
    release: Release | None


class Adapter(TypedDict):
    """An adapter with its newest version, None where all were deleted."""

    name: str
    latest_version: int | None
    release: Release | None


class Adapters(TypedDict):
    """A tenant's adapters, by name; `next` goes on as `after`."""

    adapters: list[Adapter]
    next: str | None


class VersionRow(TypedDict):
    """An immutable version in a listing."""

    version: int
    digest: str
    backbone: str
    size: int
    created_at: str


class Version(VersionRow):
    """An immutable version with the manifest of its file."""

    manifest: dict[str, Any]


class Versions(TypedDict):
    """Versions of an adapter, oldest first; `next` goes on as `after`."""

    versions: list[VersionRow]
    next: int | None


class Scored(TypedDict):
    """A label with its calibrated probability."""

    label: str
    score: float


class Entity(Scored):
    """A piece of the input, from the character `start` to before `end`."""

    start: int
    end: int
    text: str


class Prediction(TypedDict):
    """The answer to one input. Which parts there are is said by the adapter's task.

    Classification: `label`, `score`, `top`. Multilabel: `labels`, `top`. Regression: `values`.
    Tagging: `entities`.
    """

    label: NotRequired[str]
    score: NotRequired[float]
    top: NotRequired[list[Scored]]
    labels: NotRequired[list[Scored]]
    values: NotRequired[dict[str, float]]
    entities: NotRequired[list[Entity]]


class AdapterRef(TypedDict):
    """The version that answered."""

    tenant: str
    name: str
    version: int
    digest: str


class Predictions(TypedDict):
    """One prediction per input, in the inputs' order.

    `truncated` has the positions of inputs that were longer than the backbone reads: they were cut.
    """

    adapter: AdapterRef
    backbone: str
    truncated: list[int]
    predictions: list[Prediction]


class FanOut(TypedDict):
    """One result an adapter, in the order asked for."""

    results: list[Predictions]


class Backbone(TypedDict):
    """A backbone that is served."""

    name: str
    digest: str
    modality: str
    precision: str
    features: dict[str, list[str | int]]


class Backbones(TypedDict):
    """The backbones that are served, by name; `next` goes on as `after`."""

    backbones: list[Backbone]
    next: str | None


class Embedding(TypedDict):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float]


class Embeddings(TypedDict):
    """One embedding per input, in the inputs' order, in OpenAI's shape.

    `truncated` has the positions of inputs that were longer than the backbone reads: they were cut.
    """

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: dict[str, int]
    truncated: list[int]
