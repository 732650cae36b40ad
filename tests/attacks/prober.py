"""Asks a server all the while whether it lives, in a process that no sender of bodies shares."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Self

import grpc

from tests.integration.server import ROOT, Server

_PAUSE_S = 0.005
_LATEST_S = 60.0
_REQUEST = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"


@dataclass(frozen=True)
class Waits:
    """The longest waits for an answer, seconds."""

    http: float
    grpc: float

    @property
    def longest(self) -> float:
        return max(self.http, self.grpc)

    def __str__(self) -> str:
        return f"longest wait of /livez {self.http:.2f} s, of ServerLive {self.grpc:.2f} s"


class Prober:
    """A context manager; `waits` gives what was measured since the last time."""

    def __init__(self, server: Server) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(server.port), str(server.grpc_port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        self.waits()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def waits(self) -> Waits:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Waits(*json.loads(self._process.stdout.readline()))


class _Series:
    """One kind of question, asked again and again in a thread."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._longest = 0.0
        self._lock = threading.Lock()
        self._since = time.perf_counter()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self._since = started = time.perf_counter()
            with suppress(OSError, grpc.RpcError):  # it waited all the same
                self._ask()
            with self._lock:
                self._longest = max(self._longest, time.perf_counter() - started)
            self._since = time.perf_counter()
            time.sleep(_PAUSE_S)

    def take(self) -> float:
        """The longest wait, that of a question without an answer yet included."""
        with self._lock:
            longest = max(self._longest, time.perf_counter() - self._since)
            self._longest = 0.0
            return longest


def _ask_http(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), _LATEST_S) as connection:
        connection.sendall(_REQUEST)
        connection.recv(4096)


def main() -> None:
    port, grpc_port = map(int, sys.argv[1:])
    channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")
    live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive", bytes, bytes)
    asks = (partial(_ask_http, port), partial(live, b"", timeout=_LATEST_S))
    for ask in asks:
        ask()
    series = [_Series(ask) for ask in asks]
    for _ in sys.stdin:
        print(json.dumps([each.take() for each in series]), flush=True)


if __name__ == "__main__":
    main()
