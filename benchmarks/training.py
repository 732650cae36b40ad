"""Accuracy of training on public data, beside baselines and published figures."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.manifest import TaskName
from backbone import BackboneNotFound, find_backbone
from benchmarks.common import Figure, headstock, table
from headstock.commands.common import settings
from headstock.demo import BACKBONE
from training.backbones.sources import DEFAULT_ID

LAYERS = f"{BACKBONE}-layers"  # the default backbone with the vectors of all its layers
SEEDS = range(5)


@dataclass(frozen=True, slots=True)
class _Set:
    """A data set: its file, options of `headstock train`, and what has been published of it."""

    name: str
    file: str
    options: Sequence[str] = ()
    published: str = ""


def _few_shot(name: str, shots: int, published: str) -> _Set:
    options = ("--train-split", f"train_{shots}")
    return _Set(
        f"{name}, {shots} rows a label", f"intent_fewshot/{name}/tidy.csv", options, published
    )


# Published: CPFT (Zhang et al. 2021), an encoder of 125 million parameters, trained whole.
FEW_SHOT = (
    _few_shot("BANKING77", 5, "80.86 %"),
    _few_shot("BANKING77", 10, "87.20 %"),
    _few_shot("CLINC150", 5, "92.34 %"),
    _few_shot("CLINC150", 10, "94.18 %"),
)
SENTIMENT = _Set("sentiment of three sites (UCI)", "uci_sentiment3/tidy.csv")
ENTITIES = _Set(
    "entities of WNUT17",
    "wnut17/tidy.jsonl",
    ("--task", "tagging", "--text-column", "tokens", "--label-column", "tags"),
)


def measure(data: Path | None, quick: bool) -> str:
    """Few rows a label over seeds, frozen and with a mix of layers; sentiment; entities."""
    figures: list[Figure] = []
    for each in FEW_SHOT[:1] if quick else FEW_SHOT:
        figures += _over_seeds(each, data, quick)
    for each in () if quick else (SENTIMENT, ENTITIES):
        figures += _once(each, data)
    said = (
        f"Backbone {BACKBONE}, frozen; a mix of layers on the same backbone with its layers. "
        f"Over {len(SEEDS)} seeds the mean, least and greatest; a seed draws the folds, the rows "
        "are given. Published: CPFT, 125 million parameters, tuned whole. Nothing was chosen by "
        "test rows."
    )
    return f"{said}\n\n{table(figures)}"


def _over_seeds(wanted: _Set, data: Path | None, quick: bool) -> list[Figure]:
    file = _file(wanted, data)
    if file is None:
        return [Figure(wanted.name, f"not run: there is no {wanted.file} in the data folder")]
    seeds = range(1) if quick else SEEDS
    kinds = {
        "a head on the frozen backbone": (BACKBONE, ()),
        "a mix of layers": (_layers(), ("--set", "mix=true")),
    }
    figures = []
    for kind, (backbone, options) in kinds.items():
        runs = [_train(wanted, file, backbone, seed, options) for seed in seeds]
        shares = [run["measured"]["adapter"]["accuracy"]["value"] for run, _ in runs]
        seconds = statistics.median(took for _, took in runs)
        figures.append(
            Figure(
                f"{wanted.name}: accuracy, {kind}",
                f"{statistics.mean(shares):.2%} [{min(shares):.2%}, {max(shares):.2%}], "
                f"{seconds:.0f} s",
                wanted.published,
            )
        )
    return figures


def _once(wanted: _Set, data: Path | None) -> list[Figure]:
    file = _file(wanted, data)
    if file is None:
        return [Figure(wanted.name, f"not run: there is no {wanted.file} in the data folder")]
    manifest, took = _train(wanted, file, BACKBONE, 0, ())
    task: TaskName = manifest["task"]
    metric = "entity_f1" if task == "tagging" else "accuracy"
    measured = manifest["measured"]
    ours = measured["adapter"][metric]
    beside = ", ".join(
        f"{name} {found[metric]['value']:.1%}" for name, found in measured["baselines"].items()
    )
    return [
        Figure(
            f"{wanted.name}: {metric.replace('_', ' ')} beside the baselines'",
            f"{ours['value']:.1%} [{ours['low']:.1%}, {ours['high']:.1%}]; {beside}; {took:.0f} s",
        )
    ]


def _train(
    wanted: _Set, file: Path, backbone: str, seed: int, options: Sequence[str]
) -> tuple[dict[str, Any], float]:
    """The adapter's manifest, and the seconds that the command took; features may be cached."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "adapter.safetensors"
        started = time.perf_counter()
        trained = headstock(
            *("train", str(file), "--backbone", backbone, "--output", str(output)),
            *("--seed", str(seed), *wanted.options, *options),
        )
        return trained["manifest"], time.perf_counter() - started


def _file(wanted: _Set, data: Path | None) -> Path | None:
    file = None if data is None else data / wanted.file
    return file if file is not None and file.is_file() else None


def _layers() -> str:
    """The backbone with its layers, added where it is not there yet."""
    try:
        find_backbone(settings().backbones_folder, LAYERS)
    except BackboneNotFound:
        headstock("backbone", "add", DEFAULT_ID, "--name", LAYERS, "--layers")
    return LAYERS
