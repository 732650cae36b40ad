"""Two servers on one registry: what one answers is live on the other within a second."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from adapters.registry import Change, Mark, Registry
from service.directory import Directory
from service.engine import ResidentAdapters
from service.follower import Follower
from service.metrics import Metrics
from tests.integration.server import Server, make_home, predict, upload, wait_until
from tests.support import make_adapter_file

SOON_S = 1.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server, str]]:
    home, digest = make_home(tmp_path_factory.mktemp("replicas"))
    with Server(home) as one, Server(home) as other:
        yield one, other, digest


def test_an_upload_is_live_on_the_other_server_within_a_second(
    pair: tuple[Server, Server, str],
) -> None:
    one, other, digest = pair
    tenant = one.add_tenant("acme")
    with one.http(tenant.key) as near, other.http(tenant.key) as far:
        took = []
        for number in range(1, 9):
            labels = (f"no-{number}", f"yes-{number}")
            upload(near, "acme", "intents", make_adapter_file(labels, backbone=digest))
            assert predict(near, "acme", "intents", ["hi"])["adapter"]["version"] == number
            follows = partial(has_version, far, number)
            took.append(wait_until(follows, SOON_S, "the upload live on the other server"))
    print(f"live on the other server after {[round(each, 3) for each in took]} s")


def has_version(http: httpx.Client, number: int) -> bool:
    """Whether this version answers; it may be that its tenant and their key are not known yet."""
    path = "/v1/tenants/acme/adapters/intents/predict"
    response = http.post(path, json={"inputs": ["hi"]})
    if response.status_code in (401, 404):
        return False
    assert response.status_code == 200, response.text
    return bool(response.json()["adapter"]["version"] == number)


def test_a_revoked_key_is_refused_on_the_other_server_within_a_second(
    pair: tuple[Server, Server, str],
) -> None:
    one, other, _ = pair
    tenant = one.add_tenant("globex")
    path = "/v1/tenants/globex/adapters"
    with other.http(tenant.key) as far:
        wait_until(lambda: far.get(path).status_code == 200, SOON_S, "the key known")
        with one.client() as admin:
            admin.revoke_key("globex", tenant.key_id)
        with one.http(tenant.key) as near:
            assert near.get(path).status_code == 401
        wait_until(lambda: far.get(path).status_code == 401, SOON_S, "the key refused")


def test_versions_uploaded_through_both_servers_are_numbered_without_gaps(
    pair: tuple[Server, Server, str],
) -> None:
    one, other, digest = pair
    tenant = one.add_tenant("initech")
    with one.http(tenant.key) as near, other.http(tenant.key) as far:
        path = "/v1/tenants/initech/adapters"
        wait_until(lambda: far.get(path).status_code == 200, SOON_S, "the key known")
        numbers = [
            upload(http, "initech", "intents", make_adapter_file(seed=seed, backbone=digest))
            for seed, http in enumerate([near, far] * 4)
        ]
    assert [each["version"] for each in numbers] == list(range(1, 9))


def test_a_server_that_starts_later_knows_everything_from_its_first_answer(
    pair: tuple[Server, Server, str],
) -> None:
    one, _, digest = pair
    tenant = one.add_tenant("umbrella")
    with one.http(tenant.key) as http:
        upload(http, "umbrella", "intents", make_adapter_file(backbone=digest))
    with Server(one.home) as third, third.http(tenant.key) as http:
        assert predict(http, "umbrella", "intents", ["hi"])["adapter"]["version"] == 1


def test_a_change_between_the_two_reads_of_a_follower_is_not_lost(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.sqlite'}"
    asyncio.run(follow_a_race(url))


async def follow_a_race(url: str) -> None:
    with Racing.open(url) as registry:
        registry.create_tenant("acme", actor="setup")
        registry.create_tenant("globex", actor="setup")
        directory, metrics = Directory(), Metrics()
        residents = ResidentAdapters(registry.read_content, 2**20, metrics)
        follower = Follower(registry, directory, residents, metrics, poll_s=60)
        await follower.start()
        info, _ = registry.create_key("acme", ["predict"], actor="setup")
        registry.armed = True
        await follower.catch_up()
        await follower.catch_up()
        await follower.stop()
        (late,) = registry.list_keys("globex")
        assert directory.key(info.id) is not None
        assert directory.key(late.id) is not None


class Racing(Registry):
    """Another tenant changes between the read of the changes and the read of the tenants."""

    armed = False

    def changes_since(self, mark: Mark, limit: int) -> list[Change] | None:
        changes = super().changes_since(mark, limit)
        if self.armed:
            self.armed = False
            self.create_key("globex", ["predict"], actor="setup")
        return changes
