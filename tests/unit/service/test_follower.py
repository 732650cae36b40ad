import asyncio
import dataclasses
import queue
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from adapters.errors import NotFound, RegistryUnavailable
from adapters.registry import Change, Mark, Registry, Snapshot, TenantState, tables
from adapters.registry.database import Database
from service.directory import Directory
from service.engine import ResidentAdapters
from service.follower import Follower
from service.metrics import Metrics
from tests.support import make_adapter_file
from tests.unit.registry.support import publish, sha256, url_of
from tests.unit.service.support import PATIENCE_S, key, release, tenant

FILES = [make_adapter_file(seed=seed) for seed in range(4)]
DIGESTS = [sha256(content) for content in FILES]
OFTEN_S = 0.005


class Watched(Registry):
    """A registry that can be down, and whose reads can be held."""

    down = False

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # passed on as they came
        self.heads: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.held: set[str] = set()
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()

    def head(self) -> Mark:
        self.heads.put(self.down)
        if self.down:
            raise RegistryUnavailable("the disk failed to read or write")
        return super().head()

    def read_content(self, digest: str) -> bytes:
        if digest in self.held:
            self.entered.release()
            assert self.go.wait(PATIENCE_S)
        return super().read_content(digest)

    async def asked_while(self, down: bool) -> None:
        """Wait until `head` was asked twice in that state: then the first answer was dealt with."""
        for _ in range(2):
            while await asyncio.to_thread(self.heads.get, timeout=PATIENCE_S) != down:
                pass


class Noticing(Directory):
    """A directory that says when it was updated."""

    def __init__(self) -> None:
        super().__init__()
        self.updated = asyncio.Event()

    def update(self, snapshot: Snapshot, names: Collection[str] = ()) -> set[str]:
        unnamed = super().update(snapshot, names)
        self.updated.set()
        return unnamed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


@pytest.fixture
def ours(path: Path) -> Iterator[Watched]:
    with Watched.open(url_of(path)) as registry:
        yield registry


@pytest.fixture
def theirs(path: Path, ours: Registry) -> Iterator[Registry]:
    """The registry as another server has it open; acme's first version is released."""
    with Registry.open(url_of(path)) as registry:
        registry.create_tenant("acme", actor="admin")
        registry.create_tenant("other", actor="admin")
        publish(registry, FILES[0], activate=True)
        yield registry


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def residents(ours: Registry, metrics: Metrics) -> ResidentAdapters:
    return ResidentAdapters(ours.read_content, 10**9, metrics)


@pytest.fixture
def directory() -> Noticing:
    return Noticing()


@pytest.fixture
async def follower(
    ours: Watched,
    theirs: Registry,
    directory: Noticing,
    residents: ResidentAdapters,
    metrics: Metrics,
) -> Follower:
    """Started once by the book, and stopped: tests say themselves when to catch up."""
    follower = Follower(ours, directory, residents, metrics, poll_s=60)
    await follower.start()
    await follower.stop()
    return follower


def number(directory: Directory) -> int:
    return directory.release("acme", "intents").number


async def test_start_reads_everything(
    follower: Follower, directory: Directory, theirs: Registry
) -> None:
    assert number(directory) == 1
    assert directory.mark == theirs.head()


async def test_a_change_of_another_server_becomes_visible(
    follower: Follower, directory: Directory, theirs: Registry
) -> None:
    info, _ = theirs.create_key("acme", ["predict"], actor="admin")
    publish(theirs, FILES[1], activate=True)
    theirs.create_tenant("third", actor="admin")
    publish(theirs, FILES[2], tenant="third", activate=True)
    assert directory.key(info.id) is None
    await follower.catch_up()
    assert directory.key(info.id) is not None
    assert number(directory) == 2
    assert directory.release("third", "intents").digest == DIGESTS[2]
    theirs.revoke_key("acme", info.id, actor="admin")
    theirs.rollback("acme", "intents", actor="admin")
    await follower.catch_up()
    assert directory.key(info.id) is None
    assert number(directory) == 1


async def test_a_new_admin_key_becomes_visible(
    follower: Follower, directory: Directory, theirs: Registry
) -> None:
    text = theirs.ensure_admin_key()
    assert text is not None
    await follower.catch_up()
    found = directory.key(text.split("_")[1])
    assert found is not None
    assert found[0] is None


