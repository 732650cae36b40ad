"""Many tenants in one process: all are answered by their own adapters, and a tenant is cheap."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adapters.registry import Registry
from tests.integration.server import ADMIN_KEY, Server, make_home, predict, total, upload
from tests.support import make_adapter_file

TENANTS = 200
LABELS = 77
CLIENTS = 8
TURNS = 3
INPUTS = ["hello", "a longer question", "?"]


def test_two_hundred_tenants_get_their_own_answers_from_one_small_process(tmp_path: Path) -> None:
    home, digest = make_home(tmp_path)
    names = [f"tenant-{number}" for number in range(TENANTS)]
    with Registry.open(f"sqlite:///{home / 'registry.sqlite'}") as registry:
        for name in names:
            registry.create_tenant(name, actor="setup")
    with Server(home) as server, server.http(ADMIN_KEY) as http:
        sizes = [publish(server, name, digest) for name in names[:1]]
        keys = {name: make_key(server, name) for name in names}
        ask(server, names[0], keys[names[0]])
        before = server.rss()
        with ThreadPoolExecutor(CLIENTS) as pool:
            sizes += pool.map(lambda name: publish(server, name, digest), names[1:])
            asked = itertools.chain.from_iterable([names] * TURNS)
            list(pool.map(lambda name: ask(server, name, keys[name]), asked))
        grown = server.rss() - before
        metrics = server.metrics()
        assert metrics["headstock_resident_adapters"] == TENANTS
        tiny = '{backbone="tiny"}'
        alone = metrics['headstock_batch_adapters_bucket{backbone="tiny",le="1.0"}']
        assert metrics[f"headstock_batch_adapters_count{tiny}"] > alone
        assert total(metrics, "headstock_failed_rows_total") == 0
        assert http.get("/v1/tenants").json()["tenants"][-1]
    each = grown / (TENANTS - 1)
    print(f"{each / 1024:.0f} KiB a tenant; a file has {sizes[0] / 1024:.0f} KiB")
    assert each < 2**20


def make_key(server: Server, name: str) -> str:
    with server.http() as http:
        response = http.post(f"/v1/tenants/{name}/keys", json={"scopes": ["predict"]})
    key: str = response.raise_for_status().json()["key"]
    return key


def publish(server: Server, name: str, digest: str) -> int:
    """An adapter of realistic size whose labels name the tenant; the file's size."""
    labels = tuple(f"{name} label {number}" for number in range(LABELS))
    content = make_adapter_file(labels, seed=hash(name) % 1000, backbone=digest)
    with server.http() as http:
        upload(http, name, "intents", content)
    return len(content)


def ask(server: Server, name: str, key: str) -> None:
    """A request of several inputs; every part of the answer must be this tenant's."""
    with server.http(key) as http:
        answer = predict(http, name, "intents", INPUTS)
    assert answer["adapter"]["tenant"] == name
    assert len(answer["predictions"]) == len(INPUTS)
    for prediction in answer["predictions"]:
        assert prediction["label"].startswith(f"{name} label ")
