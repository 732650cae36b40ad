"""Headstock's side: the whole command on an empty feature cache."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import headstock
from headstock.commands.common import settings
from headstock.demo import BACKBONE


@dataclass(frozen=True, slots=True)
class Trained:
    """What `headstock train` made, and the seconds that the command took."""

    accuracy: float
    seconds: float
    test_rows: int
    has_lora: bool


def train_ours(rows: Path, *options: str) -> Trained:
    """Train with a home of its own, where nothing but the backbones is."""
    with tempfile.TemporaryDirectory(prefix="headstock-") as name:
        folder = Path(name)
        home = folder / "home"
        home.mkdir()
        (home / "backbones").symlink_to(settings().backbones_folder.absolute())
        what = (str(rows), "--backbone", BACKBONE, "--output", str(folder / "a.safetensors"))
        started = time.perf_counter()
        document = headstock("train", *what, *options, HEADSTOCK_HOME=str(home))
        seconds = time.perf_counter() - started
    manifest = document["manifest"]
    measured = manifest["measured"]
    accuracy = measured["adapter"]["accuracy"]["value"]
    return Trained(accuracy, seconds, measured["rows"], manifest["lora"] is not None)
