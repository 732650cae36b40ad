"""Random walks of set and rollback against the simplest model: a stack of stable versions."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.errors import Conflict, StaleRevision
from adapters.registry import Registry
from tests.unit.registry.support import publish, url_of

VERSIONS = 4
ADAPTERS = count()

STEPS = st.lists(
    st.one_of(st.integers(1, VERSIONS), st.sampled_from(["rollback", "stale"])), max_size=25
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder: Path = tmp_path_factory.mktemp("model")
    with Registry.open(url_of(folder / "registry.db")) as registry:
        registry.create_tenant("acme", actor="admin")
        yield registry


@settings(max_examples=25)
@given(steps=STEPS)
def test_release_is_a_stack(shared: Registry, steps: list[int | str]) -> None:
    adapter = f"a{next(ADAPTERS)}"
    for n in range(VERSIONS):
        publish(shared, bytes([n]), adapter=adapter)
    stack: list[int] = []
    revision = 0
    for step in steps:
        changed = take(shared, adapter, step, stack, revision)
        revision += changed
        release = shared.get_release("acme", adapter)
        assert (release.revision if release else 0) == revision
        assert (release.stable if release else None) == (stack[-1] if stack else None)


def take(
    registry: Registry, adapter: str, step: int | str, stack: list[int], revision: int
) -> bool:
    """One step on the registry and on the stack; whether it changed something."""
    if step == "stale":
        with pytest.raises(StaleRevision):
            registry.rollback("acme", adapter, expected_revision=revision + 1, actor="tester")
        return False
    if isinstance(step, int):
        registry.set_release("acme", adapter, step, expected_revision=revision, actor="tester")
        if stack[-1:] == [step]:
            return False
        stack.append(step)
        return True
    if len(stack) < 2:
        with pytest.raises(Conflict):
            registry.rollback("acme", adapter, actor="tester")
        return False
    stack.pop()
    registry.rollback("acme", adapter, expected_revision=revision, actor="tester")
    return True
