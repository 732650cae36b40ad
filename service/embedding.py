"""Vectors of texts, with no head: of a backbone, or of what an adapter's LoRA has made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from adapters import answers
from adapters.adapter import Adapter
from service import bounds
from service.access import authorize
from service.ask import Ask, loggable
from service.charging import Charging, count_tokens
from service.directory import Directory
from service.engine import Job
from service.engine.job import Times
from service.oip.names import ModelName
from service.routing import Router
from service.settings import Settings

POOLED = "pooled"


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Vectors [n, d] of texts, and how many tokens were read."""

    vectors: NDArray[np.float32]
    tokens: int


class Embedder:
    """Answers embeddings."""

    def __init__(
        self, settings: Settings, directory: Directory, router: Router, charging: Charging
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._router = router
        self._charging = charging

    async def embed(self, ask: Ask, model: str, texts: Sequence[str]) -> Embedded:
        """Embed with a backbone by its name, or with `tenant.adapter`.

        Raises:
            HeadstockError: whatever is wrong; `service/errors.py` has the statuses.
        """
        authorize(ask.principal, None, "predict")
        bounds.check_inputs(texts, self._settings)
        tenant, engine, name = ask.principal.tenant or "", self._router.backbone(model), None
        if engine is None:
            name = ModelName.parse(model)
            authorize(ask.principal, name.tenant, "predict")
            ask.facts.update(loggable(*name))
            tenant, (_, engine) = name.tenant, self._router.released(*name)
        bounds.check_floats(len(texts), engine.backbone.manifest.width(POOLED))
        self._charging.take_request(tenant)
        adapters: tuple[Adapter, ...] = ()
        if name is not None:
            routed = await self._router.route(*name)
            ask.facts["version"] = routed.release.number
            adapters, engine = (routed.version,), routed.engine
        rows = await engine.preprocess(texts, False, tenant)
        cache_mode = partial(self._directory.cache_mode, tenant)
        job = Job(tenant, adapters, 1, ask.deadline, cache_mode, embeds=POOLED)
        tokens = count_tokens(rows)
        self._charging.take_tokens(tenant, tokens)
        ask.facts.update(rows=len(rows), tokens=tokens)
        (found,) = await self._charging.compute(ask, engine, rows, [job], Times())
        self._charging.count_request(tenant)
        vectors = [each.vector for (each,) in found if isinstance(each, answers.Embedded)]
        return Embedded(np.stack(vectors), tokens)
