"""Keys, releases and quotas in memory: who may ask, and which version answers, asks no database."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping

from adapters.errors import NotFound
from adapters.registry import (
    ActiveRelease,
    CacheMode,
    LiveKey,
    Mark,
    Quota,
    Snapshot,
    TenantState,
)

_NOBODY = TenantState(keys=(), releases={})


class Directory:
    """Keys and releases of all tenants as of one mark. Belongs to one event loop.

    `forget` is called with each tenant whose own cached features are nobody's any more,
    `forget_adapter` with the tenant and name of each adapter that has no release any more.
    """

    def __init__(
        self,
        forget: Callable[[str], None] = lambda _: None,
        forget_adapter: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._forget = forget
        self._when_gone: list[Callable[[str], None]] = []
        self._forget_adapter = forget_adapter
        self.mark = Mark(0, None, "")
        self._tenants: dict[str, TenantState] = {}
        self._keys: dict[str, tuple[str, LiveKey]] = {}
        self._admin_keys: dict[str, LiveKey] = {}
        self._uses: Counter[str] = Counter()

    def key(self, key_id: str) -> tuple[str | None, LiveKey] | None:
        """A live key and its tenant (None: an admin key)."""
        admin = self._admin_keys.get(key_id)
        return (None, admin) if admin is not None else self._keys.get(key_id)

    def release(self, tenant: str, adapter: str) -> ActiveRelease:
        """The release that answers for an adapter. Raises NotFound."""
        state = self._tenants.get(tenant)
        if state is None:
            raise NotFound(f"no tenant {tenant[:80]!r}")
        release = state.releases.get(adapter)
        if release is None:
            raise NotFound(
                f"tenant {tenant!r} has no adapter {adapter[:80]!r} with a released version"
            )
        return release

    def releases(self, tenant: str) -> Mapping[str, ActiveRelease]:
        """All releases of a tenant, by adapter; empty for an unknown tenant."""
        return self._tenants.get(tenant, _NOBODY).releases

    def tenants(self) -> Collection[str]:
        """The names of all tenants."""
        return self._tenants.keys()

    def cache_mode(self, tenant: str) -> CacheMode:
        """Whether features of a tenant's inputs may be kept, and for whom; off for an unknown one.

        Asked again when features are stored: it may have changed since their row arrived.
        """
        return self._tenants.get(tenant, _NOBODY).feature_cache

    def quota(self, tenant: str) -> Quota:
        """What a tenant may have at most; no limits for an unknown one."""
        return self._tenants.get(tenant, _NOBODY).quota

    def when_gone(self, call: Callable[[str], None]) -> None:
        """Have `call` called with each tenant that was deleted, though another has its name now."""
        self._when_gone.append(call)

    def is_released(self, digest: str) -> bool:
        """Whether any release names this version."""
        return self._uses[digest] > 0

    def update(self, snapshot: Snapshot, names: Collection[str] = ()) -> set[str]:
        """Take over the tenants of a snapshot; others stay as they are.

        Those of `names` were sought, and are gone where the snapshot lacks them. Returns the
        versions that no release names any more.
        """
        return self._take(snapshot, names)

    def replace(self, snapshot: Snapshot) -> set[str]:
        """As `update` with a snapshot of everything: a tenant that it lacks is gone.

        In another history a tenant of the same name is another one.
        """
        if snapshot.mark.history != self.mark.history:
            for name, state in self._tenants.items():
                if state.feature_cache == "own":
                    self._forget(name)
        return self._take(snapshot, self._tenants.keys())

    def _take(self, snapshot: Snapshot, names: Collection[str]) -> set[str]:
        """Take over a snapshot, in which tenants of `names` are not there where they are gone."""
        gone = self._tenants.keys() & (set(names) - snapshot.tenants.keys())
        states = {**snapshot.tenants, **dict.fromkeys(gone, _NOBODY)}
        before = {each.digest for name in states for each in self.releases(name).values()}
        self._admin_keys = {key.id: key for key in snapshot.admin_keys}
        for name, state in states.items():
            self._put(name, state)
        for name in gone:
            del self._tenants[name]
        self.mark = snapshot.mark
        return {digest for digest in before if not self.is_released(digest)}

    def _put(self, tenant: str, state: TenantState) -> None:
        old = self._tenants.get(tenant, _NOBODY)
        for key in old.keys:
            self._keys.pop(key.id, None)
        self._uses.subtract(release.digest for release in old.releases.values())
        self._uses.update(release.digest for release in state.releases.values())
        for release in old.releases.values():
            if not self._uses[release.digest]:
                del self._uses[release.digest]
        is_another = old.made is not None and old.made != state.made
        for adapter, release in old.releases.items():
            if is_another or not _is_later(state.releases.get(adapter), release):
                self._forget_adapter(tenant, adapter)
        for key in state.keys:
            self._keys[key.id] = (tenant, key)
        self._tenants[tenant] = state
        if old.feature_cache == "own" and (is_another or state.feature_cache != "own"):
            self._forget(tenant)
        if is_another:
            for call in self._when_gone:
                call(tenant)


def _is_later(release: ActiveRelease | None, before: ActiveRelease) -> bool:
    """Tell whether a release is of the same adapter: another of its name begins to count anew."""
    return release is not None and (
        release.digest == before.digest or release.revision > before.revision
    )
