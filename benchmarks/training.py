"""Accuracy of training on public data, beside baselines and published figures."""

import csv
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.manifest import TaskName
from benchmarks.common import Figure, bench, headstock, table
from benchmarks.served import ADAPTER, TENANT, same_answers
from headstock.demo import BACKBONE
from headstock.output import note
from training.data.rows import Columns, read_rows
from training.tasks import TASKS

PLAIN = Columns()
SEEDS = range(5)
LORA_SEEDS = range(1)  # each takes minutes
ROWS_A_REQUEST = 64


@dataclass(frozen=True, slots=True)
class _Kind:
    """A way of training: its options, seeds, and whether it gets texts without labels."""

    name: str
    options: Sequence[str] = ()
    seeds: Sequence[int] = SEEDS
    has_texts: bool = False


KINDS = (
    _Kind("a head on the frozen backbone"),
    _Kind("texts without labels", has_texts=True),
    _Kind("texts without labels, LoRA", ("--lora",), LORA_SEEDS, has_texts=True),
)
# Of thousands of rows ten epochs would take half an hour, and ten minutes are what is given.
FEW_EPOCHS = ("--lora", "--set", "lora.epochs=4")
SERVED_KINDS = (_Kind("a head on the frozen backbone"), _Kind("LoRA of four epochs", FEW_EPOCHS))


@dataclass(frozen=True, slots=True)
class _Set:
    """A data set, more options of `headstock train`, and what has been published of it.

    `key` is its name on the command line.
    """

    key: str
    name: str
    file: str
    options: Sequence[str] = ()
    task: TaskName = "classification"
    columns: Columns = PLAIN
    published: str = ""

    @property
    def named_columns(self) -> tuple[str, ...]:
        """Options that name the columns."""
        return ("--input-column", self.columns.text, "--label-column", self.columns.label)

    @property
    def to_train(self) -> tuple[str, ...]:
        """All options of `headstock train`."""
        return (*self.named_columns, "--task", self.task, *self.options)


def _few_shot(name: str, shots: int, published: str) -> _Set:
    options = ("--train-split", f"train_{shots}")
    file = f"intent_fewshot/{name}/tidy.csv"
    key = f"{name.lower()}-{shots}"
    return _Set(key, f"{name}, {shots} rows a label", file, options, published=published)


FEW_SHOT = (
    _few_shot("BANKING77", 5, "80.86 %"),
    _few_shot("BANKING77", 10, "87.20 %"),
    _few_shot("CLINC150", 5, "92.34 %"),
    _few_shot("CLINC150", 10, "94.18 %"),
)
SENTIMENT = _Set("sentiment", "sentiment of three sites (UCI)", "uci_sentiment3/tidy.csv")
ENTITIES = _Set(
    "entities",
    "entities of WNUT17",
    "wnut17/tidy.jsonl",
    task="tagging",
    columns=Columns(text="tokens", label="tags"),
)


SETS = (*FEW_SHOT, SENTIMENT, ENTITIES)

SAID = (
    f"Over seeds ({len(SEEDS)}, with LoRA {len(LORA_SEEDS)}) the mean, least and greatest; a "
    "seed draws the folds and the rows that are held out, the rows themselves are given. "
    "Seconds are the median of the whole command, features of texts that were seen before in "
    "the cache. Texts without labels are those of the official training split, less what "
    "stands in the test rows. Published: CPFT (Zhang et al. 2021), 125 million parameters, "
    "tuned whole after pretraining on the unlabelled training texts of six such sets. Nothing "
    "was chosen by test rows."
)


def measure(wanted: _Set, data: Path | None, quick: bool) -> str:
    """Few rows a label over seeds, in each way of training; all rows once, and served."""
    if wanted not in FEW_SHOT:
        return table(_once(wanted, data))
    return f"{SAID}\n\n{table(_over_seeds(wanted, data, quick))}"


