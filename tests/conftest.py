"""For all tests."""

from hypothesis import settings

# Machines are shared: an example that took long says nothing of the code.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
