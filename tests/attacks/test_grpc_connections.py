"""All connections of gRPC taken by one host: idle, with endless streams, back as soon as closed."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from service.protos import inference_pb2, registry_pb2
from tests.attacks.conftest import RecordAttack
from tests.contract.grpc_support import BY_NAME
from tests.contract.test_grpc_connections import PREFACE, SETTINGS, call, frame
from tests.integration.server import Server, Tenant, running, wait_until

ATTACKER = "127.0.0.2"
LIMIT, N_HELD = 256, 300
HELLO = PREFACE + frame(SETTINGS, 0, 0, b"")
# The client's first bytes on each connection. A call goes on for as long as its stream is open.
WATCH = call("/grpc.health.v1.Health/Watch")
SILENT = call(BY_NAME["ServerLive"].path)[: -len(frame(0, 1, 1, b"\0" * 5))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("connections")) as (server, _):
        yield server


@pytest.fixture(scope="module")
def tenant(server: Server) -> Tenant:
    return server.add_tenant("acme")


class Crowd:
    """Connections of one host; with `returns`, each is made again as soon as it is closed."""

    def __init__(self, server: Server, first: bytes, returns: bool = False) -> None:
        self._port, self._first, self._returns = server.grpc_port, first, returns
        self._stopped = threading.Event()
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._come_back)
        self.n_made = 0

    def __enter__(self) -> "Crowd":
        self._fill()
        if self._returns:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._returns:
            self._thread.join()
        for connection in self._held:
            connection.close()

    def _fill(self) -> None:
        while len(self._held) < N_HELD:
            with contextlib.suppress(OSError):
                connection = socket.create_connection(
                    ("127.0.0.1", self._port), 5, source_address=(ATTACKER, 0)
                )
                self._held.append(connection)
                connection.sendall(self._first)
                connection.setblocking(False)
                self.n_made += 1

    def _come_back(self) -> None:
        while not self._stopped.is_set():
            self.drop_closed()
            self._fill()

    def drop_closed(self) -> int:
        """Forget those that the server has closed; how many are open."""
        for connection in list(self._held):
            if is_closed(connection):
                self._held.remove(connection)
                connection.close()
        return len(self._held)


def is_closed(connection: socket.socket) -> bool:
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def newcomer(server: Server) -> float:
    """Seconds that a call takes on a connection of its own, from another host."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    started = time.monotonic()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
        method = BY_NAME["ServerLive"]
        ask = channel.unary_unary(
            method.path, method.request.SerializeToString, method.answer.FromString
        )
        ask(inference_pb2.ServerLiveRequest(), timeout=5)
    return time.monotonic() - started


@pytest.mark.parametrize(
    "first",
    [b"", PREFACE[:10], HELLO, HELLO + SILENT, HELLO + WATCH],
    ids=["nothing", "half a preface", "idle", "a call without a message", "a stream"],
)
@pytest.mark.parametrize("returns", [False, True], ids=["stays", "returns"])
def test_one_host_with_all_connections_keeps_nobody_out(
    server: Server, record_attack: RecordAttack, first: bytes, returns: bool
) -> None:
    with Crowd(server, first, returns) as crowd:
        waits = []
        for _ in range(20):
            with contextlib.suppress(grpc.RpcError):
                waits.append(newcomer(server))
            time.sleep(0.02)
    figure = f"{len(waits)} of 20 newcomers answered, the slowest in {max(waits, default=0):.2f} s"
    record_attack(attempts=crowd.n_made, figure=figure)
    assert len(waits) == 20
    assert max(waits) < 2


def test_connections_over_the_limit_are_closed_and_counted(
    server: Server, record_attack: RecordAttack
) -> None:
    def n_open_now() -> float:
        return server.metrics()['headstock_connections{protocol="grpc"}']

    def n_closed() -> float:
        return server.metrics()['headstock_closed_connections_total{protocol="grpc"}']

    settle(lambda: n_open_now() == 0)  # those of other tests, whose hosts keep theirs
    before = n_closed()
    with Crowd(server, HELLO) as crowd:
        settle(lambda: crowd.drop_closed() <= LIMIT)
        n_open = crowd.drop_closed()
        settle(lambda: n_closed() - before >= N_HELD - LIMIT)
        shown = n_open_now()
        record_attack(attempts=N_HELD, figure=f"{n_open} of {N_HELD} connections left open")
        assert n_open == LIMIT == shown
        assert n_closed() - before == N_HELD - LIMIT
    settle(lambda: n_open_now() == 0)


def test_a_call_with_a_key_goes_on_while_connections_are_closed(
    server: Server, tenant: Tenant, record_attack: RecordAttack
) -> None:
    """Three seconds of an upload, from the same host as the crowd: it is closed last."""
    method = BY_NAME["Publish"]
    options = (("grpc.use_local_subchannel_pool", 1),)
    go_on = threading.Event()

    def slowly() -> Iterator[registry_pb2.PublishRequest]:
        yield registry_pb2.PublishRequest(tenant=tenant.name, adapter="intents", content=b"a")
        go_on.wait(10)

    metadata = (("authorization", f"Bearer {tenant.key}"),)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
        publish = channel.stream_unary(
            method.path, method.request.SerializeToString, method.answer.FromString
        )
        answer = publish.future(slowly(), metadata=metadata)
        time.sleep(0.2)
        crowds = [Crowd(server, HELLO, returns=True) for _ in range(2)]
        with crowds[0], crowds[1]:
            time.sleep(1.5)
            go_on.set()
            error = answer.exception(timeout=5)
    assert isinstance(error, grpc.RpcError)
    code = error.code()
    record_attack(attempts=sum(each.n_made for each in crowds), figure=f"ended with {code.name}")
    assert code == grpc.StatusCode.INVALID_ARGUMENT  # what it says of a file that is no adapter


def test_idle_connections_cost_nothing(server: Server) -> None:
    with Crowd(server, HELLO):
        time.sleep(1)
        before, started = server.worker.cpu_times(), time.monotonic()
        time.sleep(3)
        after, seconds = server.worker.cpu_times(), time.monotonic() - started
    used = after.user - before.user + after.system - before.system
    assert used / seconds < 0.2


def settle(is_so: Callable[[], bool]) -> None:
    wait_until(is_so, 15, "connections are closed and counted")
