"""Behind nginx and HAProxy, with connections that clients share, no request becomes another's."""

import asyncio
import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.exchange import attack_all
from tests.integration.server import Server, free_port, running, wait_until

HERE = Path(__file__).parent
COMMANDS = {
    "nginx.conf": ["nginx", "-c"],
    "haproxy.cfg": ["haproxy", "-f"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("proxied")) as (server, _):
        yield server


@contextlib.contextmanager
def proxy(name: str, server: Server, folder: Path) -> Iterator[int]:
    """A proxy of this configuration in front of the server; yields its port."""
    port = free_port()
    text = (HERE / name).read_text()
    path = folder / name
    path.write_text(text.format(folder=folder, port=port, server_port=server.port))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*COMMANDS[name], str(path)], stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port), 10, f"{name} listens:\n{(folder / 'log').read_text()}")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.parametrize("prefix", ["", "/said", "/silent"])
def test_the_api_page_works_under_a_path_that_the_proxy_takes_off(
    server: Server, prefix: str, tmp_path: Path
) -> None:
    with proxy("nginx.conf", server, tmp_path) as port:
        browse(f"http://127.0.0.1:{port}{prefix}")


def test_the_api_page_works_under_a_path_that_the_proxy_leaves_on(tmp_path: Path) -> None:
    with (
        running(tmp_path, root_path="/left") as (server, _),
        proxy("nginx.conf", server, tmp_path) as port,
    ):
        browse(f"http://127.0.0.1:{port}/left")


def browse(public: str) -> None:
    """Load all that a browser would, and call the API where the document says that it is."""
    with httpx.Client() as http:
        page = httpx.URL(f"{public}/docs")
        links = re.findall(r'(?:src|href)="([^"]+)"', http.get(page).raise_for_status().text)
        assert len(links) == 4
        (url,) = re.findall(r'url: "([^"]+)"', http.get(page.join("docs/start.js")).text)
        for link in (*links, url):
            assert http.get(page.join(link)).status_code == 200, link
        document = page.join(url)
        (place,) = http.get(document).json()["servers"]
        api = str(document.join(place["url"])).removesuffix("/")
        assert api == public
        assert http.get(f"{api}/v1/tenants").status_code == 401
        assert http.get(f"{api}/readyz").status_code == 200
        assert http.get(f"{public}/", follow_redirects=True).url == page


@pytest.mark.parametrize("name", list(COMMANDS))
def test_no_client_gets_anothers_answer(server: Server, name: str, tmp_path: Path) -> None:
    before = len(server.log())
    with proxy(name, server, tmp_path) as port:
        outcomes = asyncio.run(attack_all(port, 6))
    served = [event["request_id"] for event in server.events(before) if event["event"] == "http"]
    faults = [
        f"{each.odd} in {each.segments}: {fault}"
        for each in outcomes
        if (fault := each.fault_behind_proxy())
    ]
    print(
        f"{name}: {len(outcomes):,} attempts, {len(served):,} requests served, "
        f"{len(set(served)):,} of them forwarded, {len(faults)} desynchronised"
    )
    assert not faults, "\n".join(faults)
    assert len(served) > len(outcomes)  # the honest ones at least
    assert len(served) == len(set(served))
    assert all(own_id.startswith("proxied-") for own_id in served)
