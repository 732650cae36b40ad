"""The JSON of the `/v1` routes. OpenAPI is made from these models."""

from datetime import datetime
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from adapters.registry import CacheMode


class Wire(BaseModel):
    """Strict: unknown fields and wrong types are refused, not guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ProblemDocument(Wire):
    """RFC 9457 problem details; `code` is stable."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class OpenAiErrorBody(Wire):
    """What went wrong; `code` is stable."""

    message: str
    type: str
    param: None = None
    code: str


class OpenAiError(Wire):
    """An error in OpenAI's shape."""

    error: OpenAiErrorBody


class NewTenant(Wire):
    """A tenant to create."""

    name: Annotated[str, StringConstraints(max_length=1000)]


class TenantInfo(Wire):
    """A tenant."""

    name: str
    created_at: datetime


class TenantList(Wire):
    """Tenants, by name. `next` goes on as `after`; null: there are no more."""

    tenants: list[TenantInfo]
    next: str | None = None


class FeatureCacheMode(Wire):
    """Whether features of a tenant's inputs may be kept: no, for it alone, for all that share."""

    mode: CacheMode


Limit = Annotated[int | None, Field(ge=0, le=2**62)]


class Quota(Wire):
    """What a tenant may have, and ask of a server in a minute, at most; null: without a limit."""

    adapters: Limit = None
    versions: Limit = None
    bytes: Limit = None
    requests_per_minute: Limit = None
    tokens_per_minute: Limit = None


class TenantUsage(Wire):
    """What a tenant has, and what it used of the server that answers, since that one started.

    `truncated` inputs of its `rows` were longer than the backbone reads. `compute_share` is its
    part of all that was computed there, 0 to 1.
    """

    adapters: int
    versions: int
    bytes: int
    since: datetime
    requests: int
    rows: int
    tokens: int
    truncated: int
    compute_share: float


TenantScope = Literal["predict", "publish"]


_MOST_S = 10 * 366 * 24 * 3600  # ten years
Lifetime = Annotated[int | None, Field(ge=1, le=_MOST_S, examples=[7776000])]


class NewKeyRequest(Wire):
    """What a new key may do, and for how many seconds; without them, until it is revoked."""

    scopes: Annotated[list[TenantScope], Field(min_length=1, max_length=2)]
    expires_in_s: Lifetime = None


class KeyRotation(Wire):
    """How long the old key still works, seconds, and how long the new one does, if not for good."""

    overlap_s: Annotated[int, Field(ge=0, le=_MOST_S, examples=[86400])] = 86_400
    expires_in_s: Lifetime = None


class NewKey(Wire):
    """A new key. `key` is shown this once."""

    id: str
    key: str
    expires_at: datetime | None


class KeyInfo(Wire):
    """A key without its secret."""

    id: str
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None
    expires_at: datetime | None


class KeyList(Wire):
    """A tenant's keys, revoked ones included, oldest first. `next` goes on as `after`."""

    keys: list[KeyInfo]
    next: str | None = None


class AuditRow(Wire):
    """One change: who (the id of a key), when, what, to whom; `detail` is the change's own."""

    seq: int
    at: datetime
    actor: str
    action: str
    tenant: str | None
    adapter: str | None
    detail: dict[str, Any]


class AuditTrail(Wire):
    """Changes, newest first. `next` goes on as `after`; null: there are no older ones."""

    changes: list[AuditRow]
    next: int | None = None


class ReleaseInfo(Wire):
    """Which version answers. `revision` grows with each change; it is the ETag."""

    stable: int
    revision: int


class ReleaseRequest(Wire):
    """The version that shall answer."""

    stable: Annotated[int, Field(ge=1)]


class VersionRow(Wire):
    """An immutable version in a listing."""

    version: int
    digest: str
    backbone: str
    size: int
    created_at: datetime


class VersionInfo(VersionRow):
    """An immutable version with the manifest of its file."""

    manifest: dict[str, Any]


class Published(Wire):
    """The answer to an upload. `created` is false where these very bytes were known already."""

    version: int
    digest: str
    created: bool
    release: ReleaseInfo | None


class VersionList(Wire):
    """Versions of an adapter, oldest first. `next` goes on as `after`."""

    versions: list[VersionRow]
    next: int | None = None


class AdapterInfo(Wire):
    """An adapter with its newest version, null where all were deleted, and its release."""

    name: str
    latest_version: int | None
    release: ReleaseInfo | None


class AdapterList(Wire):
    """A tenant's adapters, by name. `next` goes on as `after`."""

    adapters: list[AdapterInfo]
    next: str | None = None


class PredictRequest(Wire):
    """Texts; all are answered by one version. `top_k` bounds `top`, for tasks that rank."""

    # Stops at the first that is no text: millions of complaints take gigabytes.
    inputs: Annotated[
        list[str],
        Field(min_length=1, fail_fast=True, examples=[["When will my order finally arrive?"]]),
    ]
    top_k: Annotated[int, Field(ge=1, le=1000, examples=[3])] = 1


