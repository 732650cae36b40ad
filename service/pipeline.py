"""The one way from a request to its answer; every transport translates to this and back."""

import asyncio
from collections.abc import Mapping, Sequence

from adapters.adapter import Ranked
from adapters.errors import TooLarge, WrongBackbone
from adapters.registry import ActiveRelease
from backbone import Backbone, TextRow
from service.access import Principal, authorize
from service.directory import Directory
from service.engine import Engine, ResidentAdapters
from service.schemas import AdapterRef, Prediction, PredictRequest, PredictResponse, Scored
from service.settings import Settings

_INLINE_CHARS = 20_000  # more text than this is tokenized in a thread, so that others go on


class Pipeline:
    """Answers predictions."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        residents: ResidentAdapters,
        engines: Mapping[str, Engine],
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._residents = residents
        self._engines = engines  # by backbone digest

    async def predict(
        self, principal: Principal, tenant: str, adapter: str, request: PredictRequest
    ) -> PredictResponse:
        """Authorize, route, preprocess, compute, answer.

        Raises:
            HeadstockError: whatever is wrong; `service/errors.py` has the statuses.
        """
        authorize(principal, tenant, "predict")
        self._check_limits(request.inputs)
        release = self._directory.release(tenant, adapter)
        engine = self._engine(release)
        version = await self._residents.get(release.digest)
        rows = await preprocess(engine.backbone, request.inputs)
        ranked = await engine.answer(rows, version, request.top_k)
        return _response(tenant, release, ranked)

    def _check_limits(self, inputs: Sequence[str]) -> None:
        most = min(self._settings.max_inputs, self._settings.queue_rows)  # more could never wait
        if len(inputs) > most:
            raise TooLarge(f"{len(inputs)} inputs; a request has at most {most}")
        for position, text in enumerate(inputs):
            if len(text) > self._settings.max_text_chars:
                raise TooLarge(
                    f"input {position} has {len(text)} characters; a text has at most "
                    f"{self._settings.max_text_chars}"
                )

    def _engine(self, release: ActiveRelease) -> Engine:
        engine = self._engines.get(release.backbone)
        if engine is None:
            raise WrongBackbone(
                f"version {release.number} runs on backbone {release.backbone}, which this server "
                "does not serve"
            )
        return engine


async def preprocess(backbone: Backbone, texts: Sequence[str]) -> list[TextRow]:
    """Rows of `texts`; much text goes to a thread."""
    if sum(map(len, texts)) > _INLINE_CHARS:
        return await asyncio.to_thread(lambda: [backbone.preprocess(text) for text in texts])
    return [backbone.preprocess(text) for text in texts]


def _response(tenant: str, release: ActiveRelease, ranked: Sequence[Ranked]) -> PredictResponse:
    return PredictResponse(
        adapter=AdapterRef(
            tenant=tenant, name=release.adapter, version=release.number, digest=release.digest
        ),
        backbone=release.backbone,
        predictions=[
            Prediction(
                label=row[0][0],
                score=row[0][1],
                top=[Scored(label=label, score=score) for label, score in row],
            )
            for row in ranked
        ],
    )
