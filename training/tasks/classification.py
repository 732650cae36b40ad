"""Classification: exactly one label fits a row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from adapters.answers import rank
from adapters.manifest import Manifest, TaskName
from backbone import Spans
from training.data.tables import Table
from training.errors import InvalidData
from training.measures.baselines import majority_baseline, tfidf_baseline
from training.measures.classes import measure
from training.tasks.base import Measures, Scored
from training.tasks.classes import Integers, OfClasses
from training.tasks.labels import (
    as_label,
    check_number_of_labels,
    refuse_few,
    refuse_unknown,
    refuse_unseen,
    refuse_vectors,
)


class Classification(OfClasses):
    """A target is a label. The loss is the log loss."""

    NAME: ClassVar[TaskName] = "classification"
    PER_TOKEN: ClassVar[bool] = False

    def read(self, table: Table, text: str, label: str) -> tuple[list[str], list[str]]:
        """Labels lose surrounding white space; integers are their digits. Raises InvalidData."""
        texts = table.texts(text)
        table.require(label, "--label-column")
        refuse_vectors(table, label)
        labels = table.parse(label, as_label)
        check_number_of_labels(table, label, len(set(labels)))
        return texts, labels

    def strata(self, targets: Sequence[str]) -> list[str]:
        """The labels themselves."""
        return list(targets)

    def check_all(self, targets: Sequence[str]) -> None:
        """Two labels with three rows each."""
        counts = Counter(targets)
        if len(counts) < 2:
            raise InvalidData(
                f"All rows have the label {targets[0]!r}. Training needs at least two labels."
            )
        refuse_few(counts, 3, "rows, and three are needed to hold one out")

    def check(self, train: Sequence[str], test: Sequence[str]) -> None:
        """Two labels, two training rows each, and none that the test alone has."""
        seen = Counter(train)
        if len(seen) < 2:
            raise InvalidData(
                f"All training rows have the label {next(iter(seen))!r}. At least two are needed."
            )
        refuse_few(seen, 2, "training rows, and two are needed")
        refuse_unseen(seen, test)

    def check_known(self, targets: Sequence[str], labels: Sequence[str]) -> None:
        """Each is one of the labels."""
        refuse_unknown(targets, labels)

    def labels(self, train: Sequence[str]) -> tuple[str, ...]:
        """Each label once, sorted."""
        return tuple(sorted(set(train)))

    def encode(
        self,
        targets: Sequence[str],
        labels: Sequence[str],
        tokens: Sequence[Spans] | None = None,  # noqa: ARG002  # a label is of the whole row
    ) -> Integers:
        """Label numbers [n]; -1 for what is no label."""
        known = {label: number for number, label in enumerate(labels)}
        return np.array([known.get(target, -1) for target in targets], dtype=np.int64)

    def measure(
        self, scored: Scored, targets: Sequence[str], manifest: Manifest, seed: int
    ) -> Measures:
        """Accuracy, macro F1, log loss and calibration error."""
        scores = np.stack(scored.scores)
        return measure(scores, self.encode(targets, manifest.labels), seed=seed)

    def baselines(
        self,
        train: tuple[Sequence[str], Sequence[str]],
        test: tuple[Sequence[str], Sequence[str]],
        labels: Sequence[str],
        seed: int,
    ) -> Mapping[str, Measures]:
        """The most frequent label, and logistic regression on TF-IDF."""
        known = [place for place, label in enumerate(train[1]) if label in set(labels)]
        texts = [train[0][place] for place in known]
        y = self.encode([train[1][place] for place in known], labels)
        truth = self.encode(test[1], labels)
        found: dict[str, Measures] = {}
        if len(y):
            majority = majority_baseline(y, truth, len(labels))
            found["majority"] = measure(majority, truth, seed=seed)
        if len(np.unique(y)) > 1:
            tfidf = tfidf_baseline(texts, y, test[0], len(labels), seed)
            found["tfidf"] = measure(tfidf, truth, seed=seed)
        return found

    def predictions(self, scored: Scored, manifest: Manifest) -> list[dict[str, Any]]:
        """`{"label", "score"}` a row."""
        best = [rank(manifest.labels, scores, 1)[0] for scores in scored.scores]
        return [{"label": label, "score": score} for label, score in best]
