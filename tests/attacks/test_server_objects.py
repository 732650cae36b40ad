"""Bodies that are small in bytes and large in objects: other clients do not notice them."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import grpc
import pytest

from tests.attacks.conftest import RecordAttack
from tests.attacks.prober import Prober
from tests.attacks.test_server_bodies import peak
from tests.integration.server import ADMIN_KEY, Server, predict, running, upload, wait_until
from tests.support import make_adapter_file, make_manifest

T = TypeVar("T")
VERSIONS = "/v1/tenants/acme/adapters/other/versions"
MANIFEST = make_manifest().to_json()[:-1]
SIZE = 8 * 2**20 - 100
AT_ONCE = 4
MOST_WAIT_S = 0.5  # without any of the bounds it is 1 to 12 seconds
MOST_PEAK = 200 * 2**20  # the bodies themselves, in a few copies; without bounds, gigabytes
MOST_KEPT = 60 * 2**20

PREDICT = "/v1/tenants/acme/adapters/intents/predict"
ALL = "/v1/tenants/acme/predict"
EMBED = "/v1/embeddings"
INFER = "/v2/models/acme.intents/infer"
QUOTA = "/v1/tenants/acme/quota"
TENSOR = b'{"name":"text","shape":[1],"datatype":"BYTES","data":[%s]}'
N_EMPTY = 2_000_000


@dataclass(frozen=True)
class Served:
    """A server with a tenant, and who asks all the while whether it lives."""

    server: Server
    key: str
    prober: Prober


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(tmp_path_factory.mktemp("objects")) as (server, digest):
        key = server.add_tenant("acme").key
        with server.http() as http:
            upload(http, "acme", "intents", make_adapter_file(backbone=digest))
        with Prober(server) as prober:
            yield Served(server, key, prober)


def fill(pattern: bytes, unit: bytes, separator: bytes = b",") -> bytes:
    """The pattern with as many units as the body may have."""
    count = (SIZE - len(pattern)) // (len(unit) + len(separator))
    return pattern.replace(b"%s", separator.join([unit] * count), 1)


def keys(pattern: bytes, count: int) -> bytes:
    return pattern.replace(b"%s", b",".join(b'"%x":0' % number for number in range(count)), 1)


def inputs(unit: bytes) -> bytes:
    return fill(b'{"inputs":[%s]}', unit)


# For each body: where it goes, and its making.
BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "lists of a number": (EMBED, lambda: fill(b'{"model":"tiny","input":[%s]}', b"[1]")),
    "lists of nothing": (EMBED, lambda: fill(b'{"model":"tiny","input":[%s]}', b"[]")),
    "objects": (PREDICT, lambda: inputs(b"{}")),
    "objects in objects": (PREDICT, lambda: inputs(b'{"":{"":[]}}')),
    "nulls": (PREDICT, lambda: inputs(b"null")),
    "numbers": (PREDICT, lambda: inputs(b"1")),
    "fractions": (PREDICT, lambda: inputs(b"1e5")),
    "numbers of 4,300 digits": (PREDICT, lambda: inputs(b"1" * 4300)),
    "empty texts": (PREDICT, lambda: inputs(b'""')),
    "texts of escapes": (PREDICT, lambda: inputs(b'"\\u00e9"')),
    "one text of escapes": (PREDICT, lambda: fill(b'{"inputs":["%s"]}', b"\\u00e9", b"")),
    "one text of quotes": (PREDICT, lambda: fill(b'{"inputs":["%s"]}', b'\\"', b"")),
    "unknown fields": (PREDICT, lambda: keys(b"{%s}", 800_000)),
    "the same field": (PREDICT, lambda: fill(b"{%s}", b'"a":0')),
    "fields deeper inside": (PREDICT, lambda: keys(b'{"inputs":{%s}}', 700_000)),
    "adapters": (ALL, lambda: fill(b'{"inputs":["a"],"adapters":[%s]}', b'"b"')),
    "fields for BentoML": ("/predict", lambda: keys(b"{%s}", 800_000)),
    "parameters": (INFER, lambda: keys(b'{"parameters":{%s}}', 600_000)),
    "elements": (INFER, lambda: fill(b'{"inputs":[' + TENSOR + b"]}", b'[""]')),
    "tensors": (INFER, lambda: inputs(TENSOR.replace(b"%s", b""))),
    "a shape": (INFER, lambda: fill(b'{"inputs":[{"shape":[%s]}]}', b"1")),
    "outputs": (INFER, lambda: fill(b'{"outputs":[%s]}', b'{"name":"label"}')),
    "a body for the index": ("/v2/repository/index", lambda: fill(b'{"ready":[%s]}', b"[1]")),
    "white space": (PREDICT, lambda: b" " * SIZE),
    "white space inside": (PREDICT, lambda: fill(b'{"inputs":[%s"a"]}', b" ", b"")),
    "lists in lists": (PREDICT, lambda: b"[" * SIZE),
    "objects without end": (PREDICT, lambda: b'{"a":' * (SIZE // 5)),
    "bytes that are no UTF-8": (PREDICT, lambda: inputs(b'"a, b"')[:-3] + b'\xff"]}'),
    "a body for a tenant": ("/v1/tenants", lambda: fill(b'{"name":[%s]}', b"[1]")),
    "a body for keys": ("/v1/tenants/acme/keys", lambda: fill(b'{"scopes":[%s]}', b"1")),
    "a body for a quota": (QUOTA, lambda: fill(b'{"bytes":[%s]}', b'{"":1}')),
    "a body for a release": (
        "/v1/tenants/acme/adapters/intents/release",
        lambda: fill(b'{"stable":[%s]}', b"[]"),
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_json_of_many_objects_holds_up_nobody(
    served: Served, record_attack: RecordAttack, name: str
) -> None:
    path, make = BODIES[name]
    body, of_admin = make(), path in ("/v1/tenants", QUOTA) or path.endswith("keys")
    method = "PUT" if path.endswith(("quota", "release")) else "POST"

    def send() -> int:
        with served.server.http(ADMIN_KEY if of_admin else served.key) as http:
            return http.request(method, path, content=body).status_code

    statuses = at_once(served, record_attack, send)
    assert set(statuses) <= {400, 413}


def test_a_tensor_of_empty_texts_holds_up_nobody(
    served: Served, record_attack: RecordAttack
) -> None:
    given = {"name": "text", "shape": [N_EMPTY], "datatype": "BYTES"}
    parameters = {"binary_data_size": 4 * N_EMPTY}
    head = json.dumps({"inputs": [{**given, "parameters": parameters}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}

    def send() -> int:
        with served.server.http(served.key) as http:
            content = head + bytes(4 * N_EMPTY)
            return http.post(INFER, content=content, headers=headers).status_code

    assert at_once(served, record_attack, send) == [413] * AT_ONCE


def in_file(manifest: str) -> bytes:
    header = json.dumps({"__metadata__": {"headstock": manifest}}).encode()
    return len(header).to_bytes(8, "little") + header


def many(unit: str, count: int) -> str:
    return ",".join(unit.replace("%", str(number)) for number in range(count))


TRAINING = ',"training":{"rows":1,"fingerprint":"%s","seed":0' % ("ab" * 32)
FILES: dict[str, Callable[[], bytes]] = {
    "lists in a header": lambda: in_file("").replace(b'""', b"[" + b"[]," * 10**6 + b"1]"),
    "lists": lambda: in_file('{"a":[' + many("[]", 10**6) + "]}"),
    "unknown keys": lambda: in_file("{" + many('"%":0', 300_000) + "}"),
    "fewer unknown keys": lambda: in_file("{" + many('"%":0', 45_000) + "}"),
    "counts": lambda: in_file(
        MANIFEST + TRAINING + ',"settings":{},"rows_per_label":[' + many("-1", 90_000) + "]}}"
    ),
    "settings": lambda: in_file(
        MANIFEST
        + TRAINING
        + ',"rows_per_label":[1,1],"settings":{'
        + many('"%":[]', 30_000)
        + "}}}"
    ),
    "metrics": lambda: in_file(
        MANIFEST
        + ',"measured":{"rows":1,"baselines":{},"adapter":{'
        + many('"%":{}', 30_000)
        + "}}}"
    ),
    "baselines": lambda: in_file(
        MANIFEST
        + ',"measured":{"rows":1,"adapter":{},"baselines":{'
        + many('"%":{"":{}}', 15_000)
        + "}}}"
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_many_objects_hold_up_nobody(
    served: Served, record_attack: RecordAttack, name: str
) -> None:
    content = FILES[name]()

    def send() -> int:
        with served.server.http(served.key) as http:
            return http.post(VERSIONS, content=content).status_code

    assert at_once(served, record_attack, send) == [422] * AT_ONCE


def part(field: int, content: bytes) -> bytes:
    """A field of bytes as it is on the wire."""
    head, length = bytearray([field << 3 | 2]), len(content)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + content


def repeated(field: bytes, around: int = 0) -> bytes:
    """A field as often as the message may have it, with room for what goes around it."""
    return field * ((SIZE - 100 - around) // len(field))


def named(content: bytes) -> bytes:
    return part(1, b"acme.intents") + content


TEXTS = part(1, b"text") + part(2, b"BYTES")
MESSAGES: dict[str, Callable[[], bytes]] = {
    "inputs": lambda: repeated(part(5, b"")),
    "outputs": lambda: repeated(part(6, b"")),
    "raw contents": lambda: repeated(part(7, b"")),
    "parameters": lambda: repeated(part(4, b"")),
    "parameters of an input": lambda: part(5, repeated(part(4, b"\x0a\x00"))),
    "texts": lambda: part(5, TEXTS + part(5, repeated(part(8, b"")))),
    "booleans": lambda: part(5, part(5, part(1, b"\x01" * (SIZE - 100)))),
    "numbers": lambda: part(5, part(5, part(3, b"\x01" * (SIZE - 100)))),
    "a shape": lambda: part(5, part(3, b"\x01" * (SIZE - 100))),
    "a raw tensor": lambda: part(5, TEXTS + part(3, b"\x80\x89\x7a")) + part(7, bytes(SIZE - 200)),
    "unknown numbers": lambda: repeated(b"\x78\x00"),
    "groups": lambda: repeated(b"\x7b\x7c"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_of_many_elements_hold_up_nobody(
    served: Served, record_attack: RecordAttack, name: str
) -> None:
    content = named(MESSAGES[name]())

    def send() -> str:
        with served.server.grpc() as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", bytes, bytes)
            with pytest.raises(grpc.RpcError) as caught:
                infer(content, metadata=(("authorization", f"Bearer {served.key}"),), timeout=60)
            return str(caught.value.code().name)

    assert at_once(served, record_attack, send) == ["INVALID_ARGUMENT"] * AT_ONCE


@pytest.mark.parametrize(
    "method",
    [
        "inference.GRPCInferenceService/ServerLive",
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_messages_without_a_key_hold_up_nobody(
    served: Served, record_attack: RecordAttack, method: str
) -> None:
    content = repeated(b"\x0a\x00")

    def send() -> str:
        with served.server.grpc() as channel:
            ask = channel.stream_stream(f"/{method}", bytes, bytes)
            with pytest.raises(grpc.RpcError) as caught:
                next(ask(iter([content]), timeout=60))
            return str(caught.value.code().name)

    assert at_once(served, record_attack, send) == ["INVALID_ARGUMENT"] * AT_ONCE


def test_texts_full_of_punctuation_are_parsed(served: Served, record_attack: RecordAttack) -> None:
    body = json.dumps({"model": "unknown", "input": ['[{,:"\\' * 900] * 1024}).encode()

    def send() -> int:
        with served.server.http(served.key) as http:
            return http.post(EMBED, content=body).status_code

    assert at_once(served, record_attack, send) == [404] * AT_ONCE  # there is no such model


def test_memory_is_given_back(served: Served, record_attack: RecordAttack) -> None:
    before = served.server.rss()
    bodies = [BODIES[name][1]() for name in ("lists of a number", "empty texts")]
    messages = [named(MESSAGES[name]()) for name in ("inputs", "raw contents")]
    for _ in range(3):
        with served.server.http(served.key) as http:
            for body in bodies:
                http.post(EMBED, content=body)
        with served.server.grpc() as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", bytes, bytes)
            for message in messages:
                with pytest.raises(grpc.RpcError):
                    infer(message, metadata=(("authorization", f"Bearer {served.key}"),))
    with served.server.http() as http:
        predict(http, "acme", "intents", ["hello"])
    with_margin = before + MOST_KEPT
    record_attack(attempts=12, figure=f"{(served.server.rss() - before) >> 20} MB more are kept")
    wait_until(lambda: served.server.rss() < with_margin, 10, "the memory is given back")


def at_once(served: Served, record_attack: RecordAttack, send: Callable[[], T]) -> list[T]:
    """What several senders at once are told, while nobody else waits and memory stays."""
    answers: list[T] = []
    before = max(peak(served.server), served.server.rss())
    served.prober.waits()
    threads = [threading.Thread(target=lambda: answers.append(send())) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    waits = served.prober.waits()
    record_attack(attempts=AT_ONCE, figure=str(waits))
    assert waits.longest < MOST_WAIT_S
    assert peak(served.server) - before < MOST_PEAK
    return answers
