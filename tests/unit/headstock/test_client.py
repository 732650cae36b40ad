"""The client against answers that no Headstock server gives."""

import httpx
import pytest

from headstock.client import Client, RequestFailed
from headstock.commands.common import connect


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("content", [b"<html>", b"[]", b"\xff"])
def test_an_answer_of_another_server_is_told(
    status: int, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(self: httpx.Client, method: str, path: str) -> httpx.Response:
        request = httpx.Request(method, f"http://elsewhere{path}")
        return httpx.Response(status, content=content, request=request)

    monkeypatch.setattr(httpx.Client, "request", answer)
    with (
        Client("http://elsewhere", "key") as client,
        pytest.raises(RequestFailed, match=rf"answered {status}, and not as a Headstock server"),
    ):
        client.list_tenants()


def test_white_space_around_a_key_is_no_part_of_it() -> None:
    with connect("http://127.0.0.1:9", " secret\n") as client:
        assert client.key == "secret"
