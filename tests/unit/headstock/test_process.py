"""A server as a child process: it is never confused with another."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from adapters.errors import InvalidInput
from headstock import process as module
from headstock.process import ServerFailed, running_server


def test_a_busy_port_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTOCK_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with (
            pytest.raises(InvalidInput, match=f"cannot listen on 127.0.0.1:{port}"),
            running_server(tmp_path / "log", port, {}),
        ):
            pass


def test_an_answer_is_not_believed_once_the_process_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server answers in place of the one that could not listen."""
    monkeypatch.setenv("HEADSTOCK_HOME", str(tmp_path))
    monkeypatch.setattr(module, "command", lambda: [sys.executable, "-c", "print('no port')"])
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: object, **options: object) -> "subprocess.Popen[bytes]":
        started.append(popen(*arguments, **options))  # type: ignore[call-overload]  # as they are
        return started[-1]

    def answer(url: str, timeout: float) -> httpx.Response:
        started[0].wait()
        return httpx.Response(200)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(httpx, "get", answer)
    with (
        pytest.raises(ServerFailed, match="no port"),
        running_server(tmp_path / "log", module.free_port(), {}),
    ):
        pass
