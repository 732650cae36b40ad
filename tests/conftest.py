"""For all tests."""

import gc
import signal

import pytest
from hypothesis import settings

# Machines are shared: an example that took long says nothing of the code.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

# A run in the background or under nohup ignores them, and so would every server that it starts.
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """What was imported stays: collections that walk all of torch would be half of many a test."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file goes first; others use the backbone that it makes."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture
def short_grid_of_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few settings of perceptrons to choose among, where not the choice is tested."""
    from training.heads import mlp

    monkeypatch.setattr(mlp, "WIDTHS", (64,))
    monkeypatch.setattr(mlp, "DROPOUTS", (0.2,))
    monkeypatch.setattr(mlp, "EPOCHS", (2, 10, 40, 100))
