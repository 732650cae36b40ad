"""An adapter is replaced again and again under load: no request fails, none is answered twice over.

Each version's labels carry its number, so an answer of two versions, or of an older one than
promised, shows itself.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.server import Server, Tenant, predict, running, total, upload
from tests.support import make_adapter_file

SWAPS = 100
CLIENTS = 8
INPUTS = ["a", "hello there", "what is this", "xyz", "0123456789"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    with running(tmp_path_factory.mktemp("swap")) as served:
        yield served


def test_requests_never_fail_or_mix_while_an_adapter_is_replaced(
    served: tuple[Server, str],
) -> None:
    server, digest = served
    tenant = server.add_tenant("acme")
    files = [
        make_adapter_file((f"no-{number}", f"yes-{number}"), seed=number, backbone=digest)
        for number in range(1, SWAPS + 2)
    ]
    with server.http(tenant.key) as http:
        upload(http, "acme", "intents", files[0])
    stop = threading.Event()
    live = [1]  # the newest version that an upload's answer has promised
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask, server, tenant, live, stop) for _ in range(CLIENTS)]
        try:
            with server.http(tenant.key) as http:
                for number, content in enumerate(files[1:], start=2):
                    published = upload(http, "acme", "intents", content)
                    assert published["version"] == number
                    live[0] = number
        finally:
            stop.set()
        seen = set().union(*(client.result() for client in clients))
    assert max(seen) == SWAPS + 1
    # Otherwise the swaps went by between the requests and nothing was shown.
    assert len(seen) > SWAPS / 2
    metrics = server.metrics()
    assert total(metrics, "headstock_failed_rows_total") == 0
    assert metrics["headstock_resident_adapters"] <= 2


def ask(server: Server, tenant: Tenant, live: list[int], stop: threading.Event) -> set[int]:
    """Send without pause, and once more when told to stop; the versions that answered."""
    versions: set[int] = set()
    last = False
    with server.http(tenant.key) as http:
        while not last:
            last = stop.is_set()
            promised = live[0]
            answer = predict(http, tenant.name, "intents", INPUTS)
            version = answer["adapter"]["version"]
            assert version >= promised
            numbers = {each["label"].split("-")[1] for each in answer["predictions"]}
            assert numbers == {str(version)}
            assert len(answer["predictions"]) == len(INPUTS)
            versions.add(version)
    return versions


def test_going_back_and_forth_between_two_versions_mixes_nothing(
    served: tuple[Server, str],
) -> None:
    server, digest = served
    tenant = server.add_tenant("globex")
    with server.http(tenant.key) as http:
        for number in (1, 2):
            labels = (f"no-{number}", f"yes-{number}")
            content = make_adapter_file(labels, seed=number, backbone=digest)
            upload(http, "globex", "intents", content)
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(ask, server, tenant, [1], stop) for _ in range(CLIENTS)]
            try:
                for turn in range(40):
                    path = "/v1/tenants/globex/adapters/intents/release/rollback"
                    if turn % 2:
                        path = "/v1/tenants/globex/adapters/intents/release"
                        response = http.put(path, json={"stable": 2})
                    else:
                        response = http.post(path)
                    assert response.json()["stable"] == turn % 2 + 1
                    answer = predict(http, "globex", "intents", INPUTS)
                    assert answer["adapter"]["version"] == turn % 2 + 1
            finally:
                stop.set()
            assert set().union(*(client.result() for client in clients)) == {1, 2}
