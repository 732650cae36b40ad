"""Everything of one server, wired in one place."""

import asyncio
import errno
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from pydantic import SecretStr

from adapters.errors import InvalidInput
from adapters.registry import Registry
from backbone import load_backbone
from backbone.cores import cores
from service.access import Keyring
from service.backbones import backbone_folders
from service.charging import Charging
from service.control import Control
from service.directory import Directory
from service.embedding import Embedder
from service.engine import Engine, EngineLimits, FeatureCache, Plan, ResidentAdapters, Tuned, tune
from service.follower import Follower
from service.log import log_info, log_state
from service.metrics import Metrics
from service.parsing import ParseQueue
from service.pipeline import Pipeline
from service.rates import Rates
from service.routing import Router
from service.settings import Settings
from service.shares import Shares
from service.statistics import Statistics
from service.tracing import Tracing
from service.uploads import Budgets

_MOST_DOWNLOADS = 8  # whole files in memory, for as long as a client takes to read them


@dataclass(slots=True)
class Life:
    """Whether a server has been asked to stop; it then answers what comes, and is not ready."""

    is_leaving: bool = False


@dataclass(frozen=True, slots=True)
class Runtime:
    """A started server: what transports need, and what must be stopped."""

    settings: Settings
    metrics: Metrics
    keyring: Keyring
    router: Router
    pipeline: Pipeline
    embedder: Embedder
    control: Control
    registry: Registry
    follower: Follower
    engines: tuple[Engine, ...]
    tracing: Tracing
    downloads: Shares
    budgets: Budgets
    charging: Charging
    parsing: ParseQueue
    statistics: Statistics
    life: Life = field(default_factory=Life)

    @property
    def is_ready(self) -> bool:
        """Whether this server shall be sent requests."""
        is_heard = self.settings.log_loss == "ready" or not log_state().is_failing
        return is_heard and not self.life.is_leaving

    @staticmethod
    def check(settings: Settings) -> None:
        """Whether a server could start. Raises what `start` raises."""
        for folder in backbone_folders(settings):
            load_backbone(folder)
        Registry.open(settings.registry_url).close()
        Tracing.check()

    @classmethod
    async def start(cls, settings: Settings) -> Self:
        """Load backbones, open the registry, start engines.

        Raises:
            BackboneError: a backbone is missing or is not what was added.
            RegistryUnavailable: the database cannot be used.
            InvalidInput: spans cannot be exported as the environment wants it.
        """
        tracing = Tracing()
        tracing.configure()
        metrics = Metrics()
        tuned = tune_backbones(settings)
        backbones = [each.backbone for each in tuned]
        registry = Registry.open(settings.registry_url)
        features = FeatureCache(settings.feature_cache_bytes, metrics)
        statistics = Statistics()
        directory = Directory(features.forget, statistics.forget_adapter)
        residents = ResidentAdapters(registry.read_content, settings.resident_bytes, metrics)
        follower = Follower(registry, directory, residents, metrics, settings.poll_s)
        engines = {
            each.backbone.digest: Engine(
                each.backbone,
                engine_limits(settings, each.plan),
                metrics.engine(each.backbone.name),
                features,
            )
            for each in tuned
        }
        admin_key, metrics_key = map(_reveal, (settings.admin_key, settings.metrics_key))
        served = {each.digest: each for each in backbones}
        control = Control(registry, follower, residents, served, metrics.usage)
        router = Router(directory, residents, engines, control.find_version)
        rates = Rates(directory)
        for forget in (rates.forget, metrics.usage.forget, statistics.forget_tenant):
            directory.when_gone(forget)
        charging = Charging(rates, metrics.usage)
        runtime = cls(
            settings=settings,
            metrics=metrics,
            keyring=Keyring(directory, admin_key, metrics_key),
            router=router,
            pipeline=Pipeline(settings, directory, router, charging, statistics),
            embedder=Embedder(settings, directory, router, charging),
            control=control,
            registry=registry,
            follower=follower,
            engines=tuple(engines.values()),
            tracing=tracing,
            downloads=Shares(_MOST_DOWNLOADS),
            budgets=Budgets(settings),
            charging=charging,
            parsing=ParseQueue(),
            statistics=statistics,
        )
        if admin_key is None:
            announce_admin_key(registry)
        try:
            await follower.start()
            for engine in runtime.engines:
                engine.start()
        except BaseException:
            await runtime.stop()
            raise
        return runtime

    async def stop(self) -> None:
        """Stop in the reverse order; called when no request is under way any more."""
        self.parsing.stop()
        for engine in self.engines:
            await engine.stop()
        await self.control.stop()
        await self.follower.stop()
        self.registry.close()
        await asyncio.to_thread(self.tracing.stop)


def _reveal(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def tune_backbones(settings: Settings) -> list[Tuned]:
    """The backbones of the settings, verified, each with how its runs go best here."""
    tuned = [
        tune(partial(load_backbone, folder), cores(), settings.runs, settings.threads)
        for folder in backbone_folders(settings)
    ]
    for each in tuned:
        log_info("backbone", each.facts())
    return tuned


def engine_limits(settings: Settings, plan: Plan) -> EngineLimits:
    """What an engine is bounded by: as set, and as measured."""
    return EngineLimits(
        queue_rows=settings.queue_rows,
        longest_wait_s=settings.max_wait_s,
        request_s=settings.request_s,
        batch_tokens=settings.batch_tokens,
        runs=plan.runs,
        lora_ranks=settings.lora_ranks,
        tokens_per_s=plan.tokens_per_s,
    )


def announce_admin_key(registry: Registry) -> None:
    """On the very first start, make the admin key and print it, this once, to standard error.

    Raises:
        InvalidInput: it cannot be printed, and so was not made.
    """
    if registry.ensure_admin_key(_show_admin_key) is None:
        said = "The admin key was shown at the first start; HEADSTOCK_ADMIN_KEY sets another."
        with suppress(OSError):
            _print(said)


def _show_admin_key(key: str) -> None:
    try:
        _print(f"Admin key, shown this once:\n\n      export HEADSTOCK_KEY={key}")
    except OSError as error:
        raise InvalidInput(
            f"the admin key cannot be shown: standard error cannot be written ({error.strerror}); "
            "repair that, or choose a key with HEADSTOCK_ADMIN_KEY"
        ) from error


def _print(text: str) -> None:
    if sys.stderr is None:  # `print` would take standard output in its place
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    print(f"\n  {text}\n", file=sys.stderr, flush=True)
