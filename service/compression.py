"""Unpacks compressed bodies and messages piece by piece, so that none grows past a limit.

Eight kilobytes of gzip can hold eight megabytes. Whoever unpacks therefore counts what comes out,
and stops at the limit; no more than one piece is made beyond it.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from adapters.errors import InvalidInput, TooLarge
from service.errors import UnsupportedCoding

# For `decompressobj`: window of 32 KiB, and which header stands before the data.
_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
CODINGS: Final = ", ".join(_WINDOW_BITS)
_PIECE_BYTES: Final = 64 * 2**10  # unpacked in 0.1 to 0.3 ms, after which others have a turn
_GZIP_MAGIC: Final = b"\x1f\x8b"
_DEFLATE_METHOD: Final = 8


class Unpacker:
    """Undoes one content coding (RFC 9110, 8.4.1) of one body that comes in parts."""

    def __init__(self, coding: str) -> None:
        """`coding` is `gzip` or `deflate`, the latter in the format of zlib."""
        self._coding = coding
        self._unpacking = zlib.decompressobj(_WINDOW_BITS[coding])
        self._is_begun = False

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Unpack the next part: yields pieces of at most 64 KiB.

        Raises:
            InvalidInput: the part is not of this coding, or goes on after its end.
        """
        self._is_begun = self._is_begun or bool(part)
        has_more = False  # of what was taken in already
        while part or has_more:
            if part and self._unpacking.eof:
                raise InvalidInput(f"bytes follow the end of the {self._coding} data")
            try:
                piece = self._unpacking.decompress(part, _PIECE_BYTES)
            except zlib.error:
                raise InvalidInput(f"the data are not {self._coding}, as they should be") from None
            part = self._unpacking.unconsumed_tail or self._unpacking.unused_data
            has_more = len(piece) == _PIECE_BYTES
            if piece:
                yield piece

    def end(self) -> None:
        """Check that the whole body was there. Raises InvalidInput."""
        if self._is_begun and not self._unpacking.eof:
            raise InvalidInput(f"the {self._coding} data are cut off before their end")


def body_unpacker(headers: Sequence[str]) -> Unpacker | None:
    """The unpacker for a request's `Content-Encoding` headers; None for a plain body.

    Raises:
        UnsupportedCoding: another coding than gzip and deflate, or several.
    """
    codings = [coding.strip(" \t").lower() for header in headers for coding in header.split(",")]
    wanted = [coding.removeprefix("x-") for coding in codings if coding not in ("", "identity")]
    if not wanted:
        return None
    if len(wanted) > 1 or wanted[0] not in _WINDOW_BITS:
        raise UnsupportedCoding(
            f"a body may have one Content-Encoding, of: {CODINGS}; or send it as it is"
        )
    return Unpacker(wanted[0])


def unpack_message(content: bytes, limit: int) -> Iterator[bytes]:
    """Unpack a message of gRPC, which may be compressed: yields pieces, of `limit` bytes at most.

    Raises:
        TooLarge: there are more.
        InvalidInput: it begins as compressed data do, and goes on otherwise.
    """
    unpacker, size = _message_unpacker(content), 0
    for piece in (content,) if unpacker is None else unpacker.feed(content):
        size += len(piece)
        if size > limit:
            raise TooLarge(f"the message has more than {limit} bytes")
        yield piece
    if unpacker is not None:
        unpacker.end()


def _message_unpacker(content: bytes) -> Unpacker | None:
    """The unpacker for a message; None for one that is not compressed.

    gRPC marks each message that is compressed, and its library does not pass the mark on. But no
    message of ours begins as gzip does, with a field of a type that does not exist, nor as zlib
    does, with a field 15.
    """
    if content.startswith(_GZIP_MAGIC):
        return Unpacker("gzip")
    is_zlib = len(content) > 1 and content[0] == 0x70 | _DEFLATE_METHOD
    if is_zlib and int.from_bytes(content[:2]) % 31 == 0:  # RFC 1950, 2.2
        return Unpacker("deflate")
    return None
