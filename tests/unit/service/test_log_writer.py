"""The log's thread: order, bounds, and descriptors that fail, stall or are full for a while."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.log_writer import CLOSED, Backlog, LogWriter, restart_line


def report(lines: int) -> bytes:
    return b"lost %d\n" % lines


def backlog(most_lines: int = 1000, most_bytes: int = 2**20) -> Backlog:
    return Backlog(report, most_lines, most_bytes)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(end)


def test_lines_keep_their_order_in_batches_of_whole_lines() -> None:
    waiting = backlog()
    for number in range(10):
        waiting.add(b"%d\n" % number)
    assert waiting.take(most_bytes=5) == b"0\n1\n"
    assert waiting.take(most_bytes=1) == b"2\n"  # one at least
    assert waiting.take() == b"".join(b"%d\n" % number for number in range(3, 10))
    assert waiting.take() == b""


@pytest.mark.parametrize("bounds", [{"most_lines": 2}, {"most_bytes": 4}])
def test_what_finds_no_place_is_reported_where_it_is_missing(bounds: dict[str, int]) -> None:
    waiting = backlog(**bounds)
    for name in (b"a\n", b"b\n", b"c\n", b"d\n"):
        waiting.add(name)
    assert (waiting.dropped, len(waiting)) == (2, 2)
    assert waiting.take(2) == b"a\n"
    waiting.add(b"e\n")
    assert waiting.take() == b"b\nlost 2\ne\n"
    assert (waiting.dropped, waiting.unreported) == (2, 0)


def test_a_loss_at_the_end_is_reported_without_a_line_after_it() -> None:
    waiting = backlog(most_lines=1)
    waiting.add(b"a\n")
    waiting.add(b"b\n")
    assert waiting.take() == b"a\n"
    assert waiting.take() == b"lost 1\n"
    assert waiting.take() == b""


@pytest.mark.parametrize(
    ("written", "rest"),
    [(0, b"one\ntwo\n"), (2, b"\none\ntwo\n"), (4, b"two\n"), (5, b"\ntwo\n")],
)
def test_a_line_that_was_cut_begins_again_after_a_line_end(written: int, rest: bytes) -> None:
    assert restart_line(b"one\ntwo\n", written) == rest


def test_lines_of_many_threads_arrive_whole(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], backlog())

    def put() -> None:
        for _ in range(100):
            writer.put("x" * 50 + "\n")

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.flush(5)
    content = b""
    while len(content) < 8 * 100 * 51:
        content += os.read(pipe[0], 2**16)
    assert set(content.splitlines()) == {b"x" * 50}
    writer.close()


def test_one_write_carries_the_lines_of_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def write(_: int, content: bytes) -> int:
        sizes.append(len(content))
        return len(content)

    monkeypatch.setattr("service.log_writer.os.write", write)
    writer = LogWriter(CLOSED, backlog())
    for _ in range(100):
        writer.put("a line\n")
    writer.flush(5)
    writer.close()
    assert sum(sizes) == 700
    assert len(sizes) < 20


def test_nothing_waits_for_a_reader_that_has_stopped(pipe: tuple[int, int]) -> None:
    """The thread hangs in its write; memory stays bounded, and all is written when he reads."""
    writer = LogWriter(pipe[1], backlog(most_lines=100))
    line = "x" * 999 + "\n"
    for _ in range(70):  # more than a pipe takes
        writer.put(line)
    until(lambda: writer.is_failing)
    started = time.monotonic()
    for _ in range(10_000):
        writer.put(line)
    writer.flush(0.1)
    assert time.monotonic() - started < 2
    assert writer.dropped >= 9_900
    content = b""
    while b"lost" not in content:
        content += os.read(pipe[0], 2**16)
    assert content.count(line.encode()) == 70 + 10_000 - writer.dropped
    assert content.endswith(report(writer.dropped))
    until(lambda: not writer.is_failing)
    writer.close()


def test_a_descriptor_that_never_blocks_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    writer = LogWriter(pipe[1], backlog())
    for number in range(200):
        writer.put(f"{number:0999}\n")
    until(lambda: writer.is_failing)
    content = b""
    while len(content) < 200_000:
        content += os.read(pipe[0], 2**16)
    assert content.splitlines() == [b"%0999d" % number for number in range(200)]
    until(lambda: not writer.is_failing)
    assert writer.dropped == 0
    writer.close()


def test_a_reader_that_has_gone_is_a_failure_and_no_more(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    writer = LogWriter(pipe[1], backlog(most_lines=10))
    for number in range(100):
        writer.put(f"{number}\n")
    until(lambda: writer.is_failing)
    assert writer.dropped > 0
    writer.close(0.1)


def test_a_full_disk_that_is_freed_has_every_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes part of a line, then nothing for a while, then all."""
    room, real = [25], os.write

    def write(descriptor: int, content: bytes) -> int:
        taken = min(room[0], len(content))
        room[0] -= taken
        if not taken:
            raise OSError(28, "No space left on device")
        return real(descriptor, content[:taken])

    monkeypatch.setattr("service.log_writer.os.write", write)
    file = tmp_path / "log"
    with file.open("ab") as log:
        writer = LogWriter(log.fileno(), backlog())
        for number in range(10):
            writer.put(f"line {number:03}\n")
        until(lambda: writer.is_failing)
        assert file.read_text() == "line 000\nline 001\nline 00"
        room[0] = 10**6
        until(lambda: not writer.is_failing)
        writer.flush(5)
        writer.close()
    assert file.read_text().splitlines() == [f"line {number:03}" for number in range(10)]


def test_a_log_that_was_emptied_within_a_line_goes_on_with_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, real = [5], os.write

    def write(descriptor: int, content: bytes) -> int:
        taken = min(room[0], len(content))
        room[0] -= taken
        if not taken:
            raise OSError(28, "No space left on device")
        return real(descriptor, content[:taken])

    monkeypatch.setattr("service.log_writer.os.write", write)
    file = tmp_path / "log"
    with file.open("ab") as log:
        writer = LogWriter(log.fileno(), backlog())
        writer.put("the first line\n")
        until(lambda: writer.is_failing)
        os.truncate(file, 0)
        room[0] = 10**6
        writer.flush(5)
        writer.close()
    assert file.read_text() == "\nthe first line\n"


def test_a_finalizer_may_log_while_its_thread_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.log_writer.os.write", lambda _, content: len(content))
    waiting = backlog()
    writer = LogWriter(CLOSED, waiting)
    real = waiting.add

    def add(line: bytes) -> None:
        if line == b"outer\n":
            writer.put("inner\n")
        real(line)

    monkeypatch.setattr(waiting, "add", add)
    writer.put("outer\n")
    writer.flush(5)
    assert writer.dropped == 0
    writer.close()
