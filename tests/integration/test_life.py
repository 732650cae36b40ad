"""The life of an adapter on a real server, and what a server shows to those who look after it."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headstock.client import RequestFailed
from tests.integration.server import (
    ADMIN_KEY,
    PLAIN,
    SERVE,
    Server,
    make_home,
    predict,
    running,
    upload,
)
from tests.support import make_adapter_file
from tests.unit.headstock.support import run


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    with running(tmp_path_factory.mktemp("life")) as server:
        yield server


def test_an_adapter_is_uploaded_answers_is_replaced_and_comes_back(
    served: tuple[Server, str], tmp_path: Path
) -> None:
    server, digest = served
    tenant = server.add_tenant("acme")
    contents = [
        make_adapter_file((f"no-{number}", f"yes-{number}"), seed=number, backbone=digest)
        for number in (1, 2)
    ]
    files = [tmp_path / f"{number}.safetensors" for number in (1, 2)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    with server.client(tenant.key) as client:
        first = client.push(files[0], "acme", "intents", activate=False)
        assert (first["version"], first["created"], first["release"]) == (1, True, None)
        with pytest.raises(RequestFailed) as refused:
            client.predict("acme", "intents", ["hello"])
        assert refused.value.status == 404
        assert client.push(files[0], "acme", "intents", activate=True)["created"] is False
        answer = client.predict("acme", "intents", ["hello", "you"], top_k=2)
        assert answer["adapter"]["version"] == 1
        assert {top["label"] for top in answer["predictions"][0]["top"]} == {"no-1", "yes-1"}
        second = client.push(files[1], "acme", "intents", activate=False)
        assert second["version"] == 2
        assert client.predict("acme", "intents", ["hello"])["adapter"]["version"] == 1
        assert client.set_release("acme", "intents", 2)["stable"] == 2
        assert client.predict("acme", "intents", ["hello"])["adapter"]["version"] == 2
        assert client.rollback("acme", "intents")["stable"] == 1
        assert client.predict("acme", "intents", ["hello", "you"], top_k=2) == answer


def test_a_file_comes_back_as_it_was_uploaded(served: tuple[Server, str]) -> None:
    server, digest = served
    tenant = server.add_tenant("globex")
    content = make_adapter_file(seed=3, backbone=digest)
    with server.http(tenant.key) as http:
        published = upload(http, "globex", "intents", content)
        response = http.get("/v1/tenants/globex/adapters/intents/versions/1/file")
    assert response.content == content
    assert published["digest"] == hashlib.sha256(content).hexdigest()
    assert response.headers["etag"] == f'"{published["digest"]}"'


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs"])
def test_pages_for_operators_need_no_key(served: tuple[Server, str], path: str) -> None:
    server, _ = served
    with server.http(None) as http:
        assert http.get(path).status_code == 200


def test_the_api_page_finds_everything_that_it_loads(served: tuple[Server, str]) -> None:
    server, _ = served
    with server.http(None) as http:
        page = http.get("/docs").text
        parts = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(parts) == 4
        for part in [*parts, "openapi.json"]:
            assert http.get(f"/{part}").status_code == 200, part
        assert http.get("/openapi.json").json()["openapi"] == "3.1.0"


def test_commands_list_and_delete(
    served: tuple[Server, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server, digest = served
    server.add_tenant("leaving")
    with server.http() as http:
        for name in ("one", "two"):
            for seed in (1, 2):
                upload(http, "leaving", name, make_adapter_file(seed=seed, backbone=digest))
    monkeypatch.setenv("HEADSTOCK_KEY", ADMIN_KEY)
    monkeypatch.setenv("HEADSTOCK_SERVER", f"http://127.0.0.1:{server.port}")

    def command(*words: str) -> tuple[int, str, str]:
        return run(monkeypatch, capsys, *words)

    code, out, err = command("adapter", "list", "leaving", "--limit", "1")
    assert (code, "one" in out, "two" in out) == (0, True, False)
    assert "--after one" in err
    code, out, _ = command("adapter", "list", "leaving", "--after", "one", "--json")
    assert [each["name"] for each in json.loads(out)["adapters"]] == ["two"]
    code, out, _ = command("adapter", "list", "leaving/one", "--after", "1", "--json")
    assert [each["version"] for each in json.loads(out)["versions"]] == [2]
    code, _, err = command("adapter", "list", "leaving/one", "--after", "x")
    assert (code, "must be the number of a version" in err) == (1, True)
    code, _, err = command("adapter", "delete", "leaving/one", "--version", "2")
    assert (code, "is released" in err) == (1, True)
    code, out, _ = command("adapter", "delete", "leaving/one", "--version", "1", "--json")
    assert (code, json.loads(out)["deleted"]) == (0, True)
    assert command("adapter", "delete", "leaving/one")[0] == 0
    assert command("tenant", "delete", "leaving")[0] == 0
    code, _, err = command("adapter", "list", "leaving")
    assert (code, "no tenant leaving" in err) == (1, True)
    code, out, _ = command("audit", "--limit", "1", "--json")
    assert json.loads(out)["changes"][0]["action"] == "tenant.delete"


def test_the_plain_command_of_bentoml_serves_the_same_routes(
    served: tuple[Server, str], tmp_path: Path
) -> None:
    server, _ = served
    with running(tmp_path, command=PLAIN) as (plain, digest):
        with plain.http(None) as http, server.http(None) as other:
            document = http.get("/openapi.json").json()
            assert document == other.get("/openapi.json").json()
            for path in document["paths"]:
                path = re.sub(r"{\w+}", "x", path)
                assert http.get(path).status_code == other.get(path).status_code
        tenant = plain.add_tenant("acme")
        with plain.http(tenant.key) as http:
            upload(http, "acme", "intents", make_adapter_file(backbone=digest))
            assert predict(http, "acme", "intents", ["hello"])["adapter"]["version"] == 1
        worker = plain.worker
        assert plain.terminate() == 0
        assert not worker.is_running()


def test_the_first_start_alone_prints_the_admin_key_and_it_lasts(tmp_path: Path) -> None:
    home, _ = make_home(tmp_path)
    found: list[str] = []
    names: list[str] = []
    for name in ("acme", "globex"):
        with Server(home, command=SERVE, admin_key=None) as server:
            found += re.findall(r"hs_\w+", server.log())
            assert len(found) == 1
            with server.client(found[0]) as client:
                client.create_tenant(name)
                names = [each["name"] for each in client.list_tenants()["tenants"]]
            assert server.terminate() == 0
    assert names == ["acme", "globex"]
