from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.grpc_support import Rpc, serving_grpc
from tests.contract.support import Server, Template, make_template, serving


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def backbones(template: Template) -> Path:
    """A folder with one tiny real backbone."""
    return template.home / "backbones"


@pytest.fixture
async def server(tmp_path: Path, template: Template) -> AsyncIterator[Server]:
    async with serving(tmp_path, template) as server:
        yield server


@pytest.fixture
async def rpc(server: Server) -> AsyncIterator[Rpc]:
    async with serving_grpc(server) as rpc:
        yield rpc
