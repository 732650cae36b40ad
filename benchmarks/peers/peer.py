"""What the driver knows of a peer: how it is started, asked and read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.load import Request


class Unavailable(Exception):
    """A peer that cannot be installed, started or trusted here; the message is the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Tenant:
    """A tenant with its full model's folder and its head: weight [labels, d], no bias."""

    name: str
    folder: Path
    weight: NDArray[np.float32]
    labels: tuple[str, ...]

    def classify(self, features: NDArray[np.float32]) -> list[str]:
        """The label of each feature [n, d]; the scale of a feature does not matter."""
        return [self.labels[place] for place in (features @ self.weight.T).argmax(axis=1)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server runs: its environment's programs, a scratch folder, ports, its tenants."""

    programs: Path
    scratch: Path
    ports: tuple[int, ...]
    tenants: tuple[Tenant, ...]
    backbone: Path

    @property
    def port(self) -> int:
        """The HTTP port."""
        return self.ports[0]


@dataclass(frozen=True, slots=True)
class Start:
    """A server's command, what its environment gets, and the paths that all say it is ready."""

    command: Sequence[str]
    ready: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)


class Asked(Protocol):
    """A server's requests and answers."""

    def request(self, tenant: Tenant, texts: Sequence[str], /) -> Request:
        """The request that classifies `texts`."""

    def labels(self, tenant: Tenant, body: bytes, /) -> list[str]:
        """The labels that an answer says."""


class Peer(Asked, Protocol):
    """One row of the table."""

    @property
    def folder(self) -> str:
        """The folder of the peer's files; peers of one folder share an environment."""

    @property
    def title(self) -> str:
        """What the row is called."""

    @property
    def per_tenant(self) -> bool:
        """Whether its memory grows with the tenants."""

    def start(self, place: Place) -> Start:
        """How to start it; writes what it needs into the scratch folder."""
