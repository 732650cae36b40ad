"""A handler a route: unpack the call, ask the pipeline or the registry, pack the answer."""

from base64 import b64encode
from functools import partial

from pydantic import BaseModel
from starlette.responses import Response

from adapters.errors import Overloaded, TenantOverloaded
from service import schemas
from service.answers import count_scores
from service.aside import aside
from service.bounds import INLINE_MODELS, INLINE_SCORES, MOST_LISTED, USUALLY_LISTED
from service.embedding import Embedded
from service.http.call import HttpCall, json_response, long_json_response
from service.http.file import FileResponse
from service.models import MOST_MODELS, find_model
from service.models import list_models as list_models_of


async def create_tenant(call: HttpCall) -> Response:
    """Create a tenant."""
    wanted = await call.json(schemas.NewTenant)
    return json_response(
        await call.runtime.control.create_tenant(wanted.name, call.actor.key_id), 201
    )


async def list_tenants(call: HttpCall) -> Response:
    """List tenants."""
    return json_response(await call.runtime.control.list_tenants(*_page(call)))


async def delete_tenant(call: HttpCall) -> Response:
    """Delete a tenant with its keys, quota, adapters, versions and releases."""
    await call.runtime.control.delete_tenant(call.path("tenant"), call.actor.key_id)
    return Response(status_code=204)


async def get_feature_cache(call: HttpCall) -> Response:
    """Show whether features of the tenant's inputs may be kept."""
    return json_response(await call.runtime.control.get_feature_cache(call.path("tenant")))


async def set_feature_cache(call: HttpCall) -> Response:
    """Let features of the tenant's inputs be kept for it alone, for all that share, or not."""
    wanted = await call.json(schemas.FeatureCacheMode)
    return json_response(
        await call.runtime.control.set_feature_cache(
            call.path("tenant"), wanted.mode, call.actor.key_id
        )
    )


async def get_quota(call: HttpCall) -> Response:
    """Show what the tenant may have and ask at most."""
    return json_response(await call.runtime.control.get_quota(call.path("tenant")))


async def set_quota(call: HttpCall) -> Response:
    """Set what the tenant may have and ask at most; what is not named has no limit."""
    wanted = await call.json(schemas.Quota)
    return json_response(
        await call.runtime.control.set_quota(call.path("tenant"), wanted, call.actor.key_id)
    )


async def get_usage(call: HttpCall) -> Response:
    """Show what the tenant has and has used."""
    return json_response(await call.runtime.control.get_usage(call.path("tenant")))


async def create_key(call: HttpCall) -> Response:
    """Create a key of a tenant; its text is in this answer alone."""
    wanted = await call.json(schemas.NewKeyRequest)
    key = await call.runtime.control.create_key(call.path("tenant"), wanted, call.actor.key_id)
    return json_response(key, 201)


async def rotate_key(call: HttpCall) -> Response:
    """Make a key in place of another, which works on for a while."""
    wanted = await call.json(schemas.KeyRotation)
    key = await call.runtime.control.rotate_key(
        call.path("tenant"), call.path("key"), wanted, call.actor.key_id
    )
    return json_response(key, 201)


async def list_keys(call: HttpCall) -> Response:
    """List a tenant's keys, without their secrets."""
    return json_response(await call.runtime.control.list_keys(call.path("tenant"), *_page(call)))


async def revoke_key(call: HttpCall) -> Response:
    """Revoke a key."""
    await call.runtime.control.revoke_key(call.path("tenant"), call.path("key"), call.actor.key_id)
    return Response(status_code=204)


async def list_audit(call: HttpCall) -> Response:
    """List changes of all tenants, newest first."""
    return json_response(await call.runtime.control.list_audit(None, *_numbered_page(call)))


async def list_tenant_audit(call: HttpCall) -> Response:
    """List changes of a tenant, newest first."""
    return json_response(
        await call.runtime.control.list_audit(call.path("tenant"), *_numbered_page(call))
    )


