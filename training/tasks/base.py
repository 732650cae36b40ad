"""What every task is in training: its cells, its targets as numbers, its losses and its measures.

Not to be confused with `adapters.tasks`, which is what a server needs of a task.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import Estimate, Manifest, TaskName
from backbone import Spans
from training.data.tables import Table

Floats = NDArray[np.float64]
Target = TypeVar("Target")
Measures = dict[str, Estimate]
# The nature of encoded targets: one class a vector [m], int64; labels that apply [m, C], 0 or 1;
# values [m, C]. The latter two are float64.
Kind = Literal["class", "labels", "values"]
CLASS: Kind = "class"
LABELS: Kind = "labels"
VALUES: Kind = "values"


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Rows with the scores that an adapter gives to them: [C] each, [t, C] where it tags.

    `tokens` say where the t tokens stand in a text; None for tasks of whole rows.
    """

    texts: Sequence[str]
    scores: Sequence[NDArray[np.float32]]
    tokens: Sequence[Spans] | None = None

    def pick(self, places: Iterable[int]) -> Self:
        """Some of the rows."""
        found = list(places)
        return replace(
            self,
            texts=[self.texts[place] for place in found],
            scores=[self.scores[place] for place in found],
            tokens=None if self.tokens is None else [self.tokens[place] for place in found],
        )


class Task(Protocol[Target]):
    """A task's part of training. Stateless."""

    NAME: ClassVar[TaskName]
    KIND: ClassVar[Kind]
    PER_TOKEN: ClassVar[bool]

    def read(self, table: Table, text: str, label: str) -> tuple[list[str], list[Target]]:
        """The texts and targets of a table, from its columns `text` and `label`.

        Raises:
            InvalidData: a cell cannot be a text or a target, named with its place.
        """
        ...

    def strata(self, targets: Sequence[Target]) -> list[str]:
        """A name for each row; splits and folds keep the shares of each name."""
        ...

    def check_all(self, targets: Sequence[Target]) -> None:
        """Refuse rows of which none can be held out for a test. Raises InvalidData."""
        ...

    def check(self, train: Sequence[Target], test: Sequence[Target]) -> None:
        """Refuse what cannot be learnt or measured, such as a label that training never sees.

        Raises:
            InvalidData: with the labels and their numbers of rows.
        """
        ...

    def check_known(self, targets: Sequence[Target], labels: Sequence[str]) -> None:
        """Refuse targets that an adapter with these labels cannot give. Raises InvalidData."""
        ...

    def labels(self, train: Sequence[Target]) -> tuple[str, ...]:
        """The labels of an adapter that is trained on these targets, in their order."""
        ...

    def encode(
        self, targets: Sequence[Target], labels: Sequence[str], tokens: Sequence[Spans] | None
    ) -> NDArray[Any]:
        """Targets as numbers, of the task's kind; a vector a row, or a token of the `tokens`.

        A class that is none of the labels is -1.
        """
        ...

    def losses(self, raw: Floats, y: NDArray[Any], temperature: float) -> Floats:
        """The loss [m] of each vector's raw outputs [m, C]: a log loss in nats, or a squared error.

        The temperature is that of `calibrate`.
        """
        ...

    def calibrate(self, raw: Floats, y: NDArray[Any]) -> float:
        """The temperature with the least loss on raw outputs of rows that no fit has seen."""
        ...

    def thresholds(
        self, raw: Floats, y: NDArray[Any], temperature: float
    ) -> tuple[float, ...] | None:
        """Scores from which labels apply, chosen on such rows too; None where the task has none."""
        ...

    def counts(self, y: NDArray[Any]) -> tuple[int, ...]:
        """Vectors [C] of each label, less those at the end that have none."""
        ...

    def measure(
        self, scored: Scored, targets: Sequence[Target], manifest: Manifest, seed: int
    ) -> Measures:
        """How good scores are, with 95 % intervals; of the first figure more is better."""
        ...

    def baselines(
        self,
        train: tuple[Sequence[str], Sequence[Target]],
        test: tuple[Sequence[str], Sequence[Target]],
        labels: Sequence[str],
        seed: int,
    ) -> Mapping[str, Measures]:
        """The same figures of what needs no backbone, by name; both sides are texts, targets."""
        ...

    def predictions(self, scored: Scored, manifest: Manifest) -> list[dict[str, Any]]:
        """Each row's answer as a JSON object, with the keys and values that the server gives."""
        ...
