"""The Open Inference Protocol over HTTP: JSON, and its extension for binary tensors."""

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from starlette.responses import Response

from adapters.errors import InvalidInput, Overloaded
from service.aside import aside
from service.bounds import INLINE_SCORES
from service.errors import Problem
from service.http.call import HttpCall, error_response, json_response, parse
from service.oip.inference import Inference, Inferred, infer
from service.oip.models import server_metadata
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

HEADER_LENGTH = "Inference-Header-Content-Length"
_BINARY = "application/octet-stream"


async def server_live(_: HttpCall) -> Response:
    """Tell that the process answers."""
    return json_response(ServerLive(live=True))


async def server_ready(call: HttpCall) -> Response:
    """Tell whether models can be asked."""
    if call.runtime.life.is_leaving:
        raise Overloaded("the server is stopping")
    return json_response(ServerReady(ready=True))


async def server_details(_: HttpCall) -> Response:
    """Show the server's name, version and extensions of the protocol."""
    return json_response(server_metadata())


async def model_index(call: HttpCall) -> Response:
    """List the models of the key's tenant; an admin's key has those of all."""
    wanted = await call.json(IndexRequest)
    return json_response(call.runtime.router.index(call.actor.tenant, wanted.ready))


async def model_details(call: HttpCall) -> Response:
    """Show a model's versions, inputs and outputs."""
    model = _model(call)
    return json_response(await call.runtime.control.describe_model(model, _version(call)))


async def model_ready(call: HttpCall) -> Response:
    """Tell whether a model can be asked."""
    model = _model(call)
    await call.runtime.router.check(model.tenant, model.adapter, _version(call))
    return json_response(ModelReady(name=str(model), ready=True))


async def model_infer(call: HttpCall) -> Response:
    """Answer texts with a model."""
    model, version = _model(call), _version(call)
    pipeline, body_bytes = call.runtime.pipeline, call.announced_bytes
    pipeline.check_room(model.tenant, model.adapter, body_bytes)
    document, binary = await _read(call)
    request = Inference(
        _texts(document.inputs[0], binary), tuple(each.name for each in document.outputs)
    )
    with call.while_connected():
        found = await infer(pipeline, call.ask(), model, version, request)
        is_much = sum(prod(each.shape) for each in found.outputs) > INLINE_SCORES
        return await aside(is_much, _answer, document, model, found)


def oip_error(problem: Problem) -> Response:
    """An error as the protocol has it."""
    return error_response(problem, {"error": problem.detail})


def _model(call: HttpCall) -> ModelName:
    return ModelName(call.path("tenant"), call.path("adapter"))


def _version(call: HttpCall) -> int | None:
    return call.number("version") if "version" in call.parameters else None


async def _read(call: HttpCall) -> tuple[InferRequest, bytes]:
    """The JSON, and what comes after it."""
    body = await call.body(call.runtime.settings.max_body_bytes)
    header = call.request.headers.get(HEADER_LENGTH)
    if header is None:
        return await parse(body, InferRequest), b""
    if not re.fullmatch(r"[0-9]{1,15}", header) or int(header) > len(body):
        raise InvalidInput(f"{HEADER_LENGTH} must be how many of the body's bytes are JSON")
    length = int(header)
    return await parse(body[:length], InferRequest), body[length:]


def _texts(given: RequestInput, binary: bytes) -> list[str]:
    check_texts(given.name[:40], given.datatype, given.shape)
    size = given.parameters.get("binary_data_size")
    if (size is None) == (given.data is None):
        raise InvalidInput(
            f"input {given.name[:40]!r} needs either data or the parameter binary_data_size"
        )
    name, elements = given.name[:40], list[bytes | str]()
    if size is not None:
        if size != len(binary):
            raise InvalidInput(
                f"input {name!r} has binary_data_size {size!r:.20}, and {len(binary)} bytes follow "
                "the JSON"
            )
        elements += split_bytes(name, binary)
    else:
        elements += _flat(name, given.data or ())
    return to_texts(name, given.shape, elements)


def _flat(name: str, data: Sequence[Any]) -> list[str]:
    """Elements of [n], or of [n, 1] as nested lists."""
    flat = [part for each in data for part in (each if isinstance(each, list) else (each,))]
    if not all(isinstance(each, str) for each in flat):
        raise InvalidInput(f"the data of input {name!r} must be texts")
    return flat


def _answer(request: InferRequest, model: ModelName, found: Inferred) -> Response:
    wanted = {each.name: each.parameters for each in request.outputs}
    all_binary = request.parameters.get("binary_data_output") is True
    outputs, parts = [], []
    for tensor in found.outputs:
        if _is_binary(wanted.get(tensor.name, {}), all_binary):
            parts.append(tensor.to_binary())
            parameters = {"binary_data_size": len(parts[-1])}
            outputs.append(_described(tensor, parameters=parameters))
        else:
            outputs.append(_described(tensor, data=tensor.to_json()))
    response = InferResponse(
        model_name=str(model), model_version=str(found.version), id=request.id, outputs=outputs
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
