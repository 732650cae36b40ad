"""For all tests."""

import gc

from hypothesis import settings

# Machines are shared: an example that took long says nothing of the code.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


def pytest_collection_finish() -> None:
    """What was imported stays: collections that walk all of torch would be half of many a test."""
    gc.collect()
    gc.freeze()
