"""Ids as callers may give them, and lines that nothing can break."""

import json
import logging
from collections.abc import Iterator

import pytest

from service.log import configure, log_request, request_id, trace_id

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


def test_a_request_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info")
    facts = {"route": "a\nb", "status": 200}
    log_request("http", f"00-{TRACE}-b7ad6b7169203331-01", 0.0125, facts)
    logging.getLogger("service.anything").warning("two\nlines of %s", "a library")
    first, second = capsys.readouterr().err.splitlines()
    event = json.loads(first)
    assert (event["event"], event["ms"], event["trace_id"]) == ("http", 12.5, TRACE)
    assert (event["route"], event["level"]) == ("a\nb", "info")
    assert json.loads(second)["event"] == "two\nlines of a library"


def test_failures_are_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info")
    try:
        raise ValueError("the reason")
    except ValueError:
        logging.getLogger("service.errors").exception("it failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: the reason" in json.loads(line)["exception"]


def test_warnings_alone_where_so_set(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning")
    log_request("grpc", None, 0.1, {})
    logging.getLogger("service.anything").warning("seen")
    assert json.loads(capsys.readouterr().err)["event"] == "seen"
