"""Hostile uploads: each is refused with its reason, nothing is stored, nothing is released."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.adapter import build_adapter
from adapters.manifest import Calibration, Manifest
from tests.attacks.test_adapter_files import FILES
from tests.contract.support import ACME, INTENTS, Server, Template, chunks, make_template, serving
from tests.support import make_adapter_file, make_tensors

LIMIT = 100_000
KINDS = [
    "empty",
    "cut in the data",
    "something added",
    "png",
    "zip",
    "pickle",
    "header of 2**64 - 1",
    "header nested deeply",
    "doubled tensor names",
    "NaN weights",
    "overflowing weights",
    "golden rows that do not match",
    "unknown key",
    "another head",
    "a label with a line end",
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def server(tmp_path: Path, template: Template) -> AsyncIterator[Server]:
    async with serving(tmp_path, template, max_upload_bytes=LIMIT) as server:
        yield server


async def check_refused(server: Server, content: bytes, status: int) -> dict[str, str]:
    """Refused in every way to send it; and then all is as it was, and a good file is taken."""
    key = server.keys["acme"]
    before, answer = await server.state(), await server.predict("hello", key=key)
    for path in (INTENTS, f"{ACME}/adapters/fresh"):
        for activate in ("true", "false"):
            for sent in (content, chunks(content, 20_000)):
                problem = await server.problem(
                    status,
                    "POST",
                    f"{path}/versions",
                    key,
                    content=sent,
                    params={"activate": activate},
                )
    assert await server.state() == before
    assert await server.predict("hello", key=key) == answer
    assert (await server.publish(server.file(50), key=key))["version"] == 2
    return problem


@pytest.mark.parametrize("kind", KINDS)
async def test_a_hostile_file_is_refused_and_nothing_is_stored(server: Server, kind: str) -> None:
    content, _ = FILES[kind]
    problem = await check_refused(server, content[:LIMIT], 422)
    assert problem["code"] == "invalid-adapter"


async def test_a_file_over_the_limit_is_too_large(server: Server) -> None:
    problem = await check_refused(server, server.file(9) + bytes(LIMIT), 413)
    assert str(LIMIT) in problem["detail"]


async def test_a_file_for_another_backbone_is_refused_with_both_digests(server: Server) -> None:
    problem = await check_refused(server, make_adapter_file(backbone="c" * 64), 422)
    assert problem["code"] == "wrong-backbone"
    assert "c" * 64 in problem["detail"]
    assert f"tiny ({server.backbone.digest})" in problem["detail"]


async def test_a_head_of_another_width_is_refused_with_both_widths(server: Server) -> None:
    content = make_adapter_file(width=9, backbone=server.backbone.digest)
    problem = await check_refused(server, content, 422)
    assert problem["code"] == "invalid-adapter"
    assert "width 9" in problem["detail"]
    assert "has 8" in problem["detail"]


@pytest.mark.parametrize("feature", ["regions", "tokens", "", "../pooled", "x" * 200])
async def test_a_feature_that_no_linear_head_can_take_is_refused(
    server: Server, feature: str
) -> None:
    manifest = Manifest(
        backbone=server.backbone.digest,
        feature=feature,
        labels=("no", "yes"),
        calibration=Calibration(temperature=1.0),
    )
    tensors = make_tensors()
    content = build_adapter(manifest, tensors, tensors["head.weight"])
    problem = await check_refused(server, content, 422)
    assert problem["code"] == "invalid-adapter"


async def test_a_tenant_that_is_not_there_gets_no_file(server: Server) -> None:
    before = await server.state()
    path = "/v1/tenants/nobody/adapters/intents/versions"
    params = {"activate": "true"}
    await server.problem(404, "POST", path, content=server.file(9), params=params)
    assert await server.state() == before
