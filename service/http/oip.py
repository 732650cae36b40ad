"""The Open Inference Protocol over HTTP: JSON, and its extension for binary tensors."""

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from starlette.responses import Response

from adapters.errors import InvalidInput, Overloaded
from service.aside import aside
from service.bounds import (
    INLINE_BYTES,
    INLINE_MODELS,
    INLINE_SCORES,
    check_count,
    most_inputs,
)
from service.errors import Problem
from service.http.call import HttpCall, error_response, json_response, long_json_response
from service.oip.inference import Inference, Inferred, infer
from service.oip.models import find_statistics, list_statistics, server_metadata
from service.oip.models import model_config as config_of
from service.oip.names import ModelName
from service.oip.schemas import (
    IndexRequest,
    InferRequest,
    InferResponse,
    ModelReady,
    RequestInput,
    ResponseOutput,
    ServerLive,
    ServerReady,
)
from service.oip.tensors import Tensor, check_texts, split_bytes, to_texts
from service.settings import Settings

HEADER_LENGTH = "Inference-Header-Content-Length"
_BINARY = "application/octet-stream"


async def server_live(_: HttpCall) -> Response:
    """Tell that the process answers."""
    return json_response(ServerLive(live=True))


async def server_ready(call: HttpCall) -> Response:
    """Tell whether models can be asked."""
    if not call.runtime.is_ready:
        raise Overloaded("the server is stopping, or its log is lost")
    return json_response(ServerReady(ready=True))


async def server_details(_: HttpCall) -> Response:
    """Show the server's name, version and extensions of the protocol."""
    return json_response(server_metadata())


async def model_index(call: HttpCall) -> Response:
    """List the models of the key's tenant; an admin's key has those of all."""
    wanted = await call.json(IndexRequest)
    index = await call.runtime.router.index(call.actor.tenant, bool(wanted.ready))
    if len(index.root) > INLINE_MODELS:
        return await aside(True, long_json_response, index)
    return json_response(index)


async def model_details(call: HttpCall) -> Response:
    """Show a model's versions, inputs and outputs."""
    model = _model(call)
    return json_response(await call.runtime.control.describe_model(model, _version(call)))


async def model_ready(call: HttpCall) -> Response:
    """Tell whether a model can be asked."""
    model = _model(call)
    await call.runtime.router.check(model.tenant, model.adapter, _version(call))
    return json_response(ModelReady(name=str(model), ready=True))


async def model_config(call: HttpCall) -> Response:
    """Show a model's configuration, as Triton's clients ask for it."""
    metadata = await call.runtime.control.describe_model(_model(call), _version(call))
    return json_response(config_of(metadata, most_inputs(call.runtime.settings)))


async def model_stats(call: HttpCall) -> Response:
    """Show what a model was asked of this server, and what that took."""
    runtime, model = call.runtime, _model(call)
    return json_response(
        await find_statistics(runtime.router, runtime.statistics, model, _version(call))
    )


async def all_stats(call: HttpCall) -> Response:
    """Show the same of all models of the key's tenant; an admin's key has those of all."""
    runtime = call.runtime
    found = await list_statistics(runtime.router, runtime.statistics, call.actor.tenant)
    if len(found.model_stats) > INLINE_MODELS:
        return await aside(True, long_json_response, found)
    return json_response(found)


async def model_infer(call: HttpCall) -> Response:
    """Answer texts with a model."""
    model, version = _model(call), _version(call)
    pipeline, body_bytes = call.runtime.pipeline, call.announced_bytes
    pipeline.check_room(model.tenant, model.adapter, body_bytes)
    document, request = await _read(call, model.tenant)
    with call.while_connected():
        found = await infer(pipeline, call.ask(is_charged=True), model, version, request)
        is_much = sum(prod(each.shape) for each in found.outputs) > INLINE_SCORES
        return await aside(is_much, _answer, document, model, found)


def oip_error(problem: Problem) -> Response:
    """An error as the protocol has it."""
    return error_response(problem, {"error": problem.detail})


def _model(call: HttpCall) -> ModelName:
    return ModelName(call.path("tenant"), call.path("adapter"))


def _version(call: HttpCall) -> int | None:
    return call.number("version") if "version" in call.parameters else None


async def _read(call: HttpCall, tenant: str) -> tuple[InferRequest, Inference]:
    """The JSON, and what it and the bytes after it ask for."""
    body = await call.metered_body(tenant)
    length = _json_length(call, body)
    document = await call.parse(body[:length], InferRequest)
    texts = await call.runtime.parsing.run(
        len(body) > INLINE_BYTES,
        _texts,
        document.inputs[0],
        body[length:],
        call.runtime.settings,
    )
    return document, Inference(texts, tuple(each.name for each in document.outputs or ()))


def _json_length(call: HttpCall, body: bytes) -> int:
    """How many of the body's bytes are JSON."""
    header = call.request.headers.get(HEADER_LENGTH)
    if header is None:
        return len(body)
    if not re.fullmatch(r"[0-9]{1,15}", header) or int(header) > len(body):
        raise InvalidInput(f"{HEADER_LENGTH} must be how many of the body's bytes are JSON")
    return int(header)


def _texts(given: RequestInput, binary: bytes, settings: Settings) -> list[str]:
    name = given.name[:40]
    check_texts(name, given.datatype, given.shape)
    size = (given.parameters or {}).get("binary_data_size")
    if (size is None) == (given.data is None):
        raise InvalidInput(f"input {name!r} needs either data or the parameter binary_data_size")
    if size is None:
        return to_texts(name, given.shape, _flat(name, given.data or ()))
    if size != len(binary):
        raise InvalidInput(
            f"input {name!r} has binary_data_size {size!r:.20}, and {len(binary)} bytes follow "
            "the JSON"
        )
    check_count(prod(given.shape), settings)
    return to_texts(name, given.shape, split_bytes(name, given.shape, binary))


def _flat(name: str, data: Sequence[Any]) -> list[str]:
    """Elements of [n], or of [n, 1] as nested lists."""
    flat = [part for each in data for part in (each if isinstance(each, list) else (each,))]
    if not all(isinstance(each, str) for each in flat):
        raise InvalidInput(f"the data of input {name!r} must be texts")
    return flat


def _answer(request: InferRequest, model: ModelName, found: Inferred) -> Response:
    wanted = {each.name: each.parameters or {} for each in request.outputs or ()}
    all_binary = (request.parameters or {}).get("binary_data_output") is True
    outputs, parts = [], []
    for tensor in found.outputs:
        if _is_binary(wanted.get(tensor.name, {}), all_binary):
            parts.append(tensor.to_binary())
            parameters = {"binary_data_size": len(parts[-1])}
            outputs.append(_described(tensor, parameters=parameters))
        else:
            outputs.append(_described(tensor, data=tensor.to_json()))
    response = InferResponse(
        model_name=str(model),
        model_version=str(found.version),
        id=request.id,
        parameters=dict(found.parameters),
        outputs=outputs,
    )
    content = response.model_dump_json(exclude_defaults=True).encode()
    if not parts:
        return Response(content, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(content))}
    return Response(b"".join((content, *parts)), headers=headers, media_type=_BINARY)


def _is_binary(parameters: Mapping[str, Any], by_default: bool) -> bool:
    asked = parameters.get("binary_data")
    return by_default if asked is None else asked is True


def _described(tensor: Tensor, **more: Any) -> ResponseOutput:
    return ResponseOutput(
        name=tensor.name, shape=list(tensor.shape), datatype=tensor.datatype, **more
    )
