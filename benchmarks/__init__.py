"""Measurements of what the README states, each through the real command line and real HTTP."""
