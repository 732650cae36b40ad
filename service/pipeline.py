"""The one way from a request to its answer; every transport translates to this and back."""

from collections.abc import Mapping, Sequence

from adapters.adapter import Adapter, Ranked
from adapters.errors import InvalidAdapter, NotFound, TooLarge
from adapters.registry import ActiveRelease
from service.access import Principal, authorize
from service.aside import aside
from service.directory import Directory
from service.engine import Engine, ResidentAdapters
from service.errors import AdapterUnavailable
from service.schemas import AdapterRef, Prediction, PredictRequest, PredictResponse, Scored
from service.settings import Settings

MOST_SCORES = 100_000  # of one answer: 5 MB of JSON
INLINE_SCORES = 2_000  # an answer with more is put together in a thread


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
        version = await self._version(release)
        n_scores = _count_scores(request, version)
        rows = await engine.preprocess(request.inputs)
        ranked = await engine.answer(rows, version, request.top_k)
        return await aside(n_scores > INLINE_SCORES, _response, tenant, release, ranked)

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
            raise AdapterUnavailable(
                f"version {release.number} runs on backbone {release.backbone}, which this server "
                "does not serve"
            )
        return engine

    async def _version(self, release: ActiveRelease) -> Adapter:
        try:
            return await self._residents.get(release.digest)
        except (InvalidAdapter, NotFound) as error:  # no fault of who asks for a prediction
            raise AdapterUnavailable(
                f"version {release.number} cannot be loaded: {error}"
            ) from error


def _count_scores(request: PredictRequest, version: Adapter) -> int:
    """How many scores the answer has. Raises TooLarge."""
    n_labels = min(request.top_k, len(version.manifest.labels))
    n_scores = len(request.inputs) * n_labels
    if n_scores > MOST_SCORES:
        raise TooLarge(
            f"{len(request.inputs)} inputs with {n_labels} labels each: an answer has at most "
            f"{MOST_SCORES} scores; send fewer inputs at once, or a smaller top_k"
        )
    return n_scores


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
