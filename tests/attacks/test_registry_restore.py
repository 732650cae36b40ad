"""The registry is restored, overwritten, moved and truncated under two running servers."""

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from adapters.registry.backup import backup
from adapters.registry.restore import restore
from adapters.registry.verify import Report
from tests.attacks.conftest import RecordAttack
from tests.integration.server import Server, Tenant, make_home, upload, wait_until
from tests.support import make_adapter_file
from tests.unit.registry.support import url_of

MOST_S = 20  # that a failing test waits


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server, str]]:
    home, digest = make_home(tmp_path_factory.mktemp("restored"))
    one, other = Server(home), Server(home)
    one.start()
    with other:  # both start at once
        one.wait_ready()
        yield one, other, digest
    one.kill()


def stage(_: str) -> Report:
    return lambda *_: None


class Scene:
    """A backup in which a key works that was revoked since; since then another tenant came."""

    def __init__(self, pair: tuple[Server, Server, str], folder: Path) -> None:
        self.one, self.other, digest = pair
        self.servers = (self.one, self.other)
        self.path = self.one.home / "registry.sqlite"
        self.backup = folder / "backup"
        self.name = f"t{time.monotonic_ns()}"
        self.old = self._tenant("old", 0, digest)
        backup(url_of(self.path), self.backup, replace=False, stage=stage)
        with self.one.client() as admin:
            admin.revoke_key(self.old.name, self.old.key_id)
        self.new = self._tenant("new", 1, digest)
        for server in self.servers:  # in memory there, and so answering whatever comes
            wait(partial(self.answers, server, self.new, 200), "the tenant known")
        self.began = [len(server.log()) for server in self.servers]
        self.changes = 0

    def _tenant(self, kind: str, seed: int, digest: str) -> Tenant:
        tenant = self.one.add_tenant(f"{self.name}-{kind}")
        with self.one.http() as http:
            content = make_adapter_file(seed=seed, backbone=digest)
            upload(http, tenant.name, "intents", content)
        return tenant

    def status(self, server: Server, tenant: Tenant) -> int:
        """What a prediction with a tenant's own key is answered with."""
        path = f"/v1/tenants/{tenant.name}/adapters/intents/predict"
        with server.http(tenant.key) as http:
            return http.post(path, json={"inputs": ["hi"]}).status_code

    def answers(self, server: Server, tenant: Tenant, status: int) -> bool:
        """Whether that is the status of a prediction with a tenant's own key."""
        return self.status(server, tenant) == status

    def is_unavailable(self, server: Server, wanted: bool) -> bool:
        """Whether the gauge says so."""
        return bool(server.metrics()["headstock_registry_unavailable"]) is wanted

    def change(self, server: Server) -> tuple[int, str]:
        """Make a tenant; the status of the answer, and the tenant's name."""
        self.changes += 1
        name = f"{self.name}-{self.changes}"
        with server.http() as http:
            answer = http.post("/v1/tenants", json={"name": name})
        assert answer.status_code in (201, 503), answer.text
        if answer.status_code == 503:
            assert answer.json()["code"] == "registry-unavailable", answer.text
        return answer.status_code, name

    @contextmanager
    def writers(self) -> Iterator[dict[str, float]]:
        """Both servers are asked for changes all the time; yields when those made were begun."""
        made: dict[str, float] = {}
        stopped = threading.Event()

        def write(server: Server) -> None:
            while not stopped.is_set():
                began = time.monotonic()
                status, name = self.change(server)
                if status == 201:
                    made[name] = began

        threads = [threading.Thread(target=write, args=(server,)) for server in self.servers]
        for thread in threads:
            thread.start()
        try:
            wait(lambda: len(made) >= 4, "changes")
            yield made
        finally:
            stopped.set()
            for thread in threads:
                thread.join()

    def followed(self) -> float:
        """Wait until both servers say what the backup says; how long it took."""
        started = time.monotonic()
        for server in self.servers:
            wait(partial(self.answers, server, self.old, 200), "the old key works")
            wait(partial(self.answers, server, self.new, 401), "the new key does not")
        return time.monotonic() - started

    def check(self) -> None:
        """Both servers make changes, which are in the file that is there, and it is sound."""
        made: set[str] = set()
        for server in self.servers:
            for _ in range(2):
                wait(partial(self._made, server, made), "a change is made")
        assert made <= tenants(self.path)
        with closing(sqlite3.connect(self.path)) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert raw.execute("PRAGMA foreign_key_check").fetchall() == []

    def _made(self, server: Server, made: set[str]) -> bool:
        status, name = self.change(server)
        made |= {name} if status == 201 else set()
        return status == 201

    def warnings(self, server: Server) -> list[str]:
        """What a server has complained of since the scene began."""
        began = self.began[self.servers.index(server)]
        return [str(each["event"]) for each in server.complaints(began)]


