"""Made from the method table and the `.proto` files: a method that is added tomorrow is tested."""

from typing import Any

import grpc
import pytest

from adapters.errors import HeadstockError
from service.errors import STATUS
from service.grpc.methods import METHODS, Method
from service.protos import inference_pb2, registry_pb2
from tests.contract.grpc_support import Rpc, request_of
from tests.contract.support import ADMIN

GUARDED = [method for method in METHODS if method.scope is not None]
OF_TENANTS = [method for method in GUARDED if method.names is not None]
SCOPED = [method for method in GUARDED if method.scope != "any"]
NEEDS_NO_KEY = {"ServerLive", "ServerReady"}


def shown(method: Method) -> str:
    return method.name


def test_the_table_is_what_the_protos_say() -> None:
    declared = {
        (service.full_name, method.name, method.input_type, method.output_type)
        for file in (inference_pb2, registry_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert declared == {
        (method.service, method.name, method.request.DESCRIPTOR, method.answer.DESCRIPTOR)
        for method in METHODS
    }


def test_no_method_is_open_by_oversight() -> None:
    assert {method.name for method in METHODS if method.scope is None} == NEEDS_NO_KEY
    # A request that names a tenant's thing is one whose tenant is looked at.
    for method in METHODS:
        fields = method.request.DESCRIPTOR.fields_by_name
        assert (method.names is not None) == bool({"tenant", "name", "model_name"} & set(fields))


def test_every_error_has_a_status_of_grpc() -> None:
    for kind, _, name, _ in STATUS:
        assert issubclass(kind, HeadstockError)
        assert name in grpc.StatusCode.__members__


@pytest.mark.parametrize("method", GUARDED, ids=shown)
async def test_without_a_key_nothing_is_answered(rpc: Rpc, method: Method) -> None:
    good = rpc.server.keys["acme"]
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    for tenant in ("acme", "nobody", "NOT.A.NAME"):
        for key in (None, wrong, "hs_x_y", ""):
            request = request_of(method, tenant)
            await rpc.refusal(grpc.StatusCode.UNAUTHENTICATED, method.name, request, key=key)


@pytest.mark.parametrize("method", OF_TENANTS, ids=shown)
async def test_another_tenants_things_are_as_if_they_were_not(rpc: Rpc, method: Method) -> None:
    said = [
        await rpc.refusal(
            grpc.StatusCode.NOT_FOUND,
            method.name,
            request_of(method, tenant),
            key=rpc.server.keys["other"],
        )
        for tenant in ("acme", "nobody")
    ]
    assert said[0].replace("acme", "") == said[1].replace("nobody", "")


@pytest.mark.parametrize("method", SCOPED, ids=shown)
async def test_a_key_that_lacks_the_scope_is_told_so(rpc: Rpc, method: Method) -> None:
    key = await rpc.server.new_key("acme", "publish" if method.scope == "predict" else "predict")
    said = await rpc.refusal(
        grpc.StatusCode.PERMISSION_DENIED, method.name, request_of(method, "acme"), key=key
    )
    assert repr(method.scope) in said


@pytest.mark.parametrize("method", GUARDED, ids=shown)
async def test_a_key_with_the_scope_gets_past_the_door(rpc: Rpc, method: Method) -> None:
    scope = "predict" if method.scope == "any" else str(method.scope)
    doors = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
    own = [] if scope == "admin" else [await rpc.server.new_key("acme", scope)]
    for key in (*own, ADMIN):
        assert await code_of(rpc, method, key) not in doors


async def code_of(rpc: Rpc, method: Method, key: str) -> grpc.StatusCode:
    """How a call ends."""
    try:
        await rpc.call(method.name, request_of(method, "acme"), key=key)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_of_several_keys_none_counts(rpc: Rpc) -> None:
    ask: Any = rpc.channel.unary_unary(GUARDED[0].path)
    request = request_of(GUARDED[0], "acme").SerializeToString()
    for keys in ((ADMIN, ADMIN), ("wrong", ADMIN), (ADMIN, "wrong")):
        metadata = [("authorization", f"Bearer {key}") for key in keys]
        with pytest.raises(grpc.aio.AioRpcError, match="2 headers") as caught:
            await ask(request, metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_names_of_no_tenant_are_refused(rpc: Rpc) -> None:
    request = registry_pb2.ListAdaptersRequest(tenant="Not A Name")
    await rpc.refusal(grpc.StatusCode.INVALID_ARGUMENT, "ListAdapters", request)
    for name in ("", "acme", "acme.", ".intents", "ACME.intents", "a\nb.c"):
        await rpc.refusal(
            grpc.StatusCode.NOT_FOUND, "ModelReady", inference_pb2.ModelReadyRequest(name=name)
        )
