"""BANKING77: training's accuracy and time; then every test row through a server, bit for bit."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import INT8, Bench, Figure, bench, folder_of, headstock
from benchmarks.served import ADAPTER, TENANT, same_answers
from headstock.commands.common import settings
from headstock.demo import BACKBONE

ROWS_A_REQUEST = (1, 7, 64)


def measure(data: Path) -> list[Figure]:
    """Train, evaluate, serve and compare. `data` has the columns text, label, split."""
    folder_of(INT8)
    with tempfile.TemporaryDirectory() as folder:
        adapter, rows = Path(folder) / "adapter.safetensors", Path(folder) / "rows.jsonl"
        other = Path(folder) / "int8.safetensors"
        cold = _train_seconds(data, adapter, Path(folder) / "empty-cache")
        headstock("train", str(data), "--backbone", INT8, "--output", str(other))
        int8 = headstock("inspect", str(other))["measured"]["adapter"]["accuracy"]
        trained = headstock("inspect", str(adapter))
        headstock("evaluate", str(adapter), str(data), "--predictions", str(rows))
        expected = [json.loads(line) for line in rows.read_text().splitlines()]
        with data.open(newline="") as file:
            texts = [row["text"] for row in csv.DictReader(file) if row["split"] == "test"]
        with bench() as running:
            running.client.create_tenant(TENANT)
            running.client.push(adapter, TENANT, ADAPTER, activate=True)
            served = [_serve(running, texts, expected, size) for size in ROWS_A_REQUEST]
    measured = trained["measured"]
    accuracy, tfidf = measured["adapter"]["accuracy"], measured["baselines"]["tfidf"]["accuracy"]
    ece = measured["adapter"]["calibration_error"]
    return [
        Figure(
            f"accuracy on {measured['rows']:,} test rows",
            f"{accuracy['value']:.2%} [{accuracy['low']:.2%}, {accuracy['high']:.2%}]",
            "92.5 %",
        ),
        Figure("accuracy in int8", f"{int8['value']:.2%} [{int8['low']:.2%}, {int8['high']:.2%}]"),
        Figure(
            "accuracy in int8 less that in fp32",
            f"{100 * (int8['value'] - accuracy['value']):+.2f} points",
            "0.10 points",
        ),
        Figure("the TF-IDF baseline's", f"{tfidf['value']:.2%}"),
        Figure("calibration error", f"{ece['value']:.3f} [{ece['low']:.3f}, {ece['high']:.3f}]"),
        Figure("`headstock train`, features not cached", f"{cold:.0f} s", "180 s"),
        Figure("adapter file", f"{trained['bytes']:,} bytes"),
        *served,
    ]


def _train_seconds(data: Path, adapter: Path, home: Path) -> float:
    """Train with a feature cache of its own, so that nothing is there already."""
    home.mkdir()
    (home / "backbones").symlink_to(settings().backbones_folder.absolute())
    what = (str(data), "--backbone", BACKBONE, "--output", str(adapter))
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "headstock", "train", *what],
        env={**os.environ, "HEADSTOCK_HOME": str(home)},
        check=True,
    )
    return time.perf_counter() - started


def _serve(
    running: Bench, texts: Sequence[str], expected: Sequence[dict[str, object]], size: int
) -> Figure:
    """All texts in requests of `size`; how many rows are the same."""
    same, seconds = same_answers(running, texts, expected, size)
    return Figure(
        f"rows served with the bits of `headstock evaluate`, requests of {size}",
        f"{same:,} of {len(texts):,} ({len(texts) / seconds:.0f} rows/s)",
        "all",
    )
