"""The one way from texts to predictions; every transport translates to this and back."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from adapters.adapter import Adapter
from adapters.answers import Answer
from adapters.errors import Overloaded
from adapters.registry import ActiveRelease
from backbone import TextRow
from service import bounds
from service.access import authorize
from service.answers import count, to_prediction
from service.aside import aside
from service.ask import Ask, loggable
from service.charging import Charging, count_tokens, find_truncated
from service.directory import Directory
from service.engine import Engine, Job
from service.engine.admission import Load
from service.engine.guess import LoadGuess
from service.engine.job import Times
from service.routing import Routed, Router
from service.schemas import (
    AdapterRef,
    FanOutRequest,
    FanOutResponse,
    PredictRequest,
    PredictResponse,
)
from service.settings import Settings
from service.statistics import Statistics, VersionStatistics


@dataclass(frozen=True, slots=True)
class Answered:
    """A version's answers to all inputs, with the rows that they are about.

    These went through the backbone in so many batches as `runs`.
    """

    release: ActiveRelease
    version: Adapter
    rows: Sequence[TextRow]
    answers: Sequence[Answer]
    runs: int


class Pipeline:
    """Answers predictions."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        router: Router,
        charging: Charging,
        statistics: Statistics,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._router = router
        self._charging = charging
        self._statistics = statistics
        self._loads = LoadGuess()

    def check_room(self, tenant: str, adapter: str, body_bytes: int) -> None:
        """Refuse at once what could not wait; `body_bytes` as announced, 0 where nothing was.

        Raises NotFound, AdapterUnavailable, Overloaded.
        """
        release, engine = self._router.released(tenant, adapter)
        guess = self._loads.load(tenant, release.digest, body_bytes)
        try:
            engine.check_room(tenant, guess, self._directory.cache_mode(tenant))
        except Overloaded:
            self._loads.doubt(tenant, release.digest)
            raise

    async def predict(
        self, ask: Ask, tenant: str, adapter: str, request: PredictRequest
    ) -> PredictResponse:
        """What one adapter answers.

        Raises:
            HeadstockError: whatever is wrong; `service/errors.py` has the statuses.
        """
        found = await self._predict(ask, tenant, [(adapter, None)], request.inputs, request.top_k)
        (response,) = await _responses(tenant, request.inputs, found)
        return response

    async def predict_all(self, ask: Ask, tenant: str, request: FanOutRequest) -> FanOutResponse:
        """What several adapters answer; those that share features share the backbone's pass.

        Raises as `predict`.
        """
        wanted = [(adapter, None) for adapter in request.adapters]
        found = await self._predict(ask, tenant, wanted, request.inputs, request.top_k)
        return FanOutResponse(results=await _responses(tenant, request.inputs, found))

    async def infer(
        self,
        ask: Ask,
        tenant: str,
        adapter: str,
        version: int | None,
        texts: Sequence[str],
        top_k: int,
    ) -> Answered:
        """What one adapter says to each text, in a version that need not be the released one.

        Raises as `predict`.
        """
        (found,) = await self._predict(ask, tenant, [(adapter, version)], texts, top_k)
        return found

    async def _predict(
        self,
        ask: Ask,
        tenant: str,
        adapters: Sequence[tuple[str, int | None]],
        texts: Sequence[str],
        top_k: int,
    ) -> list[Answered]:
        """Authorize, route, preprocess, compute; `adapters` are names with versions, if wanted."""
        started = time.perf_counter()
        authorize(ask.principal, tenant, "predict")
        ask.facts.update(loggable(tenant, adapters[0][0] if len(adapters) == 1 else None))
        bounds.check_inputs(texts, self._settings)
        if not ask.is_charged:
            self._charging.take_request(tenant)
        routed: list[Routed] = []
        for adapter, version in adapters:
            routed.append(await self._router.route(tenant, adapter, version))
            bounds.check_weights([each.version for each in routed], len(texts), self._settings)
        if len(routed) == 1:
            ask.facts["version"] = routed[0].release.number
        times = Times()
        try:
            versions = [each.version for each in routed]
            bounds.check_size(len(texts), top_k, versions, self._settings)
            answered = await self._compute(ask, tenant, routed, texts, top_k, times)
            self._charging.count_request(tenant)
            found = (answer for each in answered for answer in each.answers)
            bounds.check_entities(found, self._settings)
        except BaseException:
            seconds = time.perf_counter() - started
            for asked in routed:
                self._counts(tenant, asked.release).add_failure(seconds)
            raise
        seconds = time.perf_counter() - started
        for answer in answered:
            counts = self._counts(tenant, answer.release)
            counts.add_success(len(texts), answer.runs, times, seconds)
        return answered

    def _counts(self, tenant: str, release: ActiveRelease) -> VersionStatistics:
        return self._statistics.count(tenant, release.adapter, release.number)

    async def _compute(
        self,
        ask: Ask,
        tenant: str,
        routed: Sequence[Routed],
        texts: Sequence[str],
        top_k: int,
        times: Times,
    ) -> list[Answered]:
        """Each routed adapter's answers; one job for all that a pass of a backbone serves."""
        by_engine: defaultdict[Engine, list[int]] = defaultdict(list)
        for place, each in enumerate(routed):
            by_engine[each.engine].append(place)
        answered: dict[int, Answered] = {}
        cache_mode = partial(self._directory.cache_mode, tenant)
        all_tokens = 0
        # One backbone after the other: a tenant with adapters on several is a rare one.
        for engine, places in by_engine.items():
            versions = {place: routed[place].version for place in places}
            groups = _by_lora(versions)
            bounds.check_rows(len(texts) * len(groups), self._settings.queue_rows)
            jobs = [
                Job(
                    tenant,
                    tuple(versions[place] for place in group),
                    top_k,
                    ask.deadline,
                    cache_mode,
                )
                for group in groups
            ]
            began = time.perf_counter()
            rows = await engine.preprocess(
                texts, any(version.per_token for version in versions.values()), tenant
            )
            times.prepare_s += time.perf_counter() - began
            tokens = count_tokens(rows)
            self._charging.take_tokens(tenant, tokens * len(jobs))
            all_tokens += tokens
            ask.facts.update(rows=len(rows), tokens=all_tokens)
            if ask.body_bytes:
                load = Load(len(rows), jobs[0].cost(len(rows), tokens))
                self._loads.learn(tenant, routed[0].release.digest, ask.body_bytes, load)
            found_by_job = await self._charging.compute(ask, engine, rows, jobs, times)
            runs_by_job = times.runs[-len(jobs) :]
            for group, found, runs in zip(groups, found_by_job, runs_by_job, strict=True):
                for position, place in enumerate(group):
                    own = [each[position] for each in found]
                    release, version = routed[place].release, routed[place].version
                    answered[place] = Answered(release, version, rows, own, runs)
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
        truncated=find_truncated(answered.rows),
        predictions=[
            to_prediction(answer, text, row.spans.characters if row.spans else ())
            for answer, text, row in zip(answered.answers, texts, answered.rows, strict=True)
        ],
    )
