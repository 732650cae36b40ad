"""Compressed bodies and messages come out whole, in bounded pieces, or are refused."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import InvalidInput, TooLarge
from service.compression import Unpacker, body_unpacker, unpack_message
from service.errors import UnsupportedCoding
from service.grpc.methods import METHODS

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
MOST = 64 * 2**10


def unpack(coding: str, *parts: bytes) -> bytes:
    unpacker = Unpacker(coding)
    pieces = [piece for part in parts for piece in unpacker.feed(part)]
    assert all(0 < len(piece) <= MOST for piece in pieces)
    unpacker.end()
    return b"".join(pieces)


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("size", [0, 1, MOST - 1, MOST, MOST + 1, 3 * MOST, 10 * MOST + 7])
@pytest.mark.parametrize("content", [b"\0", b"ab" * 100 + b"c"])
def test_data_come_out_whole_however_they_are_cut(coding: str, size: int, content: bytes) -> None:
    plain = (content * (size // len(content) + 1))[:size]
    packed = PACK[coding](plain)
    assert unpack(coding, packed) == plain
    assert unpack(coding, *(bytes([byte]) for byte in packed)) == plain


@given(st.binary(max_size=2000), st.data())
def test_any_data_come_out_whole(plain: bytes, data: st.DataObject) -> None:
    for coding, pack in PACK.items():
        packed = pack(plain)
        cut = data.draw(st.integers(0, len(packed)))
        assert unpack(coding, packed[:cut], packed[cut:]) == plain


@pytest.mark.parametrize("coding", PACK)
def test_what_is_cut_off_or_goes_on_is_refused(coding: str) -> None:
    packed = PACK[coding](b"some text" * 1000)
    for end in range(1, len(packed)):
        with pytest.raises(InvalidInput, match="cut off"):
            unpack(coding, packed[:end])
    for more in (b"x", packed):
        with pytest.raises(InvalidInput, match="follow the end"):
            unpack(coding, packed + more)
        with pytest.raises(InvalidInput, match="follow the end"):
            unpack(coding, packed, more)


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("content", [b"{}", b'{"inputs": ["a"]}', b"\x1f\x8b\x07" + bytes(20)])
def test_what_is_not_compressed_as_said_is_refused(coding: str, content: bytes) -> None:
    with pytest.raises(InvalidInput, match=f"not {coding}|cut off"):
        unpack(coding, content)


def test_no_data_are_no_data() -> None:
    """Some clients say gzip of a request that has no body."""
    assert unpack("gzip") == b""
    assert unpack("gzip", b"", b"") == b""


@pytest.mark.parametrize(
    "headers", [[], [""], ["identity"], ["Identity"], ["identity, identity"], ["", "identity"]]
)
def test_a_plain_body_is_left_as_it_is(headers: list[str]) -> None:
    assert body_unpacker(headers) is None


@pytest.mark.parametrize(
    "headers", [["gzip"], ["GZIP"], ["x-gzip"], ["deflate"], ["identity, gzip"], ["", " gzip "]]
)
def test_codings_are_known_by_each_of_their_names(headers: list[str]) -> None:
    assert body_unpacker(headers) is not None


@pytest.mark.parametrize(
    "headers",
    [["br"], ["zstd"], ["compress"], ["gzip, gzip"], ["gzip", "gzip"], ["deflate, gzip"], ["gz"]],
)
def test_other_codings_are_refused_by_name_of_those_that_are_known(headers: list[str]) -> None:
    with pytest.raises(UnsupportedCoding, match="gzip, deflate"):
        body_unpacker(headers)


@pytest.mark.parametrize("pack", [bytes, *PACK.values()])
def test_a_message_has_a_limit_however_it_is_packed(pack: type[bytes]) -> None:
    plain = b"\x0a" + bytes(100_000)
    assert b"".join(unpack_message(pack(plain), len(plain))) == plain
    with pytest.raises(TooLarge):
        list(unpack_message(pack(plain), len(plain) - 1))


def test_no_message_that_is_not_packed_looks_as_if_it_were() -> None:
    """zlib's first byte is the tag of a field 15, which no message may therefore have."""
    for method in METHODS:
        assert 15 not in method.request.DESCRIPTOR.fields_by_number
    for plain in (b"", b"\x0a", b"x", b"\x0a\x02hi", b"\x78\x00"):
        assert list(unpack_message(plain, 100)) == [plain]
