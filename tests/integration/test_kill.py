"""A server is killed at random moments of uploads: each version is there whole or not at all."""

import hashlib
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np

from adapters.adapter import build_adapter
from headstock.commands.serve import command
from tests.integration.server import ADMIN_KEY, Server, make_home, predict, wait_until
from tests.support import make_manifest, make_tensors
from tests.tiny import WIDTH

ROUNDS = 4
MOST_ANSWERED = 3  # before a kill
FILES = 8
ADAPTERS = "/v1/tenants/acme/adapters"


def test_a_server_killed_while_uploads_run_keeps_what_it_answered_and_nothing_torn(
    tmp_path: Path,
) -> None:
    home, digest = make_home(tmp_path)
    files = [make_large_file(number, digest) for number in range(FILES)]
    assert all(10**6 < len(content) < 4 * 10**6 for content in files)
    chance = random.Random(0)
    answered = interrupted = 0
    # The command itself, without the checks before it, so that a start is quick.
    with Server(home, command=command()) as server:
        server.add_tenant("acme")
        for turn in range(ROUNDS):
            # An adapter a round, so that every upload is of bytes that it does not have yet.
            adapter = f"intents-{turn}"
            uploads = Uploads(server, adapter, files)
            uploads.start()
            # A moment of an upload that counts in uploads, so that no machine is too slow for it.
            uploads.wait(chance.randrange(MOST_ANSWERED + 1))
            time.sleep(chance.uniform(0, uploads.seconds))
            server.kill()
            uploads.join(15)
            assert not uploads.is_alive()
            interrupted += uploads.broken
            server.start()
            server.wait_ready()
            check(server, adapter, files, uploads.answered)
            answered += len(uploads.answered)
    # Otherwise the moments were badly chosen and nothing was shown.
    assert interrupted >= ROUNDS / 2
    assert answered >= ROUNDS / 2


class Uploads(threading.Thread):
    """Uploads without pause until the server is gone."""

    def __init__(self, server: Server, adapter: str, files: Sequence[bytes]) -> None:
        super().__init__()
        self._server = server
        self._path = f"{ADAPTERS}/{adapter}/versions"
        self._files = files
        self.answered: list[str] = []
        self.seconds = 0.1  # that the last one took
        self.broken = False

    def wait(self, answered: int) -> None:
        """Until so many are answered."""
        what = f"{answered} uploads answered"
        wait_until(lambda: len(self.answered) >= answered or not self.is_alive(), 30, what)

    def run(self) -> None:
        with self._server.http(ADMIN_KEY) as http:
            for content in self._files:
                started = time.monotonic()
                try:
                    answer = http.post(self._path, params={"activate": "true"}, content=content)
                except httpx.ConnectError:
                    return
                except httpx.TransportError:
                    self.broken = True
                    return
                assert answer.status_code == 201, answer.text
                self.seconds = time.monotonic() - started
                self.answered.append(answer.json()["digest"])


def check(server: Server, adapter: str, files: Sequence[bytes], answered: Sequence[str]) -> None:
    known = {hashlib.sha256(content).hexdigest(): content for content in files}
    with server.http(ADMIN_KEY) as http:
        path = f"{ADAPTERS}/{adapter}/versions"
        listed = http.get(path)
        if listed.status_code == 404:
            assert not answered
            return
        versions = listed.raise_for_status().json()["versions"]
        assert [each["version"] for each in versions] == list(range(1, len(versions) + 1))
        digests = [each["digest"] for each in versions]
        # All that was answered, and at most the one upload whose answer was cut off.
        assert digests[: len(answered)] == answered
        assert len(digests) <= len(answered) + 1
        for each in versions:
            content = http.get(f"{path}/{each['version']}/file").raise_for_status().content
            assert content == known[each["digest"]]
        answer = predict(http, "acme", adapter, ["hello"])
        assert answer["adapter"]["version"] == len(versions)
        assert answer["adapter"]["digest"] == digests[-1]


def make_large_file(number: int, backbone: str) -> bytes:
    """A valid adapter of a few megabytes: many long labels, and as many golden rows as may be."""
    labels = tuple(f"{number}-{label}-" + "x" * (20 + 10 * number) for label in range(9000))
    golden = np.random.default_rng(number).standard_normal((16, WIDTH)).astype(np.float32)
    tensors = make_tensors(len(labels), WIDTH, number)
    return build_adapter(make_manifest(labels, backbone), tensors, golden)