def _over_seeds(wanted: _Set, data: Path | None, quick: bool) -> list[Figure]:
    file = _file(wanted, data)
    if file is None:
        return [Figure(wanted.name, f"not run: there is no {wanted.file} in the data folder")]
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        texts = _unlabelled(file, Path(folder) / "texts.csv")
        output = Path(folder) / "adapter.safetensors"
        for kind in KINDS[:1] if quick else KINDS:
            more = ("--unlabelled", str(texts)) if kind.has_texts else ()
            options = (*wanted.to_train, *kind.options, *more)
            seeds = kind.seeds[:1] if quick else kind.seeds
            runs = [_train(file, seed, options, output) for seed in seeds]
            figures.append(_figure(wanted, kind, runs))
            note(f"{figures[-1].what}: {figures[-1].value}")
    return figures


def _figure(wanted: _Set, kind: _Kind, runs: Sequence[tuple[dict[str, Any], float]]) -> Figure:
    shares = [run["measured"]["adapter"]["accuracy"]["value"] for run, _ in runs]
    seconds = statistics.median(took for _, took in runs)
    spread = f" [{min(shares):.2%}, {max(shares):.2%}]" if len(shares) > 1 else ""
    return Figure(
        f"{wanted.name}: accuracy, {kind.name}",
        f"{statistics.mean(shares):.2%}{spread}, {seconds:.0f} s",
        wanted.published,
    )


def _unlabelled(file: Path, target: Path) -> Path:
    """The texts of the split `train` of a data set's file, without their labels."""
    with file.open(newline="") as source, target.open("w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(["text"])
        rows = csv.DictReader(source)
        writer.writerows([row["text"]] for row in rows if row["split"] == "train")
    return target


def _once(wanted: _Set, data: Path | None) -> list[Figure]:
    """Trained, measured, and served: whether a server answers the test rows as `evaluate` does."""
    file = _file(wanted, data)
    if file is None:
        return [Figure(wanted.name, f"not run: there is no {wanted.file} in the data folder")]
    figures = []
    for kind in SERVED_KINDS:
        found = _served(wanted, kind, file)
        for each in found:
            note(f"{each.what}: {each.value}")
        figures += found
    return figures


def _served(wanted: _Set, kind: _Kind, file: Path) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        adapter, rows = Path(folder) / "adapter.safetensors", Path(folder) / "rows.jsonl"
        manifest, took = _train(file, 0, (*wanted.to_train, *kind.options), adapter)
        named = wanted.named_columns
        headstock("evaluate", str(adapter), str(file), *named, "--predictions", str(rows))
        expected = [json.loads(line) for line in rows.read_text().splitlines()]
        with bench() as running:
            running.client.create_tenant(TENANT)
            running.client.push(adapter, TENANT, ADAPTER, activate=True)
            same, _ = same_answers(running, _test_texts(wanted, file), expected, ROWS_A_REQUEST)
    metric = "entity_f1" if wanted.task == "tagging" else "accuracy"
    measured = manifest["measured"]
    ours = measured["adapter"][metric]
    beside = ", ".join(
        f"{name} {found[metric]['value']:.1%}" for name, found in measured["baselines"].items()
    )
    left_out = "" if manifest.get("lora") or not kind.options else "; LoRA left out"
    return [
        Figure(
            f"{wanted.name}: {metric.replace('_', ' ')} beside the baselines', {kind.name}",
            f"{ours['value']:.1%} [{ours['low']:.1%}, {ours['high']:.1%}]; {beside}; {took:.0f} s"
            f"{left_out}",
        ),
        Figure(
            f"{wanted.name}: test rows served as `headstock evaluate` answers them, {kind.name}",
            f"{same:,} of {len(expected):,}",
            "all",
        ),
    ]


def _test_texts(wanted: _Set, file: Path) -> list[str]:
    """As training reads them: a list of words is a text too."""
    rows = read_rows(file, wanted.columns, TASKS[wanted.task])
    assert rows.splits is not None, "these sets bring their split"
    return [text for text, split in zip(rows.texts, rows.splits, strict=True) if split == "test"]


def _train(
    file: Path, seed: int, options: Sequence[str], output: Path
) -> tuple[dict[str, Any], float]:
    """The adapter's manifest, and the seconds that the command took; features may be cached."""
    started = time.perf_counter()
    trained = headstock(
        *("train", str(file), "--backbone", BACKBONE, "--output", str(output)),
        *("--seed", str(seed), *options),
    )
    return trained["manifest"], time.perf_counter() - started


def _file(wanted: _Set, data: Path | None) -> Path | None:
    file = None if data is None else data / wanted.file
    return file if file is not None and file.is_file() else None
