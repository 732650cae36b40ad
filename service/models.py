"""What can be asked here in OpenAI's shape: backbones, and adapters of the key's tenant."""

from collections.abc import Sequence
from datetime import datetime
from heapq import nsmallest

from adapters.registry import ActiveRelease
from service.access import Principal, authorize
from service.aside import aside
from service.bounds import INLINE_MODELS
from service.oip.names import ModelName
from service.routing import Router
from service.schemas import ModelInfo, ModelList

# Of one answer, also where the request does not say how many: OpenAI's clients read no next page.
MOST_MODELS = 10_000
_OWNER = "headstock"  # of backbones


async def list_models(
    router: Router, tenant: str | None, since: datetime, limit: int, after: str | None
) -> ModelList:
    """Backbones, then adapters of a tenant that answer here; of all tenants where None.

    At most `limit` of them, after the model of the id `after`. Raises NotFound: no such id.
    """
    released = router.released_adapters(tenant, ready_only=True)
    is_much, backbones = len(released) > INLINE_MODELS, router.backbones()
    if after is None or router.backbone(after) is not None:
        left = [name for name in backbones if after is None or name > after]
        return await aside(is_much, _listed, left, released, None, limit, since)
    last = ModelName.parse(after)
    return await aside(is_much, _listed, [], released, last, limit, since)


def _listed(
    backbones: Sequence[str],
    released: Sequence[tuple[str, ActiveRelease]],
    last: ModelName | None,
    limit: int,
    since: datetime,
) -> ModelList:
    names = (ModelName(tenant, release.adapter) for tenant, release in released)
    left = nsmallest(limit + 1, (name for name in names if last is None or name > last))
    data = [_described(name, _OWNER, since) for name in backbones]
    data += [_described(str(name), name.tenant, since) for name in left]
    return ModelList(data=data[:limit], has_more=len(data) > limit)


def find_model(router: Router, principal: Principal, model: str, since: datetime) -> ModelInfo:
    """One of them. Raises NotFound, AdapterUnavailable."""
    if router.backbone(model) is not None:
        return _described(model, _OWNER, since)
    name = ModelName.parse(model)
    authorize(principal, name.tenant, "any")
    router.released(*name)
    return _described(str(name), name.tenant, since)


def _described(model: str, owner: str, since: datetime) -> ModelInfo:
    return ModelInfo(id=model, created=int(since.timestamp()), owned_by=owner)
