"""What a message of gRPC holds is found from its bytes."""

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from service.grpc.wire import has_more_elements
from service.protos import inference_pb2 as pb
from service.protos import registry_pb2

MANY = 100_000
REQUEST = pb.ModelInferRequest


def part(field: int, content: bytes) -> bytes:
    """A field of bytes on the wire."""
    length, head = len(content), bytearray([field << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + content


def contents(content: bytes) -> bytes:
    """In the contents of an input."""
    return part(5, part(5, content))


@pytest.mark.parametrize("n_texts", [1, 1024])
def test_texts_count_once_however_long(n_texts: int) -> None:
    tensor = REQUEST.InferInputTensor(name="text", datatype="BYTES", shape=[n_texts])
    tensor.contents.bytes_contents.extend([b"\x2a\x00" * 1000] * n_texts)
    tensor.parameters["a"].int64_param = 5
    request = REQUEST(model_name="a.b", inputs=[tensor], raw_input_contents=[b"\x2a\x00" * MANY])
    assert not has_more_elements(request.SerializeToString(), REQUEST, n_texts + 20)
    assert has_more_elements(request.SerializeToString(), REQUEST, n_texts)


@pytest.mark.parametrize(
    "content",
    [
        part(5, b"") * MANY,
        part(6, b"") * MANY,
        part(7, b"") * MANY,
        part(4, b"") * MANY,
        part(4, part(2, b"\x10\x01")) * (MANY // 2),
        part(1, b"") * MANY,
        part(5, part(3, b"\x01" * MANY)),
        part(5, b"\x18\x01" * MANY),
        contents(part(1, b"\x01" * MANY)),
        contents(part(6, b"\x01" * MANY)),
        contents(part(8, b"") * MANY),
        part(5, contents(b"")) * MANY,
        b"\x78\x01" * MANY,
        b"\x7d\x00\x00\x00\x00" * MANY,
        b"\x79" + b"\x79".join([bytes(8)] * MANY),
        b"\x7b\x7c" * MANY,
        b"\x7b" * MANY + b"\x7c" * MANY,
    ],
)
def test_many_of_anything_are_seen(content: bytes) -> None:
    assert has_more_elements(content, REQUEST, 10_000)
    assert has_more_elements(part(1, b"a.b") + content, REQUEST, 10_000)


def test_bytes_of_a_piece_are_not_looked_into() -> None:
    request = registry_pb2.PublishRequest(tenant="a", content=b"\x2a\x00" * MANY)
    assert not has_more_elements(request.SerializeToString(), type(request), 10)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 20,
        b"\x0a\x05a",
        b"\x7c",
        b"\x0e",
        b"\x0f",
        b"\x0d\x00",
        b"\x08",
        part(5, b"\x0a\x09"),
    ],
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(DecodeError):
        has_more_elements(content, REQUEST, 10_000)


@given(st.binary(max_size=60), st.sampled_from((REQUEST, registry_pb2.PublishRequest)))
def test_what_can_be_unpacked_can_be_counted(content: bytes, message: type[Message]) -> None:
    try:
        message.FromString(content)
    except DecodeError:
        return
    assert not has_more_elements(content, message, 100)
