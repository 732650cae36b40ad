"""A real server in processes of its own, for tests that need the whole of it."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import grpc
import httpx
import psutil

import service
from headstock.client import Client
from service.protos import inference_pb2
from tests.tiny import make_tiny_backbone

ADMIN_KEY: Final = "the-admin-key-of-tests-0123456789"
ROOT: Final = Path(service.__file__).parents[1]
SERVE: Final = (sys.executable, "-m", "headstock", "serve")
# The other way to serve.
PLAIN: Final = (sys.executable, "-m", "bentoml", "serve", "service:Headstock")
START_S: Final = 60.0
STOP_S: Final = 15.0
LOG_S: Final = 0.05


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Poll until `condition` holds; how long it took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.005)
    return time.monotonic() - started


def free_port() -> int:
    """A port outside the range from which the system gives clients theirs."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


def make_home(folder: Path) -> tuple[Path, str]:
    """A home with the tiny backbone, and that backbone's digest."""
    home = folder / "home"
    return home, make_tiny_backbone(home / "backbones").digest


def environment(home: Path, **settings: object) -> dict[str, str]:
    """This process's environment with the server's settings and no others."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HEADSTOCK_", "BENTOML_"))
    }
    kept |= {"HEADSTOCK_HOME": str(home), "BENTOML_HOME": str(home / "bentoml")}
    return kept | {f"HEADSTOCK_{name.upper()}": str(value) for name, value in settings.items()}


def _lives(process: psutil.Process) -> bool:
    """Whether a process runs; one that ended may wait long for its parent to ask about it."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class Tenant:
    """A tenant of a running server, with a key that may predict and publish."""

    name: str
    key: str
    key_id: str


class Server:
    """One server. As a context manager it is ready inside, and every process of it ends after."""

    def __init__(
        self,
        home: Path,
        *,
        command: Sequence[str] = SERVE,
        port: int | None = None,
        admin_key: str | None = ADMIN_KEY,
        **settings: object,
    ) -> None:
        self.home = home
        self.port = port or free_port()
        self.grpc_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = home.parent / f"server-{self.port}.log"
        self._command = command
        if admin_key is not None:
            settings["admin_key"] = admin_key
        settings.setdefault("threads", 1)  # with nothing to choose, a start is quick
        settings.setdefault("grpc_port", self.grpc_port)
        self._environment = environment(home, port=self.port, **settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._family: list[psutil.Process] = []

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> None:
        self.kill()
        if error is not None:
            error.add_note(f"the server's log ends:\n{self.log()[-4000:]}")

    def start(self) -> None:
        """Start the processes, without waiting for them."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> float:
        """Wait for /readyz; how long it took."""
        took = wait_until(self._is_ready, START_S, f"ready; its log ends:\n{self.log()[-4000:]}")
        self._see_family()
        return took

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"the server ended; its log:\n{self.log()[-4000:]}"
        with contextlib.suppress(httpx.HTTPError), self.http(None) as http:
            return http.get("/readyz").status_code == 200
        return False

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process that was started."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def worker(self) -> psutil.Process:
        """The one process that answers: bentoml's child, or the very one that was started."""
        process = psutil.Process(self.process.pid)
        return next(iter(process.children()), process)

    def rss(self) -> int:
        """Memory of the worker, bytes."""
        return int(self.worker.memory_info().rss)

    def log(self) -> str:
        """All that the server has printed: a thread of its writes a moment after the answer."""
        time.sleep(LOG_S)
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """The log from a place on: every line is one JSON object."""
        return [json.loads(line) for line in self.log()[since:].splitlines()]

    def complaints(self, since: int) -> list[dict[str, Any]]:
        """What it logged besides the requests that it answered."""
        return [each for each in self.events(since) if each["level"] != "info"]

    def terminate(self) -> int:
        """Ask the server to stop as an operator would; its exit status."""
        self._see_family()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def wait(self, seconds: float) -> int:
        """Wait for an end that the server chose; its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it runs on; its log ends:\n{self.log()[-4000:]}") from None

    def kill(self) -> None:
        """SIGKILL to the group that was started and to the worker, which has a group of its own."""
        if self._process is None:
            return
        self._see_family()
        for member in self._family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S)
        wait_until(lambda: not any(map(_lives, self._family)), STOP_S, "all processes ended")
        self._family.clear()

    def _see_family(self) -> None:
        """Remember the processes while their parent can still tell them."""
        with contextlib.suppress(psutil.NoSuchProcess):
            known = psutil.Process(self.process.pid).children(recursive=True)
            self._family += [each for each in known if each not in self._family]

    # What tests do with it

    def client(self, key: str = ADMIN_KEY) -> Client:
        """The command line's client; use it as a context manager."""
        return Client(self.url, key)

    def http(self, key: str | None = ADMIN_KEY) -> httpx.Client:
        """Plain HTTP."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # With no TLS to check, a client need not read every certificate of the machine.
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, verify=False)

    def add_tenant(self, name: str) -> Tenant:
        """A new tenant with a key."""
        with self.client() as admin:
            admin.create_tenant(name)
            made = admin.create_key(name, ["predict", "publish"])
        return Tenant(name, made["key"], made["id"])

    def grpc(self) -> grpc.Channel:
        """A channel; use it as a context manager."""
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}")

    def metrics(self) -> dict[str, float]:
        """Every series with its value."""
        with self.http(None) as http:
            text = http.get("/metrics").raise_for_status().text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def connect(self, timeout_s: float = 15) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)


def total(metrics: Mapping[str, float], name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(value for series, value in metrics.items() if series.split("{")[0] == name)


def upload(
    http: httpx.Client, tenant: str, adapter: str, content: bytes, *, activate: bool = True
) -> dict[str, Any]:
    """Upload a version; its answer."""
    path = f"/v1/tenants/{tenant}/adapters/{adapter}/versions"
    response = http.post(path, params={"activate": str(activate).lower()}, content=content)
    assert response.status_code in (200, 201), response.text
    answer: dict[str, Any] = response.json()
    return answer


def predict(http: httpx.Client, tenant: str, adapter: str, inputs: Sequence[str]) -> dict[str, Any]:
    """Predictions; anything but an answer is a failure."""
    path = f"/v1/tenants/{tenant}/adapters/{adapter}/predict"
    response = http.post(path, json={"inputs": list(inputs)})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def infer(
    channel: grpc.Channel, key: str, model: str, texts: Sequence[str]
) -> inference_pb2.ModelInferResponse:
    """Answers over gRPC; raises grpc.RpcError for anything else."""
    given = inference_pb2.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[len(texts)]
    )
    given.contents.bytes_contents.extend(text.encode() for text in texts)
    request = inference_pb2.ModelInferRequest(model_name=model, inputs=[given])
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        inference_pb2.ModelInferRequest.SerializeToString,
        inference_pb2.ModelInferResponse.FromString,
    )
    metadata = (("authorization", f"Bearer {key}"),)
    return call(request, metadata=metadata, timeout=30)


@contextlib.contextmanager
def running(folder: Path, **settings: Any) -> Iterator[tuple[Server, str]]:
    """A server on a home of its own under `folder`, and the digest of its backbone."""
    home, digest = make_home(folder)
    with Server(home, **settings) as server:
        yield server, digest
