"""What cannot be served ends `headstock serve` at once, with the reason, and is not retried."""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.server import PLAIN, SERVE, Server, make_home, wait_until

END_S = 15
AS_FIRST_PROCESS = ("unshare", "--user", "--map-root-user", "--pid", "--fork")
ENTRYPOINT = ("env", "--block-signal=TERM")  # as in the Dockerfile

# Root may write everywhere unless it gives up that right (CAP_DAC_OVERRIDE, by PR_CAPBSET_DROP).
UNPRIVILEGED = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])",
)


def lose_the_backbone(home: Path) -> None:
    shutil.rmtree(home / "backbones" / "tiny")


def corrupt_the_model(home: Path) -> None:
    file = home / "backbones" / "tiny" / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def corrupt_the_registry(home: Path) -> None:
    (home / "registry.sqlite").write_bytes(random.Random(3).randbytes(100_000))


def seal_the_home(home: Path) -> None:
    home.chmod(0o500)


def seal_the_home_of_a_later_start(home: Path) -> None:
    (home / "bentoml").mkdir()
    home.chmod(0o500)


CASES = [
    (lose_the_backbone, "no backbone under"),
    (corrupt_the_model, "model.onnx is not the file that was added"),
    (corrupt_the_registry, "is not an SQLite database"),
    (seal_the_home, "Permission denied"),
    (seal_the_home_of_a_later_start, "Permission denied"),
]


@pytest.mark.parametrize(
    ("spoil", "reason"), CASES, ids=lambda case: getattr(case, "__name__", " ")
)
def test_it_says_why_it_cannot_start_and_ends(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    home, _ = make_home(tmp_path)
    spoil(home)
    try:
        refuses(home, [*UNPRIVILEGED, *SERVE], reason)
    finally:
        home.chmod(0o700)


@pytest.mark.parametrize(("spoil", "reason"), CASES[:3], ids=["backbone", "model", "registry"])
def test_so_does_the_plain_command_of_bentoml(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    home, _ = make_home(tmp_path)
    spoil(home)
    refuses(home, PLAIN, reason)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    home, _ = make_home(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refuses(home, SERVE, f"cannot listen on 127.0.0.1:{port}: Address already in use", port)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"admin_key": "short"}, "HEADSTOCK_ADMIN_KEY: "),
        ({"backbones": "tiny,missing"}, "no backbone 'missing'"),
        ({"database_url": "mysql://elsewhere/registry"}, "cannot use a database of kind 'mysql'"),
        ({"poll_s": "soon"}, "HEADSTOCK_POLL_S: "),
    ],
    ids=lambda case: "".join(case) if isinstance(case, dict) else " ",
)
def test_settings_that_cannot_be_are_named(
    tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    home, _ = make_home(tmp_path)
    refuses(home, SERVE, reason, **settings)


def refuses(
    home: Path, command: Sequence[str], reason: str, port: int | None = None, **settings: Any
) -> None:
    """It ends by itself with status 1; its few lines hold the reason and no stack."""
    server = Server(home, command=command, port=port, **settings)
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        server.start()
        assert server.wait(END_S) == 1
        log = server.log()
        assert reason in log
        assert "Traceback" not in log
        assert len(log.splitlines()) < 10


@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.8, None], ids=lambda each: f"after {each} s")
@pytest.mark.parametrize("is_first", [False, True], ids=["child", "first process"])
def test_sigterm_ends_a_start_at_any_moment(
    tmp_path: Path, seconds: float | None, is_first: bool
) -> None:
    """Also where it is the first process of a container, from which unhandled signals are kept."""
    home, _ = make_home(tmp_path)
    command = [*AS_FIRST_PROCESS, *ENTRYPOINT, *SERVE] if is_first else SERVE
    if is_first and subprocess.run([*AS_FIRST_PROCESS, "true"], check=False).returncode:
        pytest.skip("this machine lets nobody have a process namespace")
    server = Server(home, command=command)
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        server.start()
        process = psutil.Process(server.process.pid)
        if is_first:
            wait_until(lambda: bool(process.children()), END_S, "a process in its namespace")
            process = process.children()[0]
            wait_until(lambda: process.cmdline()[:1] != ["unshare"], END_S, "the command")
        if seconds is None:  # while it loads: the registry is opened and the port is not
            wait_until((home / "registry.sqlite").exists, END_S, "a registry")
        time.sleep(seconds or 0)
        process.send_signal(signal.SIGTERM)
        assert server.wait(1 + END_S * (seconds == 0)) in (-signal.SIGTERM, 128 + signal.SIGTERM)