def _page(call: HttpCall) -> tuple[int, str | None]:
    """How many of a list, and after which name or id. Raises InvalidInput."""
    return _limit(call), call.text("after")


def _numbered_page(call: HttpCall) -> tuple[int, int | None]:
    """The same of a list whose items have numbers."""
    return _limit(call), call.whole("after", 2**62)


def _limit(call: HttpCall) -> int:
    return call.whole("limit", MOST_LISTED) or USUALLY_LISTED


async def list_adapters(call: HttpCall) -> Response:
    """List a tenant's adapters."""
    return json_response(
        await call.runtime.control.list_adapters(call.path("tenant"), *_page(call))
    )


async def delete_adapter(call: HttpCall) -> Response:
    """Delete an adapter with its versions and its release."""
    await call.runtime.control.delete_adapter(
        call.path("tenant"), call.path("adapter"), call.actor.key_id
    )
    return Response(status_code=204)


async def upload_version(call: HttpCall) -> Response:
    """Upload an adapter file as a new version; the same bytes again are the same version."""
    activate = call.flag("activate")
    tenant, adapter, control = call.path("tenant"), call.path("adapter"), call.runtime.control
    room = await control.upload_room(tenant, adapter, call.announced_bytes)
    content = await call.body(
        call.runtime.settings.max_upload_bytes, call.runtime.budgets.uploads, room.check
    )
    published = await control.publish(tenant, adapter, content, activate, call.actor.key_id)
    return json_response(published, 201 if published.created else 200)


async def list_versions(call: HttpCall) -> Response:
    """List an adapter's versions, without their manifests."""
    return json_response(
        await call.runtime.control.list_versions(
            call.path("tenant"), call.path("adapter"), *_numbered_page(call)
        )
    )


async def delete_version(call: HttpCall) -> Response:
    """Delete a version that is not released; its number is not given again."""
    await call.runtime.control.delete_version(
        call.path("tenant"), call.path("adapter"), call.number("version"), call.actor.key_id
    )
    return Response(status_code=204)


async def get_version(call: HttpCall) -> Response:
    """Show one version with its manifest."""
    return json_response(
        await call.runtime.control.get_version(
            call.path("tenant"), call.path("adapter"), call.number("version")
        )
    )


async def read_file(call: HttpCall) -> Response:
    """Download the file of one version."""
    places, holder = call.runtime.downloads, call.actor.holder
    if not places.take(holder, 1):
        kind = TenantOverloaded if places.held(holder) else Overloaded
        raise kind(f"{places.lent} files are being sent; try again when one of them is there")
    try:
        digest, content = await call.runtime.control.read_file(
            call.path("tenant"), call.path("adapter"), call.number("version")
        )
    except BaseException:
        places.give_back(holder, 1)
        raise
    return FileResponse(digest, content, partial(places.give_back, holder, 1))


async def get_release(call: HttpCall) -> Response:
    """Show which version answers."""
    return _release_response(
        await call.runtime.control.get_release(call.path("tenant"), call.path("adapter"))
    )


async def set_release(call: HttpCall) -> Response:
    """Let another version answer; with If-Match, only if nobody changed it in the meantime."""
    wanted = await call.json(schemas.ReleaseRequest)
    return _release_response(
        await call.runtime.control.set_release(
            call.path("tenant"),
            call.path("adapter"),
            wanted.stable,
            call.expected_revision(),
            call.actor.key_id,
        )
    )


async def rollback(call: HttpCall) -> Response:
    """Let the version before answer again; once more, the one before that."""
    return _release_response(
        await call.runtime.control.rollback(
            call.path("tenant"),
            call.path("adapter"),
            call.expected_revision(),
            call.actor.key_id,
        )
    )


async def predict(call: HttpCall) -> Response:
    """Answer texts with one of a tenant's adapters."""
    pipeline, tenant, adapter = call.runtime.pipeline, call.path("tenant"), call.path("adapter")
    body_bytes = call.announced_bytes  # before any work is done for what cannot wait
    pipeline.check_room(tenant, adapter, body_bytes)
    wanted = await call.json(schemas.PredictRequest, charged=tenant)
    with call.while_connected():  # rows of a caller who left are not computed
        ask = call.ask(body_bytes, is_charged=True)
        answer = await pipeline.predict(ask, tenant, adapter, wanted)
        return await _answer(_is_large(answer), answer)


