"""The Open Inference Protocol over gRPC: its messages to what it is without a transport, and back.

Tensors come and go in the contents of their type, or raw: answers are in the way of the request.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from google.protobuf.json_format import ParseDict

from adapters.errors import InvalidInput, Overloaded
from service.aside import aside
from service.bounds import (
    INLINE_BYTES,
    INLINE_MODELS,
    INLINE_SCORES,
    check_count,
    most_inputs,
)
from service.call import Call
from service.oip.inference import Inference, Inferred, infer
from service.oip.models import find_statistics, list_statistics, server_metadata
from service.oip.models import model_config as config_of
from service.oip.names import ModelName, parse_version
from service.oip.schemas import (
    MOST_ID_CHARS,
    MOST_OUTPUTS,
    ModelIndex,
    StatisticsList,
    TensorMetadata,
)
from service.oip.tensors import Tensor, check_texts, split_bytes, to_texts
from service.protos import inference_pb2 as pb
from service.settings import Settings


async def server_live(_: Call, __: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
    """Tell that the process answers."""
    return pb.ServerLiveResponse(live=True)


async def server_ready(call: Call, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
    """Tell whether models can be asked."""
    return pb.ServerReadyResponse(ready=call.runtime.is_ready)


async def server_details(_: Call, __: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
    """Show the server's name, version and extensions of the protocol."""
    found = server_metadata()
    return pb.ServerMetadataResponse(
        name=found.name, version=found.version, extensions=found.extensions
    )


async def model_ready(call: Call, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
    """Tell whether a model can be asked."""
    model, version = ModelName.parse(request.name), _version(request.version)
    await call.runtime.router.check(model.tenant, model.adapter, version)
    return pb.ModelReadyResponse(ready=True)


async def model_details(call: Call, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
    """Show a model's versions, inputs and outputs."""
    model = ModelName.parse(request.name)
    found = await call.runtime.control.describe_model(model, _version(request.version))
    return pb.ModelMetadataResponse(
        name=found.name,
        versions=found.versions,
        platform=found.platform,
        inputs=map(_described, found.inputs),
        outputs=map(_described, found.outputs),
        properties=found.properties,
    )


async def model_index(call: Call, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
    """List the models of the key's tenant; an admin's key has those of all."""
    index = await call.runtime.router.index(call.actor.tenant, request.ready)
    return await aside(len(index.root) > INLINE_MODELS, _index, index)


def _index(index: ModelIndex) -> pb.RepositoryIndexResponse:
    return pb.RepositoryIndexResponse(
        models=(
            pb.RepositoryIndexResponse.ModelIndex(
                name=each.name, version=each.version, state=each.state, reason=each.reason
            )
            for each in index.root
        )
    )


async def model_config(call: Call, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
    """Show a model's configuration."""
    model = ModelName.parse(request.name)
    metadata = await call.runtime.control.describe_model(model, _version(request.version))
    found = config_of(metadata, most_inputs(call.runtime.settings))
    return pb.ModelConfigResponse(config=ParseDict(found.model_dump(), pb.ModelConfig()))


async def model_statistics(
    call: Call, request: pb.ModelStatisticsRequest
) -> pb.ModelStatisticsResponse:
    """Show what models were asked of this server, and what that took; without a name, all."""
    router, statistics = call.runtime.router, call.runtime.statistics
    if request.name:
        model, version = ModelName.parse(request.name), _version(request.version)
        found = await find_statistics(router, statistics, model, version)
    else:
        found = await list_statistics(router, statistics, call.actor.tenant)
    return await aside(len(found.model_stats) > INLINE_MODELS, _statistics, found)


def _statistics(found: StatisticsList) -> pb.ModelStatisticsResponse:
    documents = (each.model_dump(exclude={"batch_stats"}) for each in found.model_stats)
    return pb.ModelStatisticsResponse(
        model_stats=(ParseDict(each, pb.ModelStatistics()) for each in documents)
    )


async def model_infer(call: Call, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """Answer texts with a model."""
    model, version = ModelName.parse(request.model_name), _version(request.model_version)
    size, own, runtime = request.ByteSize(), call.actor.tenant, call.runtime
    try:
        runtime.pipeline.check_room(model.tenant, model.adapter, size)
    except Overloaded:
        if own is not None:  # it was charged before it was unpacked
            runtime.charging.give_back_request(own)
        raise
    wanted = await runtime.parsing.run(size > INLINE_BYTES, _read, request, runtime.settings)
    ask = call.ask(is_charged=own is not None)
    found = await infer(runtime.pipeline, ask, model, version, wanted)
    is_large = sum(prod(each.shape) for each in found.outputs) > INLINE_SCORES
    return await aside(is_large, _answer, request, model, found)


def _version(text: str) -> int | None:
    return parse_version(text) if text else None


def _read(request: pb.ModelInferRequest, settings: Settings) -> Inference:
    if len(request.id) > MOST_ID_CHARS:
        raise InvalidInput(f"the id has {len(request.id)} characters, at most {MOST_ID_CHARS}")
    if len(request.inputs) != 1:
        raise InvalidInput(f"{len(request.inputs)} inputs: a model takes one tensor of texts")
    if len(request.outputs) > MOST_OUTPUTS:
        raise InvalidInput(f"{len(request.outputs)} outputs are asked for, at most {MOST_OUTPUTS}")
    (given,) = request.inputs
    name = given.name[:40]
    check_texts(name, given.datatype, given.shape)
    elements: Sequence[bytes] = given.contents.bytes_contents
    if request.raw_input_contents:
        if elements or len(request.raw_input_contents) != 1:
            raise InvalidInput(
                f"input {name!r} comes either in its contents or as the one of raw_input_contents"
            )
        check_count(prod(given.shape), settings)
        elements = split_bytes(name, given.shape, request.raw_input_contents[0])
    texts = to_texts(name, given.shape, elements)
    return Inference(texts, tuple(each.name for each in request.outputs))


def _answer(
    request: pb.ModelInferRequest, model: ModelName, found: Inferred
) -> pb.ModelInferResponse:
    is_raw = bool(request.raw_input_contents)
    return pb.ModelInferResponse(
        model_name=str(model),
        model_version=str(found.version),
        id=request.id,
        parameters={
            name: pb.InferParameter(int64_param=value) for name, value in found.parameters.items()
        },
        outputs=(
            pb.ModelInferResponse.InferOutputTensor(
                name=tensor.name,
                datatype=tensor.datatype,
                shape=tensor.shape,
                contents=None if is_raw else _contents(tensor),
            )
            for tensor in found.outputs
        ),
        raw_output_contents=[each.to_binary() for each in found.outputs] if is_raw else (),
    )


def _contents(tensor: Tensor) -> pb.InferTensorContents:
    if isinstance(tensor.values, np.ndarray):
        return pb.InferTensorContents(fp32_contents=tensor.values.ravel().tolist())
    return pb.InferTensorContents(bytes_contents=[each.encode() for each in tensor.values])


def _described(tensor: TensorMetadata) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
    )
