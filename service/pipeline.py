"""The one way from a request to its answer; every transport translates to this and back."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from adapters import answers
from adapters.adapter import Adapter
from adapters.answers import Answer
from adapters.errors import InvalidAdapter, NotFound, Overloaded
from adapters.registry import ActiveRelease
from backbone import BackboneError, TextRow
from service import bounds
from service.access import Principal, authorize
from service.answers import count, to_prediction
from service.aside import aside
from service.directory import Directory
from service.engine import Engine, Job, ResidentAdapters
from service.engine.admission import Load
from service.engine.guess import LoadGuess
from service.errors import AdapterUnavailable
from service.oip.names import ModelName
from service.oip.schemas import IndexedModel, ModelIndex
from service.rates import Rates
from service.schemas import (
    AdapterRef,
    FanOutRequest,
    FanOutResponse,
    PredictRequest,
    PredictResponse,
)
from service.settings import Settings
from service.usage import Usage

POOLED = "pooled"
# Tenant, adapter and number of a version that is not released, to what a release says of one.
FindVersion = Callable[[str, str, int], Awaitable[ActiveRelease]]


@dataclass(frozen=True, slots=True)
class _Routed:
    """Which version answers for an adapter, and where."""

    release: ActiveRelease
    version: Adapter
    engine: Engine


@dataclass(frozen=True, slots=True)
class Answered:
    """A version's answers to all inputs, with the rows that they are about."""

    release: ActiveRelease
    version: Adapter
    rows: Sequence[TextRow]
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Vectors [n, d] of texts, and how many tokens were read."""

    vectors: NDArray[np.float32]
    tokens: int


class Pipeline:
    """Answers predictions."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        residents: ResidentAdapters,
        engines: Mapping[str, Engine],
        find_version: FindVersion,
        rates: Rates,
        usage: Usage,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._residents = residents
        self._engines = engines  # by backbone digest
        self._by_name = {engine.backbone.name: engine for engine in engines.values()}
        self._find_version = find_version
        self._rates = rates
        self._usage = usage
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
        found = await self._predict(
            principal,
            tenant,
            [(adapter, None)],
            request.inputs,
            request.top_k,
            deadline,
            body_bytes,
        )
        (response,) = await _responses(tenant, request.inputs, found)
        return response

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
        wanted = [(adapter, None) for adapter in request.adapters]
        found = await self._predict(
            principal, tenant, wanted, request.inputs, request.top_k, deadline
        )
        return FanOutResponse(results=await _responses(tenant, request.inputs, found))

    async def infer(
        self,
        principal: Principal,
        tenant: str,
        adapter: str,
        version: int | None,
        texts: Sequence[str],
        top_k: int,
        deadline: float | None = None,
    ) -> Answered:
        """What one adapter says to each text, in a version that need not be the released one.

        Raises as `predict`.
        """
        (found,) = await self._predict(
            principal, tenant, [(adapter, version)], texts, top_k, deadline
        )
        return found

    async def embed(
        self,
        principal: Principal,
        model: str,
        texts: Sequence[str],
        deadline: float | None = None,
    ) -> Embedded:
        """The vectors of a backbone, or of what a tenant's adapter has made of it by its LoRA.

        Raises as `predict`.
        """
        authorize(principal, None, "predict")
        bounds.check_inputs(texts, self._settings)
        tenant, adapters = principal.tenant or "", tuple[Adapter, ...]()
        engine = self._by_name.get(model)
        if engine is None:
            name = ModelName.parse(model)
            authorize(principal, name.tenant, "predict")
            routed = await self._route(*name, None)
            tenant, adapters, engine = name.tenant, (routed.version,), routed.engine
        bounds.check_floats(len(texts), engine.backbone.manifest.width(POOLED))
        self._rates.take_request(tenant)
        rows = await engine.preprocess(texts, False, tenant)
        tokens = sum(row.length for row in rows)
        self._rates.take_tokens(tenant, tokens)
        cache_mode = partial(self._directory.cache_mode, tenant)
        job = Job(tenant, adapters, 1, deadline, cache_mode, embeds=POOLED)
        try:
            (found,) = await engine.answer(rows, job)
        except BackboneError as error:
            raise AdapterUnavailable(f"the backbone cannot answer: {error}") from error
        vectors = [each.vector for (each,) in found if isinstance(each, answers.Embedded)]
        cost = job.cost(len(rows), tokens)
        self._usage.add(tenant, requests=1, rows=len(rows), tokens=tokens, cost=cost)
        return Embedded(np.stack(vectors), tokens)

    async def check_model(self, tenant: str, adapter: str, version: int | None) -> None:
        """Whether a version could be asked here, the released one if none is named.

        Raises NotFound, AdapterUnavailable.
        """
        self._engine(await self._find(tenant, adapter, version))

    def index(self, tenant: str | None, ready_only: bool) -> ModelIndex:
        """The released adapters of a tenant, of all where None, and whether they answer here."""
        found = [
            IndexedModel(
                name=str(ModelName(name, release.adapter)),
                version=str(release.number),
                state="READY" if release.backbone in self._engines else "UNAVAILABLE",
                reason=""
                if release.backbone in self._engines
                else f"its backbone {release.backbone} is not served here",
            )
            for name in (self._directory.tenants() if tenant is None else [tenant])
            for release in self._directory.releases(name).values()
        ]
        return ModelIndex([each for each in found if each.state == "READY" or not ready_only])

    async def _predict(
        self,
        principal: Principal,
        tenant: str,
        adapters: Sequence[tuple[str, int | None]],
        texts: Sequence[str],
        top_k: int,
        deadline: float | None,
        body_bytes: int = 0,
    ) -> list[Answered]:
        """Authorize, route, preprocess, compute; `adapters` are names with versions, if wanted."""
        authorize(principal, tenant, "predict")
        bounds.check_inputs(texts, self._settings)
        self._rates.take_request(tenant)
        routed: list[_Routed] = []
        for adapter, version in adapters:
            routed.append(await self._route(tenant, adapter, version))
            bounds.check_weights([each.version for each in routed], len(texts))
        bounds.check_size(len(texts), top_k, [each.version for each in routed])
        answered = await self._compute(tenant, routed, texts, top_k, deadline, body_bytes)
        self._usage.add(tenant, requests=1)
        bounds.check_entities(answer for each in answered for answer in each.answers)
        return answered

    async def _route(self, tenant: str, adapter: str, version: int | None) -> _Routed:
        release = await self._find(tenant, adapter, version)
        engine = self._engine(release)
        return _Routed(release, await self._version(release), engine)

    async def _find(self, tenant: str, adapter: str, version: int | None) -> ActiveRelease:
        release = self._directory.release(tenant, adapter)
        if version is None or version == release.number:
            return release
        return await self._find_version(tenant, adapter, version)

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
        texts: Sequence[str],
        top_k: int,
        deadline: float | None,
        body_bytes: int,
    ) -> list[Answered]:
        """Each routed adapter's answers; one job for all that a pass of a backbone serves."""
        by_engine: defaultdict[Engine, list[int]] = defaultdict(list)
        for place, each in enumerate(routed):
            by_engine[each.engine].append(place)
        answered: dict[int, Answered] = {}
        # One backbone after the other: a tenant with adapters on several is a rare one.
        for engine, places in by_engine.items():
            versions = {place: routed[place].version for place in places}
            groups = _by_lora(versions)
            bounds.check_rows(len(texts) * len(groups), self._settings.queue_rows)
            cache_mode = partial(self._directory.cache_mode, tenant)
            jobs = [
                Job(
                    tenant,
                    tuple(versions[place] for place in group),
                    top_k,
                    deadline,
                    cache_mode,
                )
                for group in groups
            ]
            rows = await engine.preprocess(
                texts, any(version.per_token for version in versions.values()), tenant
            )
            tokens = sum(row.length for row in rows)
            self._rates.take_tokens(tenant, tokens * len(jobs))
            if body_bytes:
                load = Load(len(rows), jobs[0].cost(len(rows), tokens))
                self._loads.learn(tenant, routed[0].release.digest, body_bytes, load)
            try:
                found_by_job = await engine.answer(rows, *jobs)
            except BackboneError as error:
                raise AdapterUnavailable(f"the backbone cannot answer: {error}") from error
            cost = sum(job.cost(len(rows), tokens) for job in jobs)
            self._usage.add(tenant, rows=len(rows), tokens=tokens, cost=cost)
            for group, found in zip(groups, found_by_job, strict=True):
                for position, place in enumerate(group):
                    own = [each[position] for each in found]
                    release, version = routed[place].release, routed[place].version
                    answered[place] = Answered(release, version, rows, own)
        return [answered[place] for place in range(len(routed))]


def _by_lora(versions: Mapping[int, Adapter]) -> list[list[int]]:
    """The places of versions that one pass of the backbone serves: those with one LoRA, or none."""
    groups: defaultdict[str | None, list[int]] = defaultdict(list)
    for place, version in versions.items():
        groups[version.lora.digest if version.lora else None].append(place)
    return list(groups.values())


async def _responses(
    tenant: str, texts: Sequence[str], answered: Sequence[Answered]
) -> list[PredictResponse]:
    n_scores = sum(count(answer) for each in answered for answer in each.answers)
    return await aside(
        n_scores > bounds.INLINE_SCORES,
        lambda: [_response(tenant, texts, each) for each in answered],
    )


def _response(tenant: str, texts: Sequence[str], answered: Answered) -> PredictResponse:
    release = answered.release
    return PredictResponse(
        adapter=AdapterRef(
            tenant=tenant, name=release.adapter, version=release.number, digest=release.digest
        ),
        backbone=release.backbone,
        predictions=[
            to_prediction(answer, text, row.spans.characters if row.spans else ())
            for answer, text, row in zip(answered.answers, texts, answered.rows, strict=True)
        ],
    )
