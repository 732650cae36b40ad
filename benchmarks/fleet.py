"""A thousand small tenants by one command: trained, written, published to a running server."""

import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Figure, bench, table
from headstock.client import Client
from headstock.commands.common import settings
from headstock.demo import BACKBONE, SAMPLES

TENANTS = 1_000
QUICK_TENANTS = 20
LABELS = 5
TRAIN_ROWS = 16  # a label
TEST_ROWS = 4
_SOURCES = ("banking77/tidy.csv", "clinc150/tidy_full.csv")

Pool = dict[str, list[str]]  # label to texts


def measure(data: Path | None, quick: bool) -> str:
    """Tenants with labels drawn from real data sets; from the samples where those are missing."""
    pools, said = _pools(data)
    n_tenants = QUICK_TENANTS if quick else TENANTS
    with tempfile.TemporaryDirectory() as name, bench() as running:
        folder = Path(name)
        manifest = _write_tenants(folder, pools, n_tenants)
        target = ("--publish", "--server", running.server.url, "--key", running.client.key)
        started = time.perf_counter()
        cold = _train(folder, manifest, *target)
        took = time.perf_counter() - started
        started = time.perf_counter()
        again = _train(folder, manifest, *target, "--resume")
        resumed = time.perf_counter() - started
        right = _answered(running.client, cold["jobs"])
    seconds = [each["seconds"] for each in cold["jobs"]]
    accuracies = [each["accuracy"] for each in cold["jobs"] if each["accuracy"] is not None]
    low, middle, high = np.percentile(accuracies, [5, 50, 95])
    rows = LABELS * (TRAIN_ROWS + TEST_ROWS)
    figures = [
        Figure(
            f"{n_tenants:,} tenants of {rows} rows trained and published by one command",
            f"{took / n_tenants:.2f} s a tenant ({took:.0f} s)",
        ),
        Figure("of these failed", str(cold["failed"]), "0"),
        Figure("of these answered by their own adapter", f"{right:,}", f"{n_tenants:,}"),
        Figure("a training in its process, median", f"{np.median(seconds):.2f} s"),
        Figure(
            "accuracy on 20 test rows each: 5 %, median, 95 % of the tenants",
            f"{low:.1%}, {middle:.1%}, {high:.1%}",
        ),
        Figure(
            "the same command with --resume",
            f"{resumed:.0f} s, {again['skipped']:,} skipped",
        ),
    ]
    return f"Tenants of {LABELS} labels each from {said}; no feature cached.\n\n{table(figures)}"


def _pools(data: Path | None) -> tuple[list[Pool], str]:
    """Texts by label of each source with enough labels, and the sources' names."""
    files = [data / each for each in _SOURCES if data is not None and (data / each).is_file()]
    said = ", ".join(file.parent.name for file in files) or "the sample data of the package"
    pools = []
    for file in files or sorted(SAMPLES.glob("*.csv")):
        pool: Pool = defaultdict(list)
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                pool[row["label"]].append(row["text"])
        enough = {
            label: texts for label, texts in pool.items() if len(texts) >= TRAIN_ROWS + TEST_ROWS
        }
        if len(enough) >= LABELS:
            pools.append(enough)
    return pools, said


def _write_tenants(folder: Path, pools: Sequence[Pool], n_tenants: int) -> Path:
    """A file of rows a tenant, drawn by its number, and the manifest."""
    lines = []
    for number in range(n_tenants):
        draw = random.Random(number)
        pool = pools[number % len(pools)]
        file = folder / f"{number}.csv"
        with file.open("w", newline="") as output:
            writer = csv.writer(output)
            writer.writerow(["text", "label", "split"])
            for label in draw.sample(sorted(pool), LABELS):
                texts = draw.sample(pool[label], TRAIN_ROWS + TEST_ROWS)
                for place, text in enumerate(texts):
                    writer.writerow([text, label, "train" if place < TRAIN_ROWS else "test"])
        names = {"tenant": f"tenant-{number}", "adapter": "intents"}
        lines.append(json.dumps({**names, "data": file.name, "backbone": BACKBONE}))
    manifest = folder / "jobs.jsonl"
    manifest.write_text("\n".join(lines))
    return manifest


def _train(folder: Path, manifest: Path, *options: str) -> dict[str, Any]:
    """One command, with a feature cache of its own; its document."""
    own = folder / "home"
    own.mkdir(exist_ok=True)
    if not (own / "backbones").exists():
        (own / "backbones").symlink_to(settings().backbones_folder.absolute())
    what = ("--manifest", str(manifest), "--output", str(folder / "out"), *options)
    done = subprocess.run(
        [sys.executable, "-m", "headstock", "train", *what, "--json"],
        env={**os.environ, "HEADSTOCK_HOME": str(own)},
        stdout=subprocess.PIPE,
        check=False,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _answered(client: Client, jobs: Sequence[dict[str, Any]]) -> int:
    """Tenants whose answer comes from the file that was trained for them."""
    right = 0
    for each in jobs:
        answer = client.predict(each["tenant"], each["adapter"], ["hello"])
        right += answer["adapter"]["digest"] == each["digest"]
    return right
