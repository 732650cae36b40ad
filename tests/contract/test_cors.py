"""Pages of other origins may call where the operator says so, and nowhere else."""

import httpx
import pytest

from service.http import HttpApp
from tests.contract.support import PREDICT, Server

ORIGIN = "https://app.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization",
}


def allowed(response: httpx.Response) -> str | None:
    found: str | None = response.headers.get("access-control-allow-origin")
    return found


async def test_by_default_no_page_of_another_origin_may_call(server: Server) -> None:
    headers = {"Origin": ORIGIN}
    response = await server.call("POST", PREDICT, json={"inputs": ["x"]}, headers=headers)
    assert response.is_success
    assert allowed(response) is None
    response = await server.http.options(PREDICT, headers=PREFLIGHT)
    assert response.status_code == 405
    assert allowed(response) is None


@pytest.mark.parametrize("origins", [(ORIGIN, "https://b.example"), ("*",)])
async def test_pages_of_named_origins_may(server: Server, origins: tuple[str, ...]) -> None:
    app = HttpApp(origins)
    app.runtime = server.runtime
    expected = "*" if origins == ("*",) else ORIGIN
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://headstock"
    ) as http:
        response = await http.options(PREDICT, headers=PREFLIGHT)
        assert (response.status_code, allowed(response)) == (200, expected)
        assert "authorization" in response.headers["access-control-allow-headers"].lower()
        # Whether the answer is good or bad: a page must be able to read why.
        for key in (server.keys["acme"], "nobody's"):
            headers = {"Origin": ORIGIN, "Authorization": f"Bearer {key}"}
            response = await http.post(PREDICT, json={"inputs": ["x"]}, headers=headers)
            assert allowed(response) == expected
            assert "Retry-After" in response.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in response.headers
        if expected != "*":
            other = {**PREFLIGHT, "Origin": "https://evil.example"}
            response = await http.options(PREDICT, headers=other)
            assert allowed(response) is None
