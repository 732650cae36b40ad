from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.registry import Registry
from tests.unit.registry.support import Clock, url_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "registry.db"


@pytest.fixture
def empty(path: Path, clock: Clock) -> Iterator[Registry]:
    with Registry.open(url_of(path), clock=clock) as registry:
        yield registry


@pytest.fixture
def registry(empty: Registry) -> Registry:
    """With the tenants acme and other."""
    empty.create_tenant("acme", actor="admin")
    empty.create_tenant("other", actor="admin")
    return empty
