from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a test's marker `settings` gives, beside what all servers of tests have."""
    marker = request.node.get_closest_marker("settings")
    return dict(marker.kwargs) if marker else {}


@pytest.fixture
async def server(
    tmp_path: Path, template: Template, settings: dict[str, Any]
) -> AsyncIterator[Server]:
    async with serving(tmp_path, template, **settings) as server:
        yield server


@pytest.fixture
async def rpc(server: Server) -> AsyncIterator[Rpc]:
    async with serving_grpc(server) as rpc:
        yield rpc
