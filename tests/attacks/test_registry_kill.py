"""A publisher is killed at random moments: each version is there whole or not at all."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.registry import Registry
from tests.unit.registry.support import spawn, url_of

ROUNDS = 25
ROUNDS_A_FILE = 5

# One process imports everything and then forks a publisher for each round: an import takes longer
# than a round. The pipe tells how far the publisher came.
PUBLISHER = """
import hashlib, os, random, sys
from adapters.registry import Registry

def work(url, log):
    with Registry.open(url) as registry:
        if not registry.list_tenants():
            registry.create_tenant("acme", actor="admin")
        while True:
            content = os.urandom(random.randint(1_000_000, 4_000_000))
            digest = hashlib.sha256(content).hexdigest()
            os.write(log, f"start {digest}\\n".encode())
            published = registry.publish(
                "acme", "intents", digest=digest, backbone="b" * 64, manifest="{}",
                content=content, activate=True, actor="child",
            )
            os.write(log, f"done {digest}\\n".encode())

for line in sys.stdin:
    url, log = line.split()
    child = os.fork()
    if not child:
        work(url, os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


@pytest.fixture
def parent() -> "Iterator[subprocess.Popen[str]]":
    with spawn(PUBLISHER) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_killed_publishers(parent: "subprocess.Popen[str]", tmp_path: Path) -> None:
    chance = random.Random(20)
    log = tmp_path / "log"
    interrupted = versions = 0
    for turn in range(ROUNDS):
        folder = tmp_path / str(turn // ROUNDS_A_FILE)
        run_and_kill(parent, url_of(folder / "registry.db"), log, chance.uniform(0, 0.2))
        lines = log.read_text().split("\n") if log.exists() else [""]
        interrupted += lines[-2:-1] != [] and lines[-2].startswith("start")
        done = {line[5:] for line in lines if line.startswith("done")}
        versions += check(url_of(folder / "registry.db"), done)
        if turn % ROUNDS_A_FILE == ROUNDS_A_FILE - 1:
            shutil.rmtree(folder)
            log.unlink(missing_ok=True)
    # Otherwise the moments were badly chosen and nothing was shown.
    assert interrupted >= 5
    assert versions >= 5


def run_and_kill(parent: "subprocess.Popen[str]", url: str, log: Path, delay_s: float) -> None:
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(f"{url} {log}\n")
    parent.stdin.flush()
    child = int(parent.stdout.readline())
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    assert parent.stdout.readline() == "gone\n"


def check(url: str, done: set[str]) -> int:
    """Every invariant of the file; how many versions it has."""
    with Registry.open(url) as registry:
        adapters = registry.list_adapters("acme") if registry.list_tenants() else []
        versions = registry.list_versions("acme", "intents") if adapters else []
        release = registry.get_release("acme", "intents") if adapters else None
        audit = registry.list_audit(limit=10_000)
        sizes = [len(registry.read_content(version.digest)) for version in versions]
    digests = [version.digest for version in versions]
    # What was answered is there.
    assert done <= set(digests)
    assert sizes == [version.size for version in versions]
    assert [version.number for version in versions] == list(range(1, len(versions) + 1))
    # With `activate` a version and its release come together.
    assert (release.revision if release else 0) == len(versions)
    assert (release.stable if release else 0) == len(versions)
    published = [row.detail["digest"] for row in reversed(audit) if row.action == "version.publish"]
    assert published == digests
    assert [row.seq for row in audit] == list(range(len(audit), 0, -1))
    return len(versions)
