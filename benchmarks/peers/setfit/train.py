"""Train SetFit with its own defaults: `python train.py ROWS.csv MODEL RESULT.json MAX_STEPS`.

It runs in SetFit's environment, where nothing of Headstock is installed. MAX_STEPS is SetFit's own
setting; -1, its default, sets no bound.
"""

import csv
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

# Not installed where types are checked: this environment is SetFit's own.
from datasets import Dataset  # type: ignore[import-not-found]
from setfit import (  # type: ignore[import-not-found]
    SetFitModel,
    Trainer,
    TrainingArguments,
)
from setfit.sampler import ContrastiveDataset  # type: ignore[import-not-found]
from transformers import TrainerCallback


class StepTimes(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())

    def mean(self) -> float:
        """Seconds a step, without the first, which also warms up."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def main() -> None:
    """Train, then predict the test rows; the seconds are those of the training alone."""
    rows, model_folder, result, max_steps = sys.argv[1:]
    train, test = _read(Path(rows), "train"), _read(Path(rows), "test")
    model = SetFitModel.from_pretrained(model_folder)
    arguments, times = TrainingArguments(max_steps=int(max_steps)), StepTimes()
    trainer = Trainer(model, arguments, Dataset.from_dict(train), callbacks=[times])
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    answers = [str(label) for label in model.predict(test["text"])]
    right = sum(answer == label for answer, label in zip(answers, test["label"], strict=True))
    found = {
        "accuracy": right / len(answers),
        "seconds": seconds,
        "steps": len(times.ends),
        "step_seconds": times.mean(),
        "default_steps": _default_steps(train),
    }
    Path(result).write_text(json.dumps(found))


def _read(file: Path, split: str) -> dict[str, list[str]]:
    with file.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == split]
    return {column: [row[column] for row in rows] for column in ("text", "label")}


def _default_steps(train: dict[str, list[str]]) -> int:
    """The steps of SetFit's defaults on these rows, from the pairs that its sampler makes."""
    arguments = TrainingArguments()
    pairs = ContrastiveDataset(
        train["text"],
        train["label"],
        multilabel=False,
        sampling_strategy=arguments.sampling_strategy,
    )
    steps: int = math.ceil(len(pairs) / arguments.embedding_batch_size)
    return steps * int(arguments.embedding_num_epochs)


if __name__ == "__main__":
    main()
