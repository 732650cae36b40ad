"""What every way of fitting works with: rows, features, the recipe; and what it gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.lora import Lora
from adapters.manifest import Finding
from backbone import Backbone
from training.data.groups import group_texts
from training.data.unlabelled import NONE, Unlabelled
from training.examples import Examples, name_as_text, of_rows, of_tokens
from training.features import Encoded, FeatureCache, Progress, encode_texts
from training.heads import Fit, Problem
from training.heads.folds import NO_ROW
from training.recipe import Recipe
from training.run import Run
from training.tasks import Task

_FEW_ROWS = 20  # a label: where its name, as one row more, can make a difference

Stage = Callable[[str], Progress]  # a stage's name to its progress reporter


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """What a training works with; see `training.train.Places` for the last two."""

    open_backbone: Callable[[], Backbone]  # may be slow the first time
    cache: FeatureCache
    recipe: Recipe
    task: Task[Any]
    stage: Stage
    run: Run | None = None
    weights: Path | None = None

    def encode(self, texts: Sequence[str], what: str, lora: Lora | None = None) -> Encoded:
        """Features of texts, behind a LoRA if given."""
        return encode_texts(
            self.open_backbone(), texts, self.recipe.feature, self.cache, self.stage(what), lora
        )


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRows:
    """The rows that teach. `names` are the labels' names as texts, of labels that have some.

    `unlabelled` texts are of the same kind as the rows'.
    """

    texts: Sequence[str]
    targets: Sequence[Any]
    labels: tuple[str, ...]
    names: Mapping[str, str]
    unlabelled: Unlabelled = NONE

    @property
    def groups(self) -> NDArray[np.int64]:
        """The group [n] of each row: equal texts are of one."""
        return group_texts(self.texts)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A head with what stands before it. `vectors` [m, d] are those that it was fitted on.

    `settings` and `findings` are for the manifest.
    """

    fit: Fit
    counts: tuple[int, ...]
    vectors: NDArray[np.float32]
    settings: dict[str, str | float]
    lora: Lora | None = None
    mix: tuple[float, ...] | None = None
    findings: tuple[Finding, ...] = ()


def usual_names(
    recipe: Recipe, task: Task[Any], labels: Sequence[str], rows: int
) -> dict[str, str]:
    """Label to its name as a text, of labels that may teach by their names."""
    is_few = rows < _FEW_ROWS * len(labels)
    if task.NAME != "classification" or recipe.names == "no":
        return {}
    if recipe.names == "auto" and not is_few:
        return {}
    texts = {label: name_as_text(label) for label in labels}
    return {label: text for label, text in texts.items() if text is not None}


def plain_examples(workshop: Workshop, rows: TrainingRows, encoded: Encoded) -> Examples:
    """The rows' vectors."""
    y = workshop.task.encode(rows.targets, rows.labels, encoded.tokens)
    if workshop.task.PER_TOKEN:
        return of_tokens(encoded.features, y)
    return of_rows(np.stack(encoded.features), y)


def with_names(
    workshop: Workshop, rows: TrainingRows, plain: Examples, named: Encoded
) -> Examples | None:
    """The same with the vectors of the labels' names, None where there are no names."""
    if not rows.names:
        return None
    y = workshop.task.encode(list(rows.names), rows.labels, None)
    return plain.with_taught(np.stack(named.features), y, np.full(len(y), NO_ROW))


def taught_examples(
    workshop: Workshop, rows: TrainingRows, encoded: Encoded, named: Encoded
) -> Examples:
    """The rows' vectors, and those of the names that teach."""
    plain = plain_examples(workshop, rows, encoded)
    return with_names(workshop, rows, plain, named) or plain


def make_problem(workshop: Workshop, rows: TrainingRows, examples: Examples) -> Problem:
    """What a method fits, with the weights that the recipe asks for."""
    recipe = workshop.recipe
    return examples.problem(workshop.task.KIND, len(rows.labels), recipe.weights, recipe.seed)
