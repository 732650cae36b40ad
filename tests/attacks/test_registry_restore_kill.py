"""A restore is killed at random moments, and runs out of disk: the old state, or the new one."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from adapters.registry import Registry
from adapters.registry.backup import backup
from tests.attacks.conftest import RecordAttack
from tests.unit.registry.support import publish, spawn, url_of

ROUNDS = 12
VERSION_BYTES = 150_000

# Imports take longer than a restore: each round is a fork of one process that has them all.
RESTORER = """
import os, resource, sys
from pathlib import Path
from adapters.registry import backup, overwrite
from adapters.registry.restore import restore

overwrite.PAGES_AT_ONCE = backup.PAGES_AT_ONCE = 30
reports = 0

def stage(name, kill_at):
    def report(done, total):
        global reports
        reports += 1
        if reports == kill_at:
            os.kill(os.getpid(), 9)
    return report

def work(url, file, limit, kill_at):
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        restore(url, Path(file), stage=lambda name: stage(name, kill_at))
    except Exception as error:
        print(error, flush=True)
    os._exit(0)

for line in sys.stdin:
    url, file, limit, kill_at = line.split()
    child = os.fork()
    if not child:
        work(url, file, int(limit), int(kill_at))
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


class Restorer:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.asked, self.said = process.stdin, process.stdout

    def start(self, path: Path, file: Path, *, limit: int = 0, kill_at: int = 0) -> int:
        """Begin a restore, which kills itself at its n-th report, if asked to."""
        self.asked.write(f"{url_of(path)} {file} {limit} {kill_at}\n")
        self.asked.flush()
        return int(self.said.readline())

    def finish(self) -> str:
        return "".join(iter(self.said.readline, "gone\n"))


@pytest.fixture
def restorer() -> Iterator[Restorer]:
    with spawn(RESTORER) as process:
        yield Restorer(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "registry.db"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    """With the tenant "before" and some versions; open, as by a server."""
    with Registry.open(url_of(path)) as registry:
        registry.create_tenant("acme", actor="admin")
        for _ in range(6):
            publish(registry, os.urandom(VERSION_BYTES))
        registry.create_tenant("before", actor="admin")
        yield registry


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A backup of a registry with the tenant "after" and more versions."""
    path, file = tmp_path / "other" / "registry.db", tmp_path / "file"
    with Registry.open(url_of(path)) as registry:
        registry.create_tenant("acme", actor="admin")
        for _ in range(9):
            publish(registry, os.urandom(VERSION_BYTES))
        registry.create_tenant("after", actor="admin")
        backup(url_of(path), file, replace=False, stage=lambda _: lambda *_: None)
    return file


def state(path: Path) -> str:
    """Which of the two states the database is in; whole, or this fails."""
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        names = {row[0] for row in raw.execute("SELECT name FROM tenants")}
        versions = raw.execute("SELECT count(*) FROM versions").fetchone()[0]
    assert (names, versions) in (({"acme", "before"}, 6), ({"acme", "after"}, 9))
    return "old" if "before" in names else "new"


def test_a_killed_restore_leaves_the_old_state_or_the_new_one(
    registry: Registry, path: Path, file: Path, restorer: Restorer, record_attack: RecordAttack
) -> None:
    chance = random.Random(5)
    files = {"new": file, "old": path.with_name("before")}
    backup(url_of(path), files["old"], replace=False, stage=lambda _: lambda *_: None)
    started = time.monotonic()
    restorer.start(path, files["old"])
    assert restorer.finish() == ""
    whole_s = time.monotonic() - started
    states = ["old"]
    for turn in range(ROUNDS):
        wanted = files["old" if states[-1] == "new" else "new"]
        if turn % 2:  # between two pages; after some 25 reports it is done
            restorer.start(path, wanted, kill_at=turn * 25 // ROUNDS + 1)
        else:
            child = restorer.start(path, wanted)
            time.sleep(chance.uniform(0, whole_s))
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        assert restorer.finish() == ""
        states.append(state(path))
        assert registry.list_tenants()[0].name == "acme"
    done = sum(before != after for before, after in pairwise(states))
    record_attack(ROUNDS, f"{done} were done already, {ROUNDS - done} left the old state")
    registry.close()
    for leftover in path.parent.glob(".headstock-restore-*"):
        shutil.rmtree(leftover)
    with Registry.open(url_of(path)) as again:
        assert again.list_tenants()[0].name == "acme"


def test_a_restore_that_runs_out_of_disk_changes_nothing(
    registry: Registry, path: Path, file: Path, restorer: Restorer, record_attack: RecordAttack
) -> None:
    head, names = registry.head(), sorted(each.name for each in path.parent.iterdir())
    size = file.stat().st_size
    said = []
    # The copy of the backup; the one of what is there; the log, which has a header for each page.
    for limit in (100_000, size // 2, size + 20_000):
        restorer.start(path, file, limit=limit)
        said.append(restorer.finish())
        assert state(path) == "old"
        assert registry.head() == head
    record_attack(len(said))
    assert all("cannot be" in each for each in said), said
    assert sorted(each.name for each in path.parent.iterdir()) == names
    restorer.start(path, file)
    assert restorer.finish() == ""
    assert state(path) == "new"
