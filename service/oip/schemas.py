"""The protocol's JSON. Clients may send more than is known here: what is unknown is left alone."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

MOST_OUTPUTS = 16  # of one request: more than there are


class Part(BaseModel):
    """Strict in what is known."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, protected_namespaces=())


Parameters = dict[str, Any]


class RequestInput(Part):
    """Texts: BYTES of the shape [n] or [n, 1]; `data`, or `binary_data_size` among parameters."""

    name: str
    shape: Annotated[list[int], Field(min_length=1, max_length=8, examples=[[1]])]
    datatype: Annotated[str, Field(examples=["BYTES"])]
    parameters: Parameters = {}
    data: Annotated[list[Any] | None, Field(examples=[["When will my order arrive?"]])] = None


class RequestOutput(Part):
    """An output that is wanted; with the parameter `binary_data` it comes after the JSON."""

    name: str
    parameters: Parameters = {}


class InferRequest(Part):
    """Texts for one model. With no outputs named, all are answered."""

    id: str | None = None
    parameters: Parameters = {}
    inputs: Annotated[list[RequestInput], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[RequestOutput], Field(max_length=MOST_OUTPUTS)] = []


class ResponseOutput(Part):
    """An output tensor; `data` is flat, in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | None = None


class InferResponse(Part):
    """What a model answered; the output `scores` is in the order of the model's labels."""

    model_name: str
    model_version: str
    id: str | None = None
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

    ready: bool = False


class IndexedModel(Part):
    """A model with its released version."""

    name: str
    version: str
    state: str
    reason: str


class ModelIndex(RootModel[list[IndexedModel]]):
    """The models of the key's tenant."""


class ErrorDocument(Part):
    """What the protocol has for errors."""

    error: str
