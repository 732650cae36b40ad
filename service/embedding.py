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
from service.ask import Ask
from service.charging import Charging
from service.directory import Directory
from service.engine import Job
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
        tenant, adapters = ask.principal.tenant or "", tuple[Adapter, ...]()
        engine = self._router.backbone(model)
        if engine is not None:
            self._charging.take_request(tenant)
        else:
            name = ModelName.parse(model)
            authorize(ask.principal, name.tenant, "predict")
            tenant = name.tenant
            self._charging.take_request(tenant)
            routed = await self._router.route(*name)
            adapters, engine = (routed.version,), routed.engine
            ask.facts.update(name._asdict(), version=routed.release.number)
        bounds.check_floats(len(texts), engine.backbone.manifest.width(POOLED))
        rows = await engine.preprocess(texts, False, tenant)
        cache_mode = partial(self._directory.cache_mode, tenant)
        job = Job(tenant, adapters, 1, ask.deadline, cache_mode, embeds=POOLED)
        (found,) = await self._charging.answer(ask, engine, rows, [job])
        self._charging.add_request(tenant)
        vectors = [each.vector for (each,) in found if isinstance(each, answers.Embedded)]
        return Embedded(np.stack(vectors), sum(row.length for row in rows))
