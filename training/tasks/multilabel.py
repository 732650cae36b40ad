"""Multi-label classification: any number of labels fits a row, or none."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from adapters import tasks as served
from adapters.manifest import Manifest, TaskName
from backbone import Spans
from training.data.tables import Table, as_text
from training.errors import InvalidData
from training.measures.baselines import mean_baseline, tfidf_labels_baseline
from training.measures.labels import measure
from training.tasks.base import LABELS, Floats, Kind, Measures, Scored
from training.tasks.calibration import fit_label_temperature
from training.tasks.labels import (
    as_label,
    check_number_of_labels,
    refuse_few,
    refuse_unknown,
    refuse_unseen,
    refuse_vectors,
)
from training.tasks.thresholds import best_thresholds

SEPARATOR = "|"
Target = tuple[str, ...]
_NO_LABEL: Target = ()


class Multilabel:
    """A target is the sorted labels of a row, each once. The loss is binary log loss a label."""

    NAME: ClassVar[TaskName] = "multilabel"
    KIND: ClassVar[Kind] = LABELS
    PER_TOKEN: ClassVar[bool] = False

    def read(self, table: Table, text: str, label: str) -> tuple[list[str], list[Target]]:
        """Cells are lists of labels, or text with `|` between them. Raises InvalidData."""
        texts = table.texts(text)
        table.require(label, "--label-column")
        refuse_vectors(table, label)
        targets = table.parse(label, _labels, empty_as=_NO_LABEL)
        check_number_of_labels(table, label, len(_counts(targets)))
        return texts, targets

    def strata(self, targets: Sequence[Target]) -> list[str]:
        """Each row's rarest label, of equally rare ones the first; "" for a row without."""
        counts = _counts(targets)
        return [
            min(target, key=lambda label: (counts[label], label), default="") for target in targets
        ]

    def check_all(self, targets: Sequence[Target]) -> None:
        """Each label with three rows that have it and three that have not."""
        _check_counts(targets, 3, "rows", "three are needed to hold one out")

    def check(self, train: Sequence[Target], test: Sequence[Target]) -> None:
        """Each label with two training rows that have it and two that have not."""
        _check_counts(train, 2, "training rows", "two are needed")
        refuse_unseen(set(_counts(train)), _each(test))

    def check_known(self, targets: Sequence[Target], labels: Sequence[str]) -> None:
        """Each label is one of the adapter's."""
        refuse_unknown(_each(targets), labels)

    def labels(self, train: Sequence[Target]) -> tuple[str, ...]:
        """Each label once, sorted."""
        return tuple(sorted(_counts(train)))

    def encode(
        self,
        targets: Sequence[Target],
        labels: Sequence[str],
        tokens: Sequence[Spans] | None = None,  # noqa: ARG002  # labels are of the whole row
    ) -> Floats:
        """0 or 1 [n, C]; what is none of the labels is left out."""
        known = {label: number for number, label in enumerate(labels)}
        y = np.zeros((len(targets), len(labels)))
        for row, target in enumerate(targets):
            y[row, [known[label] for label in target if label in known]] = 1
        return y

    def losses(self, raw: Floats, y: Floats, temperature: float) -> Floats:
        """Binary log losses [m] in nats, the mean over the labels."""
        z = raw / temperature
        losses: Floats = np.logaddexp(0, np.where(y > 0, -z, z)).mean(axis=1)
        return losses

    def calibrate(self, raw: Floats, y: Floats) -> float:
        """By `fit_label_temperature`."""
        return fit_label_temperature(raw, y)

    def thresholds(self, raw: Floats, y: Floats, temperature: float) -> tuple[float, ...]:
        """By `best_thresholds`, of scores rounded as a server's."""
        return best_thresholds(expit(raw / temperature).astype(np.float32), y)

    def counts(self, y: Floats) -> tuple[int, ...]:
        """Rows of each label."""
        return tuple(int(count) for count in y.sum(axis=0))

    def measure(
        self, scored: Scored, targets: Sequence[Target], manifest: Manifest, seed: int
    ) -> Measures:
        """Micro and macro F1, rows that are exactly right, log loss."""
        given = [tuple(label for label, _ in answer) for answer in _answers(scored, manifest)]
        answered = self.encode(given, manifest.labels) > 0
        applies = self.encode(targets, manifest.labels) > 0
        return measure(np.stack(scored.scores), answered, applies, seed=seed)

    def baselines(
        self,
        train: tuple[Sequence[str], Sequence[Target]],
        test: tuple[Sequence[str], Sequence[Target]],
        labels: Sequence[str],
        seed: int,
    ) -> Mapping[str, Measures]:
        """Labels that most rows have, and logistic regression on TF-IDF with such thresholds."""
        if not len(train[0]):
            return {}
        y, applies = self.encode(train[1], labels), self.encode(test[1], labels) > 0
        majority = mean_baseline(y, len(applies))
        tfidf, out_of_fold = tfidf_labels_baseline(train[0], y, test[0], seed)
        thresholds = best_thresholds(out_of_fold.astype(np.float32), y)
        return {
            "majority": measure(majority, majority >= 0.5, applies, seed=seed),
            "tfidf": measure(tfidf, tfidf.astype(np.float32) >= thresholds, applies, seed=seed),
        }

    def predictions(self, scored: Scored, manifest: Manifest) -> list[dict[str, Any]]:
        """`{"labels": [{"label", "score"}]}` a row, best first: the labels that apply."""
        return [
            {"labels": [{"label": label, "score": score} for label, score in answer]}
            for answer in _answers(scored, manifest)
        ]


def _answers(scored: Scored, manifest: Manifest) -> list[tuple[tuple[str, float], ...]]:
    """The labels that apply to each row, as a server answers."""
    task = served.Multilabel.build(manifest)
    return [task.answer(scores, top_k=0).labels for scores in scored.scores]


def _labels(cell: object) -> Target:
    """The labels of a cell that is not empty. Raises ValueError."""
    if isinstance(cell, list):
        return tuple(sorted({as_label(each) for each in cell}))
    text = as_text(cell)
    if text.lstrip().startswith(("['", '["')):
        raise ValueError(
            f"{text!r:.40} is a list written as text. Write a{SEPARATOR}b, without []."
        )
    parts = [part.strip() for part in text.split(SEPARATOR)]
    if "" in parts:
        raise ValueError(f"{text!r:.40} has a {SEPARATOR!r} with no label on one side. Remove it.")
    return tuple(sorted({as_label(part) for part in parts}))


def _each(targets: Sequence[Target]) -> list[str]:
    return [label for target in targets for label in target]


def _counts(targets: Sequence[Target]) -> Counter[str]:
    return Counter(_each(targets))


def _check_counts(targets: Sequence[Target], least: int, rows: str, needed: str) -> None:
    counts = _counts(targets)
    if not counts:
        raise InvalidData(f"None of the {rows} has a label. Is it the right column?")
    refuse_few(counts, least, f"{rows} that have them, and {needed}")
    without = {label: len(targets) - n for label, n in counts.items()}
    refuse_few(without, least, f"{rows} that do not have them, and {needed}")
