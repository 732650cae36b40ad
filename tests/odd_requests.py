"""Requests that two programs may read differently: where they end, whom they are for, how many."""

from collections.abc import Iterator
from dataclasses import dataclass

ODD = "odd"  # the id of the first request
SMUGGLED = "smuggled"  # of what must never be taken for a request
FOLLOWING = "following"  # of what is one, behind the first
BODY = b"GET /v1/smuggled HTTP/1.1\r\nHost: a\r\nX-Request-Id: %b\r\n\r\n" % SMUGGLED.encode()
NEXT = b"GET /v1/next HTTP/1.1\r\nHost: a\r\nX-Request-Id: %b\r\n\r\n" % FOLLOWING.encode()
TARGET = b"/v1/tenants"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@dataclass(frozen=True)
class OddRequest:
    """Bytes of a connection, and how many answers a client may get to them at most."""

    name: str
    content: bytes
    answers: int = 1

    def __str__(self) -> str:
        return self.name


def head(
    *lines: bytes,
    method: bytes = b"POST",
    target: bytes = TARGET,
    version: bytes = b"HTTP/1.1",
    host: bytes = b"Host: a\r\n",
) -> bytes:
    """A head; `lines` end themselves."""
    first = b"%b %b %b\r\n" % (method, target, version)
    return first + host + b"X-Request-Id: %b\r\n" % ODD.encode() + b"".join(lines) + b"\r\n"


FRAMES = {"length": (LENGTH, BODY), "chunked": (CHUNKED, CHUNKS), "no body": (b"", b"")}


