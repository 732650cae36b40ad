"""A server as a child process, for the demo, benchmarks and tests."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from adapters.errors import HeadstockError
from headstock.commands.serve import command, server_environment
from service.ports import check_port

_START_S = 60.0
_STOP_S = 20.0
_LOG_LINES = 15


class ServerFailed(HeadstockError):
    """A server process did not start; the message has the end of its log."""

    code = "server-failed"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready."""

    url: str
    grpc_port: int  # 0: no gRPC
    process: "subprocess.Popen[bytes]"
    log: Path


@contextmanager
def running_server(
    log: Path, port: int, settings: Mapping[str, str], tree: Path | None = None
) -> Iterator[Server]:
    """Start a server with `settings` (HEADSTOCK_ variables), yield it when ready, end it in order.

    `tree` is another checkout of the project, whose code it is to run.

    Raises:
        InvalidInput: the port is taken; whoever listens there would pass for the new server.
        ServerFailed: it did not become ready.
    """
    grpc_port = int(settings.get("HEADSTOCK_GRPC_PORT", free_port()))
    ports = {"HEADSTOCK_GRPC_PORT": str(grpc_port), "HEADSTOCK_PORT": str(port)}
    environment = {**server_environment(), **settings, **ports}
    check_port(environment.get("HEADSTOCK_HOST") or "127.0.0.1", port)
    with log.open("wb") as output:
        # In a session of its own: a Ctrl-C at the terminal is the caller's to handle.
        process = subprocess.Popen(
            command(),
            env=environment,
            cwd=tree,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        server = Server(f"http://127.0.0.1:{port}", grpc_port, process, log)
        try:
            _await_ready(server)
            yield server
        finally:
            _end(process)


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _await_ready(server: Server) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            ready = httpx.get(f"{server.url}/readyz", timeout=2).status_code == 200
            if ready and server.process.poll() is None:  # else another's answer
                return
        except httpx.HTTPError:
            pass  # not listening yet
        time.sleep(0.1)
    tail = "\n".join(server.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    raise ServerFailed(f"the server did not start; the end of {server.log}:\n{tail}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
