"""Headstock beside what a user would run instead, each in an environment of its own.

A folder a peer: `requirements.txt` pins everything that is installed for it, `service.py` is what
runs there, `peer.py` says how this side starts it, asks it and reads its answers. `setfit` trains
and serves nothing: it is measured by a command of its own.
"""
