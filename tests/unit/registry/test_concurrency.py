"""Many threads and several processes on one file."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adapters.errors import Conflict, StaleRevision
from adapters.registry import Registry
from tests.unit.registry.support import finish, publish, spawn, url_of, wait_ready

OPEN = """
import sys
from adapters.registry import Registry
print("ready", flush=True)
sys.stdin.readline()
with Registry.open(sys.argv[1]) as registry:
    print(registry.ensure_admin_key())
"""

PUBLISH = """
import hashlib, sys
from adapters.registry import Registry
with Registry.open(sys.argv[1]) as registry:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(15):
        content = f"{sys.argv[2]} {n}".encode()
        published = registry.publish(
            "acme", "intents", digest=hashlib.sha256(content).hexdigest(), backbone="b" * 64,
            manifest="{}", content=content, activate=True, actor=sys.argv[2],
        )
        print(published.version.number)
"""


def test_two_processes_open_a_fresh_file_at_once(path: Path) -> None:
    children = [spawn(OPEN, url_of(path)) for _ in range(3)]
    wait_ready(children)
    outputs = [output.strip() for output in finish(children)]
    assert sorted(output == "None" for output in outputs) == [False, True, True]
    with Registry.open(url_of(path)) as registry:
        assert registry.head().seq == 1


def test_threads_open_a_fresh_file_at_once(path: Path) -> None:
    def work(_: int) -> str | None:
        with Registry.open(url_of(path)) as registry:
            return registry.ensure_admin_key()

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(work, range(8)))
    assert len([text for text in texts if text]) == 1


def test_threads_publish_without_gaps(registry: Registry) -> None:
    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(lambda n: publish(registry, b"%d" % n, activate=True), range(80)))
    assert sorted(each.version.number for each in published) == list(range(1, 81))
    check_whole(registry, 80)


def test_threads_publish_the_same_bytes_once(registry: Registry) -> None:
    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(lambda _: publish(registry, b"one", activate=True), range(16)))
    assert sum(each.created for each in published) == 1
    check_whole(registry, 1)


def test_two_processes_publish_without_gaps(registry: Registry, path: Path) -> None:
    children = [spawn(PUBLISH, url_of(path), name) for name in ("left", "right")]
    wait_ready(children)
    numbers = [int(line) for output in finish(children) for line in output.split()]
    assert sorted(numbers) == list(range(1, 31))
    check_whole(registry, 30)


def check_whole(registry: Registry, number: int) -> None:
    """Versions and revisions without gaps, and one audit row each."""
    versions = registry.list_versions("acme", "intents")
    assert [version.number for version in versions] == list(range(1, number + 1))
    release = registry.get_release("acme", "intents")
    assert release is not None
    assert release.revision <= number
    rows = registry.list_audit("acme", limit=1000)
    actions = [row.action for row in rows]
    assert actions.count("version.publish") == number
    assert actions.count("release.set") == release.revision
    assert [row.seq for row in registry.list_audit(limit=1000)] == list(
        range(registry.head().seq, 0, -1)
    )


def test_one_of_many_compare_and_sets_wins(registry: Registry) -> None:
    for n in range(8):
        publish(registry, bytes([n]), activate=n == 0)

    def move(stable: int) -> bool:
        try:
            registry.set_release("acme", "intents", stable, expected_revision=1, actor="tester")
        except StaleRevision:
            return False
        return True

    with ThreadPoolExecutor(7) as pool:
        assert sum(pool.map(move, range(2, 9))) == 1


def test_no_third_key_by_a_race(registry: Registry) -> None:
    def make(_: int) -> bool:
        try:
            registry.create_key("acme", ["predict"], actor="admin")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(make, range(8))) == 2
