"""Which version answers for an adapter, and which engine computes it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from adapters.adapter import Adapter
from adapters.errors import InvalidAdapter, NotFound
from adapters.registry import ActiveRelease
from service.aside import aside
from service.bounds import INLINE_MODELS
from service.directory import Directory
from service.engine import Engine, ResidentAdapters
from service.errors import AdapterUnavailable
from service.oip.names import ModelName
from service.oip.schemas import IndexedModel, ModelIndex

# Tenant, adapter and number of a version that is not released, to what a release says of one.
FindVersion = Callable[[str, str, int], Awaitable[ActiveRelease]]


@dataclass(frozen=True, slots=True)
class Routed:
    """A version in memory, and where its rows are computed."""

    release: ActiveRelease
    version: Adapter
    engine: Engine


class Router:
    """From names to versions and engines."""

    def __init__(
        self,
        directory: Directory,
        residents: ResidentAdapters,
        engines: Mapping[str, Engine],
        find_version: FindVersion,
    ) -> None:
        """`engines` are by their backbone's digest."""
        self._directory = directory
        self._residents = residents
        self._engines = engines
        self._by_name = {engine.backbone.name: engine for engine in engines.values()}
        self._find_version = find_version

    async def route(self, tenant: str, adapter: str, version: int | None = None) -> Routed:
        """The released version of an adapter, or the one that is named.

        Raises NotFound, AdapterUnavailable.
        """
        release = await self._find(tenant, adapter, version)
        engine = self._engine(release)
        try:
            return Routed(release, await self._residents.get(release.digest), engine)
        except (InvalidAdapter, NotFound) as error:  # no fault of who asks for a prediction
            raise AdapterUnavailable(
                f"version {release.number} cannot be loaded: {error}"
            ) from error

    def released(self, tenant: str, adapter: str) -> tuple[ActiveRelease, Engine]:
        """What answers for an adapter, and where, without loading it. Raises as `route`."""
        release = self._directory.release(tenant, adapter)
        return release, self._engine(release)

    def backbone(self, name: str) -> Engine | None:
        """The engine of a backbone by its name."""
        return self._by_name.get(name)

    async def check(self, tenant: str, adapter: str, version: int | None) -> None:
        """Whether a version could be asked here, the released one if none is named.

        Raises NotFound, AdapterUnavailable.
        """
        self._engine(await self._find(tenant, adapter, version))

    def backbones(self) -> Sequence[str]:
        """The names of the backbones that are served here, sorted."""
        return sorted(self._by_name)

    def released_adapters(
        self, tenant: str | None, ready_only: bool
    ) -> list[tuple[str, ActiveRelease]]:
        """The released adapters of a tenant, of all where None, each with its tenant's name."""
        return [
            (name, release)
            for name in (self._directory.tenants() if tenant is None else [tenant])
            for release in self._directory.releases(name).values()
            if release.backbone in self._engines or not ready_only
        ]

    async def index(self, tenant: str | None, ready_only: bool) -> ModelIndex:
        """The released adapters of a tenant, of all where None, and whether they answer here."""
        found = self.released_adapters(tenant, ready_only)
        return await aside(len(found) > INLINE_MODELS, self._index, found)

    def _index(self, found: Sequence[tuple[str, ActiveRelease]]) -> ModelIndex:
        """It reads nothing that changes: it may run in a thread."""
        return ModelIndex([self._indexed(name, release) for name, release in found])

    def _indexed(self, tenant: str, release: ActiveRelease) -> IndexedModel:
        is_served = release.backbone in self._engines
        return IndexedModel(
            name=str(ModelName(tenant, release.adapter)),
            version=str(release.number),
            state="READY" if is_served else "UNAVAILABLE",
            reason="" if is_served else f"its backbone {release.backbone} is not served here",
        )

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