async def predict_for_bentoml(call: HttpCall) -> Response:
    """Answer texts with a tenant's adapter, asked as BentoML's clients ask."""
    own = call.actor.tenant  # an operator's request counts against the tenant that it names
    wanted = await call.json(schemas.BentoPredictRequest, charged=own)
    with call.while_connected():
        ask = call.ask(is_charged=own is not None)
        answer = await call.runtime.pipeline.predict(ask, wanted.tenant, wanted.adapter, wanted)
        return await _answer(_is_large(answer), answer)


async def predict_all(call: HttpCall) -> Response:
    """Answer texts with several of a tenant's adapters; the backbone reads each text once."""
    tenant = call.path("tenant")
    wanted = await call.json(schemas.FanOutRequest, charged=tenant)
    with call.while_connected():
        ask = call.ask(is_charged=True)
        answer = await call.runtime.pipeline.predict_all(ask, tenant, wanted)
        return await _answer(any(map(_is_large, answer.results)), answer, lists=2)


async def embeddings(call: HttpCall) -> Response:
    """Embed texts with a backbone, in OpenAI's shape."""
    own = call.actor.tenant  # an operator's request counts against the tenant of its model
    wanted = await call.json(schemas.EmbeddingsRequest, charged=own)
    with call.while_connected():
        ask = call.ask(is_charged=own is not None)
        found = await call.runtime.embedder.embed(
            ask, wanted.model, wanted.inputs, wanted.dimensions, wanted.input_type
        )
        return await aside(found.vectors.size > INLINE_SCORES, _embeddings, wanted, found)


def _embeddings(wanted: schemas.EmbeddingsRequest, found: Embedded) -> Response:
    is_binary = wanted.encoding_format == "base64"
    data = [
        schemas.Embedding(
            index=index,
            embedding=b64encode(vector.astype("<f4").tobytes()).decode()
            if is_binary
            else vector.tolist(),
        )
        for index, vector in enumerate(found.vectors)
    ]
    usage = schemas.TokenUsage(prompt_tokens=found.tokens, total_tokens=found.tokens)
    return long_json_response(
        schemas.EmbeddingsResponse(
            data=data, model=wanted.model, usage=usage, truncated=found.truncated
        )
    )


async def _answer(is_large: bool, answer: BaseModel, lists: int = 1) -> Response:
    """What is large is put together in a thread, and there in turns with others."""
    if is_large:
        return await aside(True, long_json_response, answer, lists)
    return json_response(answer)


def _is_large(answer: schemas.PredictResponse) -> bool:
    return sum(map(count_scores, answer.predictions)) > INLINE_SCORES


async def list_models(call: HttpCall) -> Response:
    """List backbones and the adapters of the key's tenant, in OpenAI's shape."""
    runtime = call.runtime
    limit, after = call.whole("limit", MOST_MODELS) or MOST_MODELS, call.text("after")
    since = runtime.metrics.usage.since
    found = await list_models_of(runtime.router, call.actor.tenant, since, limit, after)
    return await _answer(len(found.data) > INLINE_MODELS, found)


async def get_model(call: HttpCall) -> Response:
    """Show a backbone or an adapter, in OpenAI's shape."""
    runtime = call.runtime
    since = runtime.metrics.usage.since
    return json_response(find_model(runtime.router, call.actor, call.path("id"), since))


async def list_backbones(call: HttpCall) -> Response:
    """List the backbones that are served; an adapter's manifest names its backbone by digest."""
    return json_response(call.runtime.control.list_backbones(*_page(call)))


async def metrics(call: HttpCall) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(
        call.runtime.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


def _release_response(release: schemas.ReleaseInfo) -> Response:
    response = json_response(release)
    response.headers["ETag"] = f'"{release.revision}"'
    return response
