"""Ids as callers may give them, and lines that nothing can break."""

import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.log import configure, flush_log, log_request, log_state, request_id, trace_id
from service.log_capture import capture_output

Log = Callable[[], list[dict[str, Any]]]
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging is the process's: it is put back."""
    names = ("", "headstock", "uvicorn", "uvicorn.error", "uvicorn.access", "bentoml")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for each, level, handlers, propagate in before:
        each.setLevel(level)
        each.handlers[:] = handlers
        each.propagate = propagate


@pytest.mark.parametrize("given", ["a", "a-b.c_D9", "x" * 64])
def test_a_callers_id_is_kept(given: str) -> None:
    assert request_id(given) == given


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", "a\nb", "ä", '{"a": 1}'])
def test_what_is_no_id_gets_a_new_one(given: str | None) -> None:
    first, second = request_id(given), request_id(given)
    assert first != second
    assert request_id(first) == first


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE),
        (f"cc-{TRACE}-b7ad6b7169203331-00-more", TRACE),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", None),
        (TRACE, None),
        (None, None),
    ],
)
def test_a_trace_is_read_from_its_header(given: str | None, expected: str | None) -> None:
    assert trace_id(given) == expected


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> Log:
    """All that was logged since the last look: every line is one JSON object."""

    def events() -> list[dict[str, Any]]:
        flush_log()
        return [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    return events


def test_a_request_is_one_line_whatever_is_in_it(log: Log) -> None:
    configure("info")
    facts = {"route": "a\nb", "status": 200}
    log_request("http", f"00-{TRACE}-b7ad6b7169203331-01", 0.0125, facts)
    logging.getLogger("service.anything").warning("two\nlines of %s", "a library")
    event, second = log()
    assert (event["event"], event["ms"], event["trace_id"]) == ("http", 12.5, TRACE)
    assert (event["route"], event["level"]) == ("a\nb", "info")
    assert second["event"] == "two\nlines of a library"


def test_failures_are_one_line_too(log: Log) -> None:
    configure("info")
    try:
        raise ValueError("the reason")
    except ValueError:
        logging.getLogger("service.errors").exception("it failed")
    (line,) = log()
    assert "ValueError: the reason" in line["exception"]


def test_warnings_alone_where_so_set(log: Log) -> None:
    configure("warning")
    log_request("grpc", None, 0.1, {})
    logging.getLogger("service.anything").warning("seen")
    assert [each["event"] for each in log()] == ["seen"]


def test_a_record_that_cannot_be_formatted_is_named(log: Log) -> None:
    configure("info")
    logging.getLogger("service.anything").error("%d rows", "many")
    (line,) = log()
    assert (line["level"], line["logger"]) == ("error", "service.anything")


def test_a_log_that_is_closed_from_the_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    configure("info")
    log_request("http", None, 0.1, {})
    flush_log()
    assert log_state().is_failing


def test_all_that_is_printed_is_logged(
    log: Log, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    configure("info")
    for name in ("stdout", "stderr", "excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    capture_output()
    try:
        print("half a", end="")
        print(" line\nand another", file=sys.stdout)
        print("an error", file=sys.stderr, end="", flush=True)
        warnings.warn("a warning", stacklevel=1)
        thread = threading.Thread(target=lambda: 1 // 0, name="busy")
        thread.start()
        thread.join()
        _fail_in_a_finalizer()
        sys.excepthook(ValueError, ValueError("the end"), None)
    finally:
        logging.captureWarnings(False)
    lines = log()
    assert [(each["logger"], each["event"]) for each in lines[:3]] == [
        ("stdout", "half a line"),
        ("stdout", "and another"),
        ("stderr", "an error"),
    ]
    warned, of_thread, ignored, uncaught = lines[3:]
    assert warned["logger"] == "py.warnings"
    assert "a warning" in warned["event"]
    assert "busy" in of_thread["event"]
    assert "ZeroDivisionError" in of_thread["exception"]
    assert "ValueError: in a finalizer" in ignored["exception"]
    assert "ValueError: the end" in uncaught["exception"]


def _fail_in_a_finalizer() -> None:
    class Fails:
        def __del__(self) -> None:
            raise ValueError("in a finalizer")

    Fails()
