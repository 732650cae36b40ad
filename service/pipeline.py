"""The one way from a request to its answer; every transport translates to this and back."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from adapters.adapter import Adapter
from adapters.answers import Answer
from adapters.errors import InvalidAdapter, NotFound, Overloaded
from adapters.registry import ActiveRelease
from backbone import BackboneError, TextRow
from service import bounds
from service.access import Principal, authorize
from service.answers import to_prediction
from service.aside import aside
from service.directory import Directory
from service.engine import Engine, Job, ResidentAdapters
from service.engine.admission import Load
from service.engine.guess import LoadGuess
from service.errors import AdapterUnavailable
from service.schemas import (
    AdapterRef,
    FanOutRequest,
    FanOutResponse,
    PredictRequest,
    PredictResponse,
)
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class _Routed:
    """Which version answers for an adapter, and where."""

    release: ActiveRelease
    version: Adapter
    engine: Engine


@dataclass(frozen=True, slots=True)
class _Answered:
    """A version's answers to all inputs, with the rows that they are about."""

    rows: Sequence[TextRow]
    answers: Sequence[Answer]


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
        self._loads = LoadGuess()

    def check_room(self, tenant: str, adapter: str, body_bytes: int) -> None:
        """Refuse at once what could not wait; `body_bytes` as announced, 0 where nothing was.

        Raises NotFound, AdapterUnavailable, Overloaded.
        """
        release = self._directory.release(tenant, adapter)
        guess = self._loads.load(tenant, release.digest, body_bytes)
        try:
            self._engine(release).check_room(tenant, guess, self._directory.cache_mode(tenant))
        except Overloaded:
            self._loads.doubt(tenant, release.digest)
            raise

    async def predict(
        self,
        principal: Principal,
        tenant: str,
        adapter: str,
        request: PredictRequest,
        deadline: float | None = None,
        body_bytes: int = 0,
    ) -> PredictResponse:
        """What one adapter answers. `deadline` is a `perf_counter` time.

        `body_bytes` is how long the request was as it came, for guesses at the next ones; 0 where
        that is not known.

        Raises:
            HeadstockError: whatever is wrong; `service/errors.py` has the statuses.
        """
        (result,) = await self._predict(principal, tenant, [adapter], request, deadline, body_bytes)
        return result

    async def predict_all(
        self,
        principal: Principal,
        tenant: str,
        request: FanOutRequest,
        deadline: float | None = None,
    ) -> FanOutResponse:
        """What several adapters answer; those that share features share the backbone's pass.

        Raises as `predict`.
        """
        results = await self._predict(principal, tenant, request.adapters, request, deadline)
        return FanOutResponse(results=results)

    async def _predict(
        self,
        principal: Principal,
        tenant: str,
        adapters: Sequence[str],
        request: PredictRequest,
        deadline: float | None,
        body_bytes: int = 0,
    ) -> list[PredictResponse]:
        """Authorize, route, preprocess, compute, answer."""
        authorize(principal, tenant, "predict")
        bounds.check_inputs(request.inputs, self._settings)
        routed: list[_Routed] = []
        for adapter in adapters:
            routed.append(await self._route(tenant, adapter))
            bounds.check_weights([each.version for each in routed], len(request.inputs))
        n_scores = bounds.check_size(request, [each.version for each in routed])
        answered = await self._compute(tenant, routed, request, deadline, body_bytes)
        n_scores += bounds.check_entities(answer for each in answered for answer in each.answers)
        return await aside(
            n_scores > bounds.INLINE_SCORES, _responses, tenant, request.inputs, routed, answered
        )

    async def _route(self, tenant: str, adapter: str) -> _Routed:
        release = self._directory.release(tenant, adapter)
        engine = self._engine(release)
        return _Routed(release, await self._version(release), engine)

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

    async def _compute(
        self,
        tenant: str,
        routed: Sequence[_Routed],
        request: PredictRequest,
        deadline: float | None,
        body_bytes: int,
    ) -> list[_Answered]:
        """Each routed adapter's answers; one job for all that a pass of a backbone serves."""
        by_engine: defaultdict[Engine, list[int]] = defaultdict(list)
        for place, each in enumerate(routed):
            by_engine[each.engine].append(place)
        answered: dict[int, _Answered] = {}
        # One backbone after the other: a tenant with adapters on several is a rare one.
        for engine, places in by_engine.items():
            versions = {place: routed[place].version for place in places}
            groups = _by_lora(versions)
            bounds.check_rows(len(request.inputs) * len(groups), self._settings.queue_rows)
            cache_mode = partial(self._directory.cache_mode, tenant)
            jobs = [
                Job(
                    tenant,
                    tuple(versions[place] for place in group),
                    request.top_k,
                    deadline,
                    cache_mode,
                )
                for group in groups
            ]
            rows = await engine.preprocess(
                request.inputs, any(version.per_token for version in versions.values()), tenant
            )
            if body_bytes:
                tokens = sum(row.length for row in rows)
                load = Load(len(rows), jobs[0].cost(len(rows), tokens))
                self._loads.learn(tenant, routed[0].release.digest, body_bytes, load)
            try:
                found_by_job = await engine.answer(rows, *jobs)
            except BackboneError as error:
                raise AdapterUnavailable(f"the backbone cannot answer: {error}") from error
            for group, found in zip(groups, found_by_job, strict=True):
                for position, place in enumerate(group):
                    answered[place] = _Answered(rows, [answers[position] for answers in found])
        return [answered[place] for place in range(len(routed))]


def _by_lora(versions: Mapping[int, Adapter]) -> list[list[int]]:
    """The places of versions that one pass of the backbone serves: those with one LoRA, or none."""
    groups: defaultdict[str | None, list[int]] = defaultdict(list)
    for place, version in versions.items():
        groups[version.lora.digest if version.lora else None].append(place)
    return list(groups.values())


def _responses(
    tenant: str, texts: Sequence[str], routed: Sequence[_Routed], answered: Sequence[_Answered]
) -> list[PredictResponse]:
    return [
        PredictResponse(
            adapter=AdapterRef(
                tenant=tenant,
                name=each.release.adapter,
                version=each.release.number,
                digest=each.release.digest,
            ),
            backbone=each.release.backbone,
            predictions=[
                to_prediction(answer, text, row.spans.characters if row.spans else ())
                for answer, text, row in zip(found.answers, texts, found.rows, strict=True)
            ],
        )
        for each, found in zip(routed, answered, strict=True)
    ]
