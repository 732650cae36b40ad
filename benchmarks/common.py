"""What the measurements share: the backbone, a server with a client, rows of results."""

import json
import os
import platform
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from backbone import BackboneNotFound, find_backbone
from backbone.cores import cores
from headstock.client import Client, Retry
from headstock.commands.common import settings
from headstock.demo import BACKBONE, ensure_backbone
from headstock.process import Server, free_port, running_server

INT8 = f"{BACKBONE}-int8"  # the default backbone again, in the other precision
PACKAGES = ("onnxruntime", "numpy", "torch", "bentoml", "scikit-learn")


ONCE = Retry(attempts=1)  # what fails is counted


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured line: what, the measured value, and the target where there is one."""

    what: str
    value: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """A ready server with an admin client, on an empty registry."""

    client: Client
    server: Server

    def new_client(self, retry: Retry = ONCE) -> Client:
        """A client of its own; a request that fails is not sent again, unless it shall be."""
        return Client(self.server.url, self.client.key, retry)

    def worker_rss(self) -> int:
        """Resident bytes of the process that answers."""
        return int(psutil.Process(self.server.process.pid).memory_info().rss)

    def worker_cpu_s(self) -> float:
        """CPU seconds that the process that answers has used."""
        used = psutil.Process(self.server.process.pid).cpu_times()
        return float(used.user + used.system)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples of this very name that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = (line.rpartition(" ") for line in self.client.metrics().splitlines())
        return sum(
            float(value)
            for sample, _, value in samples
            if sample.split("{")[0] == name and all(label in sample for label in wanted)
        )


@contextmanager
def bench(
    backbone: str = BACKBONE,
    database: Path | None = None,
    tree: Path | None = None,
    /,
    **variables: str,
) -> Iterator[Bench]:
    """A server of one backbone; its registry is thrown away where `database` is not given.

    It runs the code of another checkout if `tree` is given.
    """
    folder_of(backbone)
    key = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory() as folder:
        file = database or Path(folder) / "registry.sqlite"
        environment = {
            "HEADSTOCK_BACKBONES": backbone,
            "HEADSTOCK_ADMIN_KEY": key,
            "HEADSTOCK_DATABASE_URL": f"sqlite:///{file}",
            **variables,
        }
        with (
            running_server(Path(folder) / "server.log", free_port(), environment, tree) as server,
            Client(server.url, key, ONCE) as client,
        ):
            yield Bench(client, server)


def folder_of(backbone: str) -> Path:
    """The folder of the default backbone in fp32 or int8, which is added where it is missing."""
    ensure_backbone()
    root = settings().backbones_folder
    try:
        return find_backbone(root, backbone)
    except BackboneNotFound:
        headstock("backbone", "add", BACKBONE, "--name", backbone, "--precision", "int8")
        return find_backbone(root, backbone)


def headstock(*arguments: str, **variables: str) -> dict[str, Any]:
    """Run a command with --json, its environment changed by `variables`; its document."""
    done = subprocess.run(
        [sys.executable, "-m", "headstock", *arguments, "--json"],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        check=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def backbone_digest() -> str:
    """The digest of the default backbone."""
    digest: str = headstock("backbone", "show", BACKBONE)["digest"]
    return digest


def table(figures: Sequence[Figure]) -> str:
    """The figures in Markdown."""
    lines = ["| figure | measured | target |", "|---|---|---|"]
    lines += [f"| {each.what} | {each.value} | {each.target} |" for each in figures]
    return "\n".join(lines)


def machine() -> str:
    """When, where and with what it was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {cores()} cores ({platform.machine()}), {memory:.0f} GiB; "
        f"Python {platform.python_version()}, {versions}."
    )