async def test_more_changes_than_are_read_at_once_are_all_seen(
    follower: Follower, directory: Directory, theirs: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.follower._MOST_CHANGES", 3)
    for content in FILES[1:]:
        publish(theirs, content, activate=True)
        publish(theirs, content, tenant="other", activate=True)
    await follower.catch_up()
    assert number(directory) == 4
    assert directory.release("other", "intents").number == 3
    assert directory.mark == theirs.head()


async def test_a_change_between_two_looks_is_not_lost(
    follower: Follower,
    directory: Directory,
    ours: Watched,
    theirs: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look = ours.changes_since

    def changes_since(mark: Mark, limit: int) -> list[Change] | None:
        changes = look(mark, limit)
        publish(theirs, FILES[2], tenant="other", activate=True)
        return changes

    publish(theirs, FILES[1], activate=True)
    with monkeypatch.context() as patch:
        patch.setattr(ours, "changes_since", changes_since)
        await follower.catch_up()
    assert number(directory) == 2
    await follower.catch_up()
    assert directory.release("other", "intents").digest == DIGESTS[2]


async def test_a_registry_that_went_back_is_read_anew(
    follower: Follower, directory: Directory, theirs: Registry
) -> None:
    ahead = dataclasses.replace(theirs.head(), seq=theirs.head().seq + 100)
    ghost = tenant(key("ghostkey", "predict"), releases=[release("intents", "d9")])
    directory.update(Snapshot(ahead, {"acme": TenantState((), {}), "ghost": ghost}, ()))
    await follower.catch_up()
    assert number(directory) == 1
    assert directory.mark == theirs.head()
    assert directory.key("ghostkey") is None
    assert directory.releases("ghost") == {}


@pytest.mark.parametrize("n_changes", [2, 3])
async def test_a_registry_that_went_back_and_grew_again_is_read_anew(
    follower: Follower, directory: Directory, theirs: Registry, path: Path, n_changes: int
) -> None:
    with closing(sqlite3.connect(":memory:")) as backup, closing(sqlite3.connect(path)) as live:
        live.backup(backup)
        lost, _ = theirs.create_key("other", ["predict"], actor="admin")
        theirs.create_tenant("lost", actor="admin")
        await follower.catch_up()
        assert directory.key(lost.id) is not None
        backup.backup(live)
    for n in range(n_changes):
        theirs.create_tenant(f"new-{n}", actor="admin")
    await follower.catch_up()
    assert directory.mark == theirs.head()
    assert directory.key(lost.id) is None
    with pytest.raises(NotFound, match="no tenant 'lost'"):
        directory.release("lost", "intents")


async def test_what_a_restored_registry_lacks_does_not_answer(
    follower: Follower,
    directory: Directory,
    residents: ResidentAdapters,
    ours: Watched,
    theirs: Registry,
    tmp_path: Path,
    path: Path,
) -> None:
    """A copy of another registry, with a tenant of the same name, is put in place by hand."""
    await residents.get(DIGESTS[0])
    with Registry.open(url_of(tmp_path / "other.sqlite")) as other:
        other.create_tenant("acme", actor="admin")
        publish(other, b"no adapter at all", activate=True)
    theirs.close()
    (tmp_path / "other.sqlite").rename(path)
    with pytest.raises(RegistryUnavailable, match="still reading it"):
        ours.create_tenant("third", actor="admin")
    await follower.catch_up()
    assert directory.mark == ours.head()
    assert directory.tenants() == {"acme"}
    assert directory.release("acme", "intents").digest == sha256(b"no adapter at all")
    assert DIGESTS[0] not in residents
    ours.create_tenant("third", actor="admin")


async def test_a_slow_load_delays_no_other_load(
    follower: Follower,
    residents: ResidentAdapters,
    ours: Watched,
    theirs: Registry,
) -> None:
    publish(theirs, FILES[1], tenant="other", activate=True)
    await follower.catch_up()
    for digest in DIGESTS[:2]:
        await residents.get(digest)
    publish(theirs, FILES[2], activate=True)
    publish(theirs, FILES[3], tenant="other", activate=True)
    ours.held = set(DIGESTS[2:])
    catching_up = asyncio.create_task(follower.catch_up())
    for _ in range(2):
        assert await asyncio.to_thread(ours.entered.acquire, timeout=PATIENCE_S)
    ours.go.set()
    await catching_up
    assert DIGESTS[2] in residents
    assert DIGESTS[3] in residents


async def test_the_new_version_is_loaded_before_anybody_is_sent_to_it(
    follower: Follower,
    directory: Directory,
    residents: ResidentAdapters,
    ours: Watched,
    theirs: Registry,
) -> None:
    await residents.get(DIGESTS[0])
    publish(theirs, FILES[1], activate=True)
    ours.held = {DIGESTS[1]}
    catching_up = asyncio.create_task(follower.catch_up())
    assert await asyncio.to_thread(ours.entered.acquire, timeout=PATIENCE_S)
    assert number(directory) == 1
    assert DIGESTS[0] in residents
    ours.go.set()
    await catching_up
    assert number(directory) == 2
    assert DIGESTS[1] in residents
    assert DIGESTS[0] not in residents


async def test_a_version_that_another_release_names_stays_resident(
    follower: Follower, residents: ResidentAdapters, theirs: Registry
) -> None:
    publish(theirs, FILES[0], tenant="other", activate=True)
    await follower.catch_up()
    await residents.get(DIGESTS[0])
    publish(theirs, FILES[1], activate=True)
    await follower.catch_up()
    assert DIGESTS[0] in residents


async def test_what_nobody_uses_here_is_not_loaded(
    follower: Follower, directory: Directory, residents: ResidentAdapters, theirs: Registry
) -> None:
    publish(theirs, FILES[1], activate=True)
    await follower.catch_up()
    assert number(directory) == 2
    assert DIGESTS[1] not in residents


async def test_a_version_that_cannot_be_loaded_leaves_the_old_one(
    follower: Follower,
    directory: Directory,
    residents: ResidentAdapters,
    theirs: Registry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await residents.get(DIGESTS[0])
    publish(theirs, b"no adapter at all", activate=True)
    publish(theirs, FILES[2], tenant="other", activate=True)
    await follower.catch_up()
    assert number(directory) == 1
    assert DIGESTS[0] in residents
    assert "release acme/intents stays at version 1" in caplog.text
    assert directory.release("other", "intents").digest == DIGESTS[2]
    publish(theirs, FILES[3], activate=True)
    await follower.catch_up()
    assert number(directory) == 3


async def test_bytes_that_cannot_be_read_hold_up_no_other_change_and_are_tried_again(
    follower: Follower,
    directory: Directory,
    residents: ResidentAdapters,
    theirs: Registry,
    path: Path,
) -> None:
    info, _ = theirs.create_key("other", ["predict"], actor="admin")
    await follower.catch_up()
    await residents.get(DIGESTS[0])
    publish(theirs, FILES[1], activate=True)
    store_bytes(path, DIGESTS[1], b"damaged")
    theirs.revoke_key("other", info.id, actor="admin")
    with pytest.raises(RegistryUnavailable, match="damaged"):
        await follower.catch_up()
    assert number(directory) == 1
    assert DIGESTS[0] in residents
    assert directory.key(info.id) is None
    store_bytes(path, DIGESTS[1], FILES[1])
    await follower.catch_up()
    assert number(directory) == 2
    assert directory.mark == theirs.head()


def store_bytes(path: Path, digest: str, content: bytes) -> None:
    database = Database.open(url_of(path))
    with database.write() as connection:
        where = tables.versions.c.digest == digest
        connection.execute(update(tables.versions).where(where).values(content=content))
    database.close()


async def test_it_follows_by_itself_and_serves_on_while_the_registry_is_down(
    ours: Watched,
    theirs: Registry,
    directory: Noticing,
    residents: ResidentAdapters,
    metrics: Metrics,
) -> None:
    def unavailable() -> float | None:
        return metrics.registry.get_sample_value("headstock_registry_unavailable")

    follower = Follower(ours, directory, residents, metrics, OFTEN_S)
    await follower.start()
    assert unavailable() == 0
    try:
        ours.down = True
        publish(theirs, FILES[1], activate=True)
        await ours.asked_while(down=True)
        assert unavailable() == 1
        assert number(directory) == 1
        directory.updated.clear()
        ours.down = False
        await asyncio.wait_for(directory.updated.wait(), PATIENCE_S)
        assert number(directory) == 2
        await ours.asked_while(down=False)
        assert unavailable() == 0
    finally:
        await follower.stop()


async def test_an_unforeseen_failure_does_not_end_following(
    ours: Watched,
    theirs: Registry,
    directory: Noticing,
    residents: ResidentAdapters,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = Follower(ours, directory, residents, metrics, OFTEN_S)
    await follower.start()
    try:
        failed = threading.Event()

        def fail(*_: object) -> None:
            failed.set()
            raise KeyError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(ours, "changes_since", fail)
            publish(theirs, FILES[1], activate=True)
            assert await asyncio.to_thread(failed.wait, PATIENCE_S)
        directory.updated.clear()
        await asyncio.wait_for(directory.updated.wait(), PATIENCE_S)
        assert number(directory) == 2
    finally:
        await follower.stop()


async def test_start_says_that_the_registry_is_unavailable(
    ours: Watched, directory: Directory, residents: ResidentAdapters, metrics: Metrics
) -> None:
    def fail(_: object) -> None:
        raise RegistryUnavailable("its file is damaged: restore a backup")

    ours.read_tenants = fail  # type: ignore[assignment,method-assign]  # it fails in its place
    with pytest.raises(RegistryUnavailable, match="restore a backup"):
        await Follower(ours, directory, residents, metrics, OFTEN_S).start()