def wait(condition: Callable[[], bool], what: str) -> float:
    return wait_until(condition, MOST_S, what)


def tenants(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as raw:
        return {row[0] for row in raw.execute("SELECT name FROM tenants")}


@pytest.fixture
def scene(pair: tuple[Server, Server, str], tmp_path: Path) -> Scene:
    return Scene(pair, tmp_path)


def test_no_change_is_lost_unseen_when_the_registry_is_restored(
    scene: Scene, record_attack: RecordAttack
) -> None:
    with scene.writers() as made:
        kept = restore(url_of(scene.path), scene.backup, stage=stage).kept
        took = scene.followed()
    assert kept is not None
    lost = made.keys() - tenants(kept) - tenants(scene.path)
    record_attack(scene.changes, f"both servers follow after {took:.2f} s")
    assert lost == set()
    scene.check()
    # The backup has the key that was revoked since: revoked again, it is refused everywhere.
    with scene.one.client() as admin:
        admin.revoke_key(scene.old.name, scene.old.key_id)
    took = wait(partial(scene.answers, scene.other, scene.old, 401), "the revoked key refused")
    assert took < 3
    assert all(len(scene.warnings(server)) <= 2 for server in scene.servers)


def overwrite(scene: Scene) -> None:
    shutil.copyfile(scene.backup, scene.path)


def move(scene: Scene) -> None:
    shutil.copyfile(scene.backup, f"{scene.path}.new")
    os.replace(f"{scene.path}.new", scene.path)  # noqa: PTH105 - as mv does


def delete_and_copy(scene: Scene) -> None:
    scene.path.unlink()
    overwrite(scene)


def rename_and_copy(scene: Scene) -> None:
    scene.path.rename(f"{scene.path}.{scene.name}")
    overwrite(scene)


def truncate_and_copy(scene: Scene) -> None:
    os.truncate(scene.path, 0)
    time.sleep(0.3)
    overwrite(scene)


def link_elsewhere(scene: Scene) -> None:
    shutil.copyfile(scene.backup, scene.path.with_name(scene.name))
    scene.path.with_name("link").symlink_to(scene.name)
    scene.path.with_name("link").replace(scene.path)


BY_HAND = [overwrite, move, delete_and_copy, rename_and_copy, truncate_and_copy, link_elsewhere]


@pytest.mark.parametrize("replace", BY_HAND, ids=lambda each: each.__name__)
def test_a_backup_that_is_put_in_place_by_hand_is_followed(
    replace: Callable[[Scene], None], scene: Scene, record_attack: RecordAttack
) -> None:
    replace(scene)
    later = [scene.change(server) for _ in range(5) for server in scene.servers]
    took = scene.followed()
    record_attack(len(later), f"both servers follow after {took:.2f} s")
    assert {name for status, name in later if status == 201} <= tenants(scene.path)
    scene.check()


def test_no_change_goes_into_a_file_that_was_moved_away(
    scene: Scene, record_attack: RecordAttack
) -> None:
    with scene.writers() as made:
        move(scene)
        moved = time.monotonic()
        scene.followed()
        wait(lambda: sum(began > moved for began in made.copy().values()) >= 4, "changes again")
    later = {name for name, began in made.items() if began > moved}
    lost = later - tenants(scene.path)
    record_attack(scene.changes)
    assert lost == set()
    scene.check()


def test_a_truncated_registry_refuses_changes_and_answers_go_on(
    scene: Scene, record_attack: RecordAttack
) -> None:
    os.truncate(scene.path, 0)
    statuses = [scene.change(server)[0] for _ in range(10) for server in scene.servers]
    answers = [scene.status(server, scene.new) for server in scene.servers]
    for server in scene.servers:
        wait(partial(scene.is_unavailable, server, True), "the gauge")
    began = time.monotonic()
    assert restore(url_of(scene.path), scene.backup, stage=stage).kept is not None
    scene.followed()
    took = time.monotonic() - began
    record_attack(len(statuses), f"back {took:.2f} s after `registry restore` began")
    assert set(statuses) == {503}
    assert answers == [200, 200]
    scene.check()
    for server in scene.servers:
        wait(partial(scene.is_unavailable, server, False), "the gauge")
        first, second = scene.warnings(server)
        assert "was emptied" in first
        assert "headstock registry restore" in first
        assert second == "following the registry again"