def _upgrades() -> Iterator[OddRequest]:
    """What asks for another protocol, with a body."""
    for protocol in (b"x", b"h2c", b"websocket", b"TLS/1.0", b"h2c, websocket", b""):
        for connection in (
            b"Upgrade",
            b"upgrade, keep-alive",
            b"keep-alive,UPGRADE , HTTP2-Settings",
        ):
            wish = b"Connection: %b\r\nUpgrade: %b\r\n" % (connection, protocol)
            for frame, (line, body) in FRAMES.items():
                name = f"upgrade to {protocol!r} by {connection!r}, {frame}"
                yield OddRequest(name, head(wish, line) + body + NEXT, 2)
    for method in (b"GET", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"):
        for frame, (line, body) in FRAMES.items():
            lines = (line, b"Connection: upgrade\r\n", b"Upgrade: x\r\n")
            name = f"upgrade by {method!r}, {frame}"
            yield OddRequest(name, head(*lines, method=method) + body + NEXT, 2)
    twice = head(b"Connection: upgrade\r\nUpgrade: x\r\n", LENGTH) + BODY
    yield OddRequest("upgrade, three times in a row", twice * 3 + NEXT, 4)
    for version in (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0"):
        wish = b"Connection: upgrade\r\nUpgrade: x\r\n"
        yield OddRequest(f"upgrade in {version!r}", head(wish, LENGTH, version=version) + BODY)


def _connects() -> Iterator[OddRequest]:
    for target in (b"a:80", b"/livez", b"http://a/livez", b"*"):
        for frame, (line, body) in FRAMES.items():
            content = head(line, method=b"CONNECT", target=target) + body
            yield OddRequest(f"CONNECT {target!r}, {frame}", content + (NEXT if body else b""))
    content = head(LENGTH, b"Connection: upgrade\r\nUpgrade: x\r\n", method=b"CONNECT") + BODY
    yield OddRequest("CONNECT with an upgrade", content)


def _codings() -> Iterator[OddRequest]:
    """Transfer codings that are not, or not only, chunked."""
    for value in (
        b"gzip, chunked",
        b"chunked, gzip",
        b"identity",
        b"identity, chunked",
        b"chunked, identity",
        b"xchunked",
        b"chunkedx",
        b"chunked, chunked",
        b"chunked;q=1",
        b'"chunked"',
        b",chunked",
        b"chunked,",
        b"chun ked",
        b"",
        b"\x0bchunked",
        b"\x00chunked",
        b"chunked\x00",
        b"\xa0chunked",
        b"chunked\r\nTransfer-Encoding: identity",
        b"identity\r\nTransfer-Encoding: chunked",
        b"chunked\r\nTransfer-Encoding: chunked",
        b"\r\n chunked",
        b"x\r\n chunked",
        b"chunked\nX: y",
        b"chunked\rX: y",
    ):
        content = head(b"Transfer-Encoding: %b\r\n" % value) + CHUNKS
        yield OddRequest(f"transfer coding {value!r}", content)
    for value in (b"Chunked", b"CHUNKED", b"\tchunked", b"chunked \t", b"  chunked"):
        content = head(b"Transfer-Encoding: %b\r\n" % value) + CHUNKS + NEXT
        yield OddRequest(f"transfer coding {value!r}", content, 2)
    for name in (
        b"Transfer-Encoding ",
        b"Transfer_Encoding",
        b" Transfer-Encoding",
        b"Transfer-Encoding\t",
        b"Transfer\x00-Encoding",
    ):
        content = head(b"%b: chunked\r\n" % name, b"Content-Length: 0\r\n") + CHUNKS
        yield OddRequest(f"header {name!r}", content, 2)
    yield OddRequest("chunked in HTTP/1.0", head(CHUNKED, version=b"HTTP/1.0") + CHUNKS)
    for first, second in (
        (LENGTH, CHUNKED),
        (CHUNKED, LENGTH),
        (b"Content-Length: 0\r\n", CHUNKED),
        (CHUNKED, b"Content-Length: 4\r\n"),
    ):
        content = head(first, second) + CHUNKS
        yield OddRequest(f"both framings, {first!r} first, {second!r}", content)


def _lengths() -> Iterator[OddRequest]:
    n = len(BODY)
    for value in (
        b"+%d" % n,
        b"-%d" % n,
        b"-1",
        b"%d, %d" % (n, n),
        b"%d %d" % (n, n),
        b"%d, 0" % n,
        b"0x%x" % n,
        b"%d.0" % n,
        b"1e2",
        b"%d;" % n,
        b"",
        b" ",
        b"\xb2",
        b"\xd9\xa1",
        b"1_0",
        b"18446744073709551616",
        b"18446744073709551617",
        b"9" * 30,
        b"0" * 4299 + b"%d" % n,
        b"%d\r\nContent-Length: %d" % (n, n),
        b"%d\r\nContent-Length: 0" % n,
        b"0\r\nContent-Length: %d" % n,
        b"\r\n %d" % n,
        b"%d\x00" % n,
        b"\x0b%d" % n,
    ):
        yield OddRequest(f"length {value[:30]!r}", head(b"Content-Length: %b\r\n" % value) + BODY)
    yield OddRequest("length of 4,301 zeros", head(b"Content-Length: %b\r\n" % (b"0" * 4301)))
    for value in (b"00%d" % n, b"%d \t" % n, b"\t%d" % n):
        content = head(b"Content-Length: %b\r\n" % value) + BODY + NEXT
        yield OddRequest(f"length {value!r}", content, 2)
    for name in (b"Content-Length ", b"Content_Length", b"Content-Length\x0b"):
        content = head(b"%b: %d\r\n" % (name, n), b"Content-Length: 0\r\n")
        yield OddRequest(f"header {name!r}", content + NEXT, 2)


def _chunks() -> Iterator[OddRequest]:
    n = len(BODY)
    for name, chunks in (
        ("0x before the size", b"0x%x\r\n%b\r\n" % (n, BODY)),
        ("a plus", b"+%x\r\n%b\r\n" % (n, BODY)),
        ("a minus", b"-%x\r\n%b\r\n" % (n, BODY)),
        ("no size", b"\r\n%b\r\n" % BODY),
        ("a space behind the size", b"%x \r\n%b\r\n" % (n, BODY)),
        ("a space before the size", b" %x\r\n%b\r\n" % (n, BODY)),
        ("an overflow", b"1%016x\r\n%b\r\n" % (n, BODY)),
        ("many digits", b"0" * 300 + b"%x\r\n%b\r\n" % (n, BODY)),
        ("a line feed behind the size", b"%x\n%b\r\n" % (n, BODY)),
        ("a line feed behind the data", b"%x\r\n%b\n" % (n, BODY)),
        ("two bytes too many", b"%x\r\n%bXX\r\n" % (n, BODY)),
        ("nothing behind the data", b"%x\r\n%b" % (n, BODY)),
        ("a carriage return as an end", b"%x\r%b\r" % (n, BODY)),
        ("an extension over a line end", b"%x;a\n0\r\n%b\r\n" % (n, BODY)),
        ("an extension in quotes over a line end", b'%x;a="\r\n"\r\n%b\r\n' % (n, BODY)),
        ("a NUL in an extension", b"%x;a\x00\r\n%b\r\n" % (n, BODY)),
    ):
        yield OddRequest(f"chunks: {name}", head(CHUNKED) + chunks + b"0\r\n\r\n", 2)
    for name, extension in (("an extension", b";a=b"), ("one in quotes", b';a="b;c"')):
        chunks = b"%x%b\r\n%b\r\n0%b\r\n\r\n" % (n, extension, BODY, extension)
        yield OddRequest(f"chunks: {name}", head(CHUNKED) + chunks + NEXT, 2)
    for trailer in (
        b"Authorization: Bearer x",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Host: b",
        b"Expect: 100-continue",
        b"X-Request-Id: smuggled",
        b"Connection: upgrade\r\nUpgrade: x",
    ):
        chunks = b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (n, BODY, trailer)
        yield OddRequest(f"trailer {trailer!r}", head(CHUNKED) + chunks + NEXT, 2)
    yield OddRequest("a trailer that is none", head(CHUNKED) + b"0\r\n: x\r\n\r\n" + NEXT, 2)


def _hosts() -> Iterator[OddRequest]:
    for host in (
        b"",
        b"Host: a\r\nHost: b\r\n",
        b"Host: a\r\nHost: a\r\n",
        b"Host: a b\r\n",
        b"Host: a,b\r\nHost: c\r\n",
        b"Host: a/b\r\n",
        b"Host: a@b\r\n",
        b"Host: a:b\r\n",
        b"Host: a:999999\r\n",
        b"Host: [::1\r\n",
        b"Host: \xe9\r\n",
        b"Host : a\r\n",
        b"Host: a\r\n b\r\n",
        b"Host: a?b\r\n",
        b"Host: a#b\r\n",
        b'Host: "a"\r\n',
    ):
        yield OddRequest(f"host {host!r}", head(method=b"GET", host=host))
    for host in (b"Host:\r\n", b"host: A:80\r\n", b"Host: [::1]:8000\r\n", b"HOST: a_b.c-d\r\n"):
        yield OddRequest(f"host {host!r}", head(method=b"GET", host=host) + NEXT, 2)


def _first_lines() -> Iterator[OddRequest]:
    """Versions, line ends and targets."""
    for version in (
        b"HTTP/0.9",
        b"HTTP/1.2",
        b"HTTP/1.10",
        b"HTTP/01.1",
        b"HTTP/2.0",
        b"HTTP/3.0",
        b"HTTP/9.9",
        b"HTTP/1",
        b"HTTP/1.1 ",
        b"http/1.1",
        b"RTSP/1.0",
        b"ICY/1.0",
        b"HTTP/1.1 x",
        b"",
    ):
        content = head(LENGTH, version=version) + BODY
        yield OddRequest(f"version {version!r}", content)
    for name, content in (
        ("HTTP/0.9", b"GET /livez\r\n"),
        ("HTTP/0.9 with a head", b"GET /livez\r\nHost: a\r\n\r\n"),
        ("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60)),
        ("line feeds alone", head(LENGTH).replace(b"\r\n", b"\n") + BODY),
        ("carriage returns alone", head(LENGTH).replace(b"\r\n", b"\r") + BODY),
        ("doubled carriage returns", head(LENGTH).replace(b"\r\n", b"\r\r\n") + BODY),
        ("one line feed among them", head(LENGTH, b"X: y\nZ: z\r\n") + BODY),
        ("one carriage return in a value", head(LENGTH, b"X: y\rZ: z\r\n") + BODY),
        ("a NUL in a value", head(LENGTH, b"X: y\x00\r\n") + BODY),
        ("a NUL in a name", head(LENGTH, b"X\x00: y\r\n") + BODY),
        ("a header with no colon", head(LENGTH, b"Xy\r\n") + BODY),
        ("a header with no name", head(LENGTH, b": y\r\n") + BODY),
        ("a folded header", head(LENGTH, b"X: y\r\n z\r\n") + BODY),
        ("a folded first header", head(LENGTH, host=b" Host: a\r\n") + BODY),
        ("a space before the method", b" " + head(LENGTH) + BODY),
        ("two spaces", head(LENGTH).replace(b"POST /", b"POST  /") + BODY),
        ("a tab", head(LENGTH).replace(b"POST /", b"POST\t/") + BODY),
        ("an unknown method", head(LENGTH, method=b"STEAL") + BODY),
        ("a method in lower case", head(LENGTH, method=b"post") + BODY),
        ("a bare end", b"\r\n\r\n"),
    ):
        yield OddRequest(name, content)
    yield OddRequest("ends before a request", b"\r\n\r\n" + head(LENGTH) + BODY + NEXT, 2)
    for target in (
        b"*",
        b"a:80",
        b"http://b/v1/tenants",
        b"http://b@c/v1/tenants",
        b"//b/v1/tenants",
        b"/v1/tenants#a",
        b"/v1/tenants?a=%0d%0a",
        b"/v1/ten ants",
        b"/v1/t\xc3\xa9nants",
        b"/v1/tenants\x00",
        b"\\v1\\tenants",
        b"/v1/tenants%2Fa%2Fquota",
        b"/v1/../metrics",
        b"/v1/..%2fmetrics",
        b"/%6Detrics",
        b"/" + b"a" * 2000,
    ):
        content = head(LENGTH, target=target) + BODY + NEXT
        yield OddRequest(f"target {target[:30]!r}", content, 2)


def _bodies() -> Iterator[OddRequest]:
    """Bodies where few expect them, answers before their end, requests behind each other."""
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"PUT", b"PATCH"):
        for frame, (line, body) in FRAMES.items():
            content = head(line, method=method) + body + NEXT
            yield OddRequest(f"{method!r} with {frame}", content, 2)
    for expect in (b"100-continue", b"100-Continue", b"200-ok", b"100-continue, x"):
        content = head(b"Expect: %b\r\n" % expect, LENGTH) + BODY + NEXT
        yield OddRequest(f"expect {expect!r}", content, 2)
    lines = (b"Expect: 100-continue\r\n", LENGTH)
    yield OddRequest("expect in HTTP/1.0", head(*lines, version=b"HTTP/1.0") + BODY)
    first = head(LENGTH) + BODY
    yield OddRequest("three behind each other", first + first + NEXT, 3)
    closing = head(b"Connection: close\r\n", LENGTH) + BODY
    yield OddRequest("a request behind the last", closing + NEXT)
    yield OddRequest("garbage behind a request", first + b"\x00garbage\r\n\r\n", 2)
    yield OddRequest("a bad head behind a request", first + head(host=b""), 2)
    yield OddRequest("a body that ends early", head(b"Content-Length: 999999\r\n") + BODY)
    yield OddRequest("an end of line too many", first + b"\r\n" + NEXT, 2)
    yield OddRequest("a bad chunk behind a request", first + head(CHUNKED) + b"x\r\n", 2)
    old = head(b"Connection: keep-alive\r\n", LENGTH, version=b"HTTP/1.0")
    yield OddRequest("HTTP/1.0 kept alive", old + BODY + NEXT, 2)


ODD_REQUESTS: tuple[OddRequest, ...] = (
    *_upgrades(),
    *_connects(),
    *_codings(),
    *_lengths(),
    *_chunks(),
    *_hosts(),
    *_first_lines(),
    *_bodies(),
)
