"""A peer's server as a process tree: started, awaited, weighed, ended by its own ids."""

import http.client
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from backbone.telemetry import OPT_OUTS
from benchmarks.peers.peer import Peer, Place, Start, Unavailable

ROOT = Path(__file__).parents[2]
_START_S = 90.0
_STOP_S = 15.0
_REASON_LINES = 4
# Nothing is reported to anybody, nothing is fetched.
QUIET = {**OPT_OUTS, "INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready."""

    pid: int
    port: int

    def rss(self) -> int:
        """Resident bytes of the process and all below it."""
        return tree_rss(self.pid)


@contextmanager
def running(peer: Peer, place: Place) -> Iterator[Running]:
    """Start a peer's server, yield it when ready, end it with all of its processes.

    Raises:
        Unavailable: it did not become ready, with the end of its log.
    """
    start = peer.start(place)
    log = place.scratch / "server.log"
    path = os.pathsep.join((str(place.programs), os.environ.get("PATH", "")))
    variables = {**os.environ, **QUIET, "PATH": path, "PYTHONPATH": str(ROOT), **start.variables}
    with log.open("wb") as output:
        process = subprocess.Popen(
            start.command,
            cwd=place.scratch,
            env=variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _await_ready(process, place.port, start, log)
        yield Running(process.pid, place.port)
    finally:
        _end(process)


def tree_rss(pid: int) -> int:
    """Resident bytes of the process `pid` and all below it; shared pages count in each."""
    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _await_ready(process: "subprocess.Popen[bytes]", port: int, start: Start, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if all(_is_ready(port, path) for path in start.ready):
            return
        time.sleep(0.1)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    ended = f"ended with {process.returncode}" if process.poll() is not None else "is not ready"
    raise Unavailable(f"its server {ended}: {' '.join(said[-_REASON_LINES:])}")


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False  # not listening yet
    finally:
        connection.close()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _end(process: "subprocess.Popen[bytes]") -> None:
    """In order where it can; what is left of its tree is killed by id."""
    tree = _tree(process.pid)
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(tree, timeout=3)
    for each in left:  # psutil refuses a number that another process has by now
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
