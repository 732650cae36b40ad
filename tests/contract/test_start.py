import errno
import io
import os
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from adapters.errors import InvalidInput, RegistryUnavailable
from adapters.registry import Registry
from backbone import BackboneError, BackboneNotFound
from service.http import HttpApp
from service.runtime import Runtime
from service.settings import Settings
from tests.contract.support import ADMIN, INTENTS, Server, Template, serving


def content_of(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_a_server_without_a_backbone_names_the_command(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, admin_key=SecretStr(ADMIN))
    with pytest.raises(BackboneError, match=r"no backbone under .*: headstock backbone add minilm"):
        await Runtime.start(settings)
    assert content_of(tmp_path) == []


async def test_a_backbone_that_was_not_added_is_named_with_those_that_were(
    tmp_path: Path, backbones: Path
) -> None:
    (tmp_path / "backbones").symlink_to(backbones)
    settings = Settings(home=tmp_path, backbones=("tiny", "huge"))
    with pytest.raises(BackboneNotFound, match=r"no backbone 'huge'.*added: tiny"):
        await Runtime.start(settings)


async def test_a_registry_that_cannot_be_opened_is_named(tmp_path: Path, backbones: Path) -> None:
    (tmp_path / "backbones").symlink_to(backbones)
    (tmp_path / "registry.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(RegistryUnavailable, match=r"registry\.sqlite cannot be used"):
        await Runtime.start(Settings(home=tmp_path))


async def test_the_served_backbones_are_listed(server: Server) -> None:
    listed = (await server.ok("GET", "/v1/backbones", server.keys["acme"]))["backbones"]
    assert listed == [
        {
            "name": "tiny",
            "digest": server.backbone.digest,
            "modality": "text",
            "precision": "fp32",
            "features": {"tokens": ["n", "t", 8], "pooled": ["n", 8]},
        }
    ]


async def test_the_admin_key_is_made_and_printed_once(
    tmp_path: Path, backbones: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "backbones").symlink_to(backbones)
    settings = Settings(home=tmp_path, admin_key=None)
    runtime = await Runtime.start(settings)
    printed = capsys.readouterr()
    assert printed.out == ""
    key = printed.err.partition("export HEADSTOCK_KEY=")[2].split()[0]
    app = HttpApp()
    app.runtime = runtime
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://headstock"
    ) as http:
        headers = {"Authorization": f"Bearer {key}"}
        assert (await http.get("/v1/tenants", headers=headers)).json() == {
            "tenants": [],
            "next": None,
        }
    await runtime.stop()
    await (await Runtime.start(settings)).stop()
    err = capsys.readouterr().err
    assert "was shown at the first start" in err
    assert "hs_" not in err


class _FullDisk(io.StringIO):
    def write(self, text: str) -> int:  # noqa: ARG002
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("output", [_FullDisk(), None], ids=["full", "closed"])
async def test_an_admin_key_that_cannot_be_shown_is_not_made(
    output: io.StringIO | None,
    tmp_path: Path,
    backbones: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "backbones").symlink_to(backbones)
    settings = Settings(home=tmp_path, admin_key=None)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", output)
        with pytest.raises(InvalidInput, match=r"admin key cannot be shown.*HEADSTOCK_ADMIN_KEY"):
            await Runtime.start(settings)
    with Registry.open(settings.registry_url) as registry:
        assert registry.ensure_admin_key() is not None
    with monkeypatch.context() as patch:  # one that is there needs no showing
        patch.setattr(sys, "stderr", output)
        await (await Runtime.start(settings)).stop()


async def test_a_restart_keeps_tenants_keys_versions_and_releases(
    tmp_path: Path, template: Template
) -> None:
    async with serving(tmp_path, template) as server:
        await server.publish(server.file(5))
        before = await server.predict("x", key=server.keys["acme"])
        keys = dict(server.keys)
        state = await server.state()
    runtime = await Runtime.start(server.runtime.settings)
    app = HttpApp()
    app.runtime = runtime
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://headstock") as http:
        again = Server(runtime, http, server.document, keys)
        assert await again.state() == state
        assert await again.predict("x", path=INTENTS, key=keys["acme"]) == before
    await runtime.stop()
