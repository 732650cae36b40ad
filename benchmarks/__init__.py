"""Measurements of what the README states, each through the real command line and real HTTP."""

import backbone  # noqa: F401  # before any library that would report to its maker
