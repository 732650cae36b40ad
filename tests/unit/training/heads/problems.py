"""Problems with a known answer, and what a server computes of a fitted head."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import build_adapter, read_adapter
from adapters.manifest import Calibration, Manifest, TaskName
from training.examples import of_rows
from training.heads.base import Candidate, FittedHead, Fold, Method, Problem
from training.tasks.base import Kind

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
TASK_OF: dict[Kind, TaskName] = {
    "class": "classification",
    "labels": "multilabel",
    "values": "regression",
}


def blobs(
    n_classes: int, rows: int, spread: float = 1.0, d: int = 16, seed: int = 0
) -> tuple[Floats, Labels]:
    """`rows` a class around centres of norm about sqrt(d), in shuffled order."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(n_classes), rows))
    centres = generator.normal(size=(n_classes, d))
    noise = spread * generator.normal(size=(len(labels), d))
    return (centres[labels] + noise).astype(np.float32), labels


def problem_of(
    features: Floats, labels: Labels, n_classes: int, seed: int
) -> tuple[Problem, list[Fold]]:
    examples = of_rows(features, labels)
    folds = examples.folds([str(label) for label in labels], np.arange(len(labels)), seed)
    return examples.problem("class", n_classes, "none", seed), folds


def problem_of_kind(kind: Kind, rows: int = 60) -> Problem:
    """Three classes, four labels or two values that follow from 16 features."""
    x, classes = blobs(3, rows // 3, spread=1.5)
    generator = np.random.default_rng(5)
    scores = x @ generator.normal(size=(16, 4)) + generator.normal(size=(len(x), 4))
    if kind == "class":
        return Problem(x, classes, kind, 3, np.ones(len(x)), 0)
    if kind == "labels":
        return Problem(x, (scores > 0).astype(np.float64), kind, 4, np.ones(len(x)), 0)
    return Problem(x, 100 + 7 * scores[:, :2], kind, 2, np.ones(len(x)), 0)


def whole(problem: Problem) -> list[Fold]:
    """One fold that teaches and holds out every row: a path's raw outputs are then the fit's."""
    everything = np.arange(len(problem.x))
    return [Fold(everything, everything)]


def walk(method: Method, problem: Problem, folds: list[Fold]) -> Iterator[Candidate]:
    for path in method.paths(problem, folds, lambda: None):
        yield from path


def served(head: FittedHead, problem: Problem, x: Floats) -> NDArray[Any]:
    """Raw outputs [m, C] of the head in an adapter file that was written and read back."""
    task = TASK_OF[problem.kind]
    manifest = Manifest(
        task=task,
        head=head.head,
        backbone="0" * 64,
        feature="pooled",
        labels=tuple(f"label {number}" for number in range(problem.n_outputs)),
        calibration=None if task == "regression" else Calibration(temperature=1.0),
        thresholds=(0.5,) * problem.n_outputs if task == "multilabel" else None,
        centroid=head.centroid,
        knn=head.knn,
    )
    golden = problem.x[:4] if head.golden is None else head.golden
    adapter = read_adapter(build_adapter(manifest, head.tensors, golden))
    return np.stack([adapter.scorer.head.raw(vector) for vector in x])