class BentoPredictRequest(PredictRequest):
    """Texts for a tenant's adapter, as BentoML's clients send them: all in the body."""

    tenant: Annotated[str, Field(examples=["acme"])]
    adapter: Annotated[str, Field(examples=["intents"])]


def _distinct(adapters: list[str]) -> list[str]:
    if len(set(adapters)) != len(adapters):
        raise ValueError("adapters are distinct")
    return adapters


class FanOutRequest(PredictRequest):
    """Texts for several adapters of one tenant."""

    adapters: Annotated[
        list[str],
        Field(min_length=1, max_length=64, examples=[["intents", "sentiment"]]),
        AfterValidator(_distinct),
    ]


class Scored(Wire):
    """A label with its calibrated probability."""

    label: str
    score: float


class ClassificationPrediction(Scored):
    """The best label of one input, and the best `top_k`."""

    top: list[Scored]


class MultilabelPrediction(Wire):
    """The labels of one input that reach their thresholds, and the best `top_k`; best first."""

    labels: list[Scored]
    top: list[Scored]


class RegressionPrediction(Wire):
    """A value a target for one input."""

    values: dict[str, float]


class EntitySpan(Scored):
    """A piece of the input: its characters (Unicode code points) from `start` to before `end`.

    The score is the mean probability of its tokens' labels.
    """

    start: int
    end: int
    text: str


class TaggingPrediction(Wire):
    """The entities of one input, in the order in which they stand there."""

    entities: list[EntitySpan]


Prediction = (
    ClassificationPrediction | MultilabelPrediction | RegressionPrediction | TaggingPrediction
)


class AdapterRef(Wire):
    """The version that answered."""

    tenant: str
    name: str
    version: int
    digest: str


Truncated = Annotated[
    list[int],
    Field(
        description="Positions, from 0, of the inputs that were longer than the backbone reads. "
        "They were cut: what stands beyond its last token has no part in the answer.",
        examples=[[]],
    ),
]


class PredictResponse(Wire):
    """One prediction per input, in the inputs' order; the adapter's task says of which kind."""

    adapter: AdapterRef
    backbone: str
    truncated: Truncated
    predictions: list[Prediction]


class FanOutResponse(Wire):
    """One result an adapter, in the order asked for."""

    results: list[PredictResponse]


TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, fail_fast=True)
]


class EmbeddingsRequest(Wire):
    """Texts to embed, in OpenAI's shape. `model`: a backbone, or `tenant.adapter` for its LoRA."""

    input: Annotated[
        str
        | Annotated[list[str], Field(min_length=1, fail_fast=True)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1, fail_fast=True)],
        Field(
            description="A text or a list of them. An array of token ids stands for a text if the "
            "backbone's own tokenizer gives exactly these ids for it, special tokens included.",
            examples=["When will my order finally arrive?"],
        ),
    ]
    model: Annotated[str, StringConstraints(max_length=200), Field(examples=["minilm"])]
    encoding_format: Literal["float", "base64"] | None = Field(None, description="Null: float.")
    dimensions: int | None = Field(
        None,
        ge=1,
        description="How many numbers of each vector: the model's own; or fewer, as many as a "
        "backbone of the Matryoshka kind may be cut to. Null: the model's own.",
    )
    input_type: Annotated[str | None, StringConstraints(max_length=100)] = Field(
        None,
        description="query or document: the backbone's prompt of that name, if it has one. "
        "Anything else, and null, changes nothing.",
    )
    # What clients send for other servers' ends: taken, and without a meaning here.
    user: str | None = None

    @property
    def inputs(self) -> list[str] | list[list[int]]:
        """Texts, or the token ids of each."""
        if isinstance(self.input, str):
            return [self.input]
        is_one = isinstance(self.input[0], int)
        return cast("list[str] | list[list[int]]", [self.input] if is_one else self.input)


class Embedding(Wire):
    """The vector of one input; in base64, its little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class TokenUsage(Wire):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Wire):
    """One embedding per input, in the inputs' order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: TokenUsage
    truncated: Truncated


class ModelInfo(Wire):
    """A model in OpenAI's shape: a backbone, or an adapter as `tenant.adapter`.

    `created` is when the server that answers has started, Unix time; `owned_by` is the adapter's
    tenant, and headstock of a backbone.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Wire):
    """The backbones that are served, then adapters by tenant and name.

    With `has_more` they go on after the last one's id.
    """

    object: Literal["list"] = "list"
    data: list[ModelInfo]
    has_more: bool


class BackboneInfo(Wire):
    """A backbone that is served."""

    name: str
    digest: str
    modality: str
    precision: str
    features: dict[str, list[str | int]]


class BackboneList(Wire):
    """The backbones that are served, by name. `next` goes on as `after`."""

    backbones: list[BackboneInfo]
    next: str | None = None
