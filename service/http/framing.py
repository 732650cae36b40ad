"""Which heads of requests are refused before an app sees them: what a proxy may read otherwise.

Two programs that disagree about where a request ends, or whom it is for, can be made to take one
client's bytes for another client's request. The rules are those of RFC 9110 and RFC 9112.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case

BAD_REQUEST: Final = 400
NOT_IMPLEMENTED: Final = 501
VERSION_NOT_SUPPORTED: Final = 505
# RFC 9110, 7.2: a name or an address, perhaps with a port. An empty one is allowed.
_HOST: Final = re.compile(
    rb"[A-Za-z0-9._~!$&'()*+,;=%-]*(:[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{0,5})?"
)
# Zeros in front change nothing, and are how one number becomes thousands of digits.
_LENGTH: Final = re.compile(rb"[0-9]{1,15}[ \t]*")


def find_fault(version: str, method: bytes, headers: Headers) -> int | None:
    """The status that a head must be refused with; None if there is nothing to refuse."""
    if version not in ("1.1", "1.0"):
        # Without a version it is HTTP/0.9, whose answers have no head.
        return BAD_REQUEST if version == "0.9" else VERSION_NOT_SUPPORTED
    if method == b"CONNECT":  # this is no proxy, and what follows the head would not be HTTP
        return NOT_IMPLEMENTED
    hosts, coding, length = 0, None, None
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                return BAD_REQUEST
        elif name == b"transfer-encoding":
            coding = value if coding is None else b"%b,%b" % (coding, value)
        elif name == b"content-length":
            if length is not None or not _LENGTH.fullmatch(value):
                return BAD_REQUEST
            length = value
    if hosts > 1 or (not hosts and version == "1.1"):
        return BAD_REQUEST
    if coding is None:
        return None
    if version == "1.0" or length is not None:  # RFC 9112, 6.1: the framing is faulty
        return BAD_REQUEST
    return None if coding.strip(b" \t").lower() == b"chunked" else NOT_IMPLEMENTED


def without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """The head of a request as a client sends it that asks for no other protocol.

    RFC 9110, 7.8: a server may ignore that a client would rather speak another protocol.
    """
    lines = [b"%b %b HTTP/%b\r\n" % (method, target, version.encode())]
    lines += (b"%b: %b\r\n" % header for header in _kept(headers))
    return b"".join((*lines, b"\r\n"))


def _kept(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    for name, value in headers:
        if name == b"connection":
            options = (option.strip(b" \t") for option in value.split(b","))
            value = b", ".join(option for option in options if option.lower() != b"upgrade")
        if name != b"upgrade":
            yield name, value
