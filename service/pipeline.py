"""The one way from a request to its answer; every transport translates to this and back."""

from collections.abc import Mapping, Sequence

from adapters.adapter import Adapter
from adapters.answers import Answer, Tagged
from adapters.errors import InvalidAdapter, NotFound, TooLarge
from adapters.registry import ActiveRelease
from backbone import TextRow
from service.access import Principal, authorize
from service.answers import most_scores, to_prediction
from service.aside import aside
from service.directory import Directory
from service.engine import Engine, ResidentAdapters
from service.errors import AdapterUnavailable
from service.schemas import AdapterRef, PredictRequest, PredictResponse
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
        n_scores = _check_size(request, version)
        rows = await engine.preprocess(request.inputs, version.per_token)
        answers = await engine.answer(rows, version, request.top_k)
        n_scores += _check_entities(answers)
        return await aside(
            n_scores > INLINE_SCORES, _response, tenant, release, request.inputs, rows, answers
        )

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


def _check_size(request: PredictRequest, version: Adapter) -> int:
    """How many scores the answer has at most, entities aside. Raises TooLarge."""
    each = most_scores(version.manifest, request.top_k)
    n_scores = len(request.inputs) * each
    if n_scores > MOST_SCORES:
        raise TooLarge(
            f"{len(request.inputs)} inputs with {each} labels each: an answer has at most "
            f"{MOST_SCORES} scores; send fewer inputs at once, or a smaller top_k"
        )
    return n_scores


def _check_entities(answers: Sequence[Answer]) -> int:
    """How many entities were found; they are not known before. Raises TooLarge."""
    n_entities = sum(len(each.entities) for each in answers if isinstance(each, Tagged))
    if n_entities > MOST_SCORES:
        raise TooLarge(
            f"{n_entities} entities in {len(answers)} inputs: an answer has at most {MOST_SCORES}; "
            "send fewer inputs at once"
        )
    return n_entities


def _response(
    tenant: str,
    release: ActiveRelease,
    texts: Sequence[str],
    rows: Sequence[TextRow],
    answers: Sequence[Answer],
) -> PredictResponse:
    return PredictResponse(
        adapter=AdapterRef(
            tenant=tenant, name=release.adapter, version=release.number, digest=release.digest
        ),
        backbone=release.backbone,
        predictions=[
            to_prediction(answer, text, row.spans.characters if row.spans else ())
            for answer, text, row in zip(answers, texts, rows, strict=True)
        ],
    )
