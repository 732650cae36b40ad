"""The protocol's JSON. Clients may send more than is known here: what is unknown is left alone.

Null stands for what is left out: MLServer's types send it for each field that has no value.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

MOST_OUTPUTS = 16  # of one request: more than there are
MOST_ID_CHARS = 1000  # it comes back with the answer


class Part(BaseModel):
    """Strict in what is known."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, protected_namespaces=())


Parameters = dict[str, Any]


class RequestInput(Part):
    """Texts: BYTES of the shape [n] or [n, 1]; `data`, or `binary_data_size` among parameters."""

    name: str
    shape: Annotated[list[int], Field(min_length=1, max_length=8, examples=[[1]])]
    datatype: Annotated[str, Field(examples=["BYTES"])]
    parameters: Parameters | None = None
    data: Annotated[list[Any] | None, Field(examples=[["When will my order arrive?"]])] = None


class RequestOutput(Part):
    """An output that is wanted; with the parameter `binary_data` it comes after the JSON."""

    name: str
    parameters: Parameters | None = None


class InferRequest(Part):
    """Texts for one model. With no outputs named, all are answered."""

    id: Annotated[str | None, Field(max_length=MOST_ID_CHARS)] = None
    parameters: Parameters | None = None
    inputs: Annotated[list[RequestInput], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[RequestOutput] | None, Field(max_length=MOST_OUTPUTS)] = None


class ResponseOutput(Part):
    """An output tensor; `data` is flat, in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | None = None


class InferResponse(Part):
    """What a model answered; the output `scores` is in the order of the model's labels.

    The parameter `truncated_inputs` says how many texts were longer than the model reads and were
    cut; it is left out if none was.
    """

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters = {}
    outputs: list[ResponseOutput]


class TensorMetadata(Part):
    """A tensor that a model takes or gives; -1: any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Part):
    """A model; `properties` has its task, and its labels as JSON."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str]


class ServerMetadata(Part):
    """The server and the protocol's extensions that it knows."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(Part):
    """Whether the process answers."""

    live: bool


class ServerReady(Part):
    """Whether models can be asked."""

    ready: bool


class ModelReady(Part):
    """Whether a model can be asked."""

    name: str
    ready: bool


class IndexRequest(Part):
    """`ready`: models that can be asked alone."""

    ready: bool | None = None


class IndexedModel(Part):
    """A model with its released version."""

    name: str
    version: str
    state: str
    reason: str


class ModelIndex(RootModel[list[IndexedModel]]):
    """The models of the key's tenant."""


DataType = Literal["TYPE_STRING", "TYPE_FP32"]


class ConfigInput(Part):
    """A tensor that a model takes; `dims` are those after the rows."""

    name: str
    data_type: DataType
    dims: list[int]


class ConfigOutput(Part):
    """A tensor that a model gives; `dims` are those after the rows."""

    name: str
    data_type: DataType
    dims: list[int]


class ConfigParameter(Part):
    """A property of a model."""

    string_value: str


class TransactionPolicy(Part):
    """`decoupled`: whether a request may have several answers."""

    decoupled: bool = False


class Unset(Part):
    """A part of the configuration that is there, with nothing to set in it."""


class ModelConfig(Part):
    """A model as Triton's clients want it described: rows of several requests share batches."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[ConfigInput]
    output: list[ConfigOutput]
    dynamic_batching: Unset = Unset()
    model_transaction_policy: TransactionPolicy = TransactionPolicy()
    parameters: dict[str, ConfigParameter]


class StatisticDuration(Part):
    """How often something took time, and how much in all, nanoseconds."""

    count: int
    ns: int


class InferStatistics(Part):
    """Where the time of requests went.

    `compute_input` is making tokens of texts, `queue` the wait for a batch, `compute_infer` the
    backbone and the heads. No answers are cached.
    """

    success: StatisticDuration
    fail: StatisticDuration
    queue: StatisticDuration
    compute_input: StatisticDuration
    compute_infer: StatisticDuration
    compute_output: StatisticDuration
    cache_hit: StatisticDuration = StatisticDuration(count=0, ns=0)
    cache_miss: StatisticDuration = StatisticDuration(count=0, ns=0)


class ModelStatistics(Part):
    """What a version was asked of the server that answers, since that one started.

    `inference_count` are texts, `execution_count` the batches in which they were computed, together
    with texts of other models. `last_inference` is Unix time in milliseconds, 0 for never.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferStatistics
    batch_stats: list[Unset] = []


class StatisticsList(Part):
    """Statistics by model and version."""

    model_stats: list[ModelStatistics]


class ErrorDocument(Part):
    """What the protocol has for errors."""

    error: str
