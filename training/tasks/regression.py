"""Regression: a value for each of one or more named targets."""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np

from adapters import tasks as served
from adapters.manifest import Manifest, TaskName, check_label
from backbone import Spans
from training.data.tables import Table
from training.errors import InvalidData
from training.measures.baselines import mean_baseline, tfidf_values_baseline
from training.measures.values import measure
from training.tasks.base import VALUES, Floats, Kind, Measures, Scored

SEPARATOR = ","
MAX_TARGETS = 100  # each has figures of its own
MAX_NAME_CHARS = 100
# An adapter's numbers are float32, which ends at 3.4e38; weights and products need room below.
LARGEST = 1e30
MIN_TRAINING_ROWS = 10
MIN_ROWS = 15  # a fifth held out leaves more than those
MAX_BINS = 5
ROWS_OF_BIN = 10
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

# Values with the names of their columns, sorted by name: equal rows are equal in whatever order the
# columns were named, and an evaluation cannot take one target for another.
Target = tuple[tuple[str, float], ...]


class Regression:
    """A target is the values of a row by name. The loss is squared error, relative to variance."""

    NAME: ClassVar[TaskName] = "regression"
    KIND: ClassVar[Kind] = VALUES
    PER_TOKEN: ClassVar[bool] = False

    def read(self, table: Table, text: str, label: str) -> tuple[list[str], list[Target]]:
        """`label` names one column or, with commas between, several. Raises InvalidData."""
        texts = table.texts(text)
        names = _names(table, text, label)
        columns = [table.parse(name, _value) for name in names]
        rows = zip(*columns, strict=True)
        return texts, [tuple(zip(names, row, strict=True)) for row in rows]

    def strata(self, targets: Sequence[Target]) -> list[str]:
        """The number of the first target's quantile bin: five bins, fewer for few rows."""
        first = np.array([target[0][1] for target in targets])
        n_bins = min(MAX_BINS, max(1, len(first) // ROWS_OF_BIN))
        edges = np.unique(np.quantile(first, np.arange(1, n_bins) / n_bins))
        return [str(place) for place in np.searchsorted(edges, first)]

    def check_all(self, targets: Sequence[Target]) -> None:
        """Fifteen rows."""
        _refuse_few(len(targets), MIN_ROWS, "rows")

    def check(self, train: Sequence[Target], test: Sequence[Target]) -> None:
        """Ten training rows; on both sides each target has different values."""
        _refuse_few(len(train), MIN_TRAINING_ROWS, "training rows")
        _refuse_constant(train, "training", "There is nothing to learn")
        _refuse_constant(test, "test", "There is nothing to measure")

    def check_known(self, targets: Sequence[Target], labels: Sequence[str]) -> None:
        """The rows have the adapter's targets, no more and no less."""
        names = self.labels(targets)
        if set(names) != set(labels):
            raise InvalidData(
                f"The adapter estimates {_quoted(labels)}, and the rows were read with "
                f"{_quoted(names)}. Name the columns with --label-column {SEPARATOR.join(labels)}"
            )

    def labels(self, train: Sequence[Target]) -> tuple[str, ...]:
        """The names of the targets, sorted."""
        return tuple(name for name, _ in train[0])

    def encode(
        self,
        targets: Sequence[Target],
        labels: Sequence[str],
        tokens: Sequence[Spans] | None = None,  # noqa: ARG002  # values are of the whole row
    ) -> Floats:
        """Values [n, C] in the order of `labels`."""
        rows = [[values[label] for label in labels] for values in map(dict, targets)]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(labels))

    def losses(self, raw: Floats, y: Floats, temperature: float) -> Floats:  # noqa: ARG002  # is 1
        """Squared errors [m] as shares of each target's variance in y, the mean over targets."""
        variance = np.where(np.ptp(y, axis=0) > 0, y.var(axis=0), 1)
        losses: Floats = ((raw - y) ** 2 / variance).mean(axis=1)
        return losses

    def calibrate(self, raw: Floats, y: Floats) -> float:  # noqa: ARG002  # values are no scores
        """1: there is nothing to calibrate."""
        return 1.0

    def thresholds(self, raw: Floats, y: Floats, temperature: float) -> None:
        """None: a value is the answer."""

    def counts(self, y: Floats) -> tuple[int, ...]:
        """Rows with a value: all, for each target."""
        return tuple(len(column) for column in y.T)

    def measure(
        self, scored: Scored, targets: Sequence[Target], manifest: Manifest, seed: int
    ) -> Measures:
        """R², then mean absolute and root mean squared error of each target."""
        truth = self.encode(targets, manifest.labels)
        return measure(np.stack(scored.scores), truth, manifest.labels, seed=seed)

    def baselines(
        self,
        train: tuple[Sequence[str], Sequence[Target]],
        test: tuple[Sequence[str], Sequence[Target]],
        labels: Sequence[str],
        seed: int,
    ) -> Mapping[str, Measures]:
        """Training's mean, and ridge regression on TF-IDF."""
        if not len(train[0]):
            return {}
        y, truth = self.encode(train[1], labels), self.encode(test[1], labels)
        found = {
            "mean": mean_baseline(y, len(truth)),
            "tfidf": tfidf_values_baseline(train[0], y, test[0], seed),
        }
        return {name: measure(each, truth, labels, seed=seed) for name, each in found.items()}

    def predictions(self, scored: Scored, manifest: Manifest) -> list[dict[str, Any]]:
        """`{"values": {name: value}}` a row."""
        task = served.Regression.build(manifest)
        return [{"values": dict(task.answer(scores, 0).values)} for scores in scored.scores]


def _names(table: Table, text: str, label: str) -> list[str]:
    """The columns that `label` names, each required; a comma may also be part of one's name."""
    names = [label]
    if label not in table.columns:
        names = sorted(name.strip() for name in label.split(SEPARATOR))
    for name in names:
        table.require(name, "--label-column")
        _check_name(name)
    if text in names:
        raise InvalidData(f"The text and a target cannot both be the column {text!r}.")
    if len(set(names)) < len(names):
        raise InvalidData(f"--label-column {label} names a column twice.")
    if len(names) > MAX_TARGETS:
        raise InvalidData(f"{len(names)} targets are more than the {MAX_TARGETS} of one adapter.")
    return names


def _check_name(name: str) -> None:
    try:
        check_label(name)
    except ValueError as error:
        raise InvalidData(f"A column's name is the target's: {error}. Rename it.") from error
    if len(name) > MAX_NAME_CHARS:
        raise InvalidData(
            f"The column {name[:40]!r} names a target, with {len(name)} characters; "
            f"{MAX_NAME_CHARS} are allowed. Rename it."
        )


def _value(cell: object) -> float:
    """A cell as a finite number. Raises ValueError."""
    if isinstance(cell, str) and _NUMBER.fullmatch(cell.strip()):
        value = float(cell)
    elif isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
        try:
            value = float(cell)
        except OverflowError:
            value = math.inf
    else:
        kind = "" if isinstance(cell, str) else f" but a {type(cell).__name__}"
        raise ValueError(f"{cell!r:.40} is no number{kind}. Write it like 12 or -3.5.")
    if not math.isfinite(value):
        raise ValueError(f"{cell!r:.40} is not finite. Remove the row.")
    if abs(value) > LARGEST:
        raise ValueError(f"{cell!r:.40} is beyond {LARGEST:g}. Give the column another unit.")
    return value


def _refuse_few(n: int, least: int, what: str) -> None:
    if n < least:
        raise InvalidData(f"There are {n} {what}; {least} are needed. Add rows.")


def _refuse_constant(targets: Sequence[Target], side: str, why: str) -> None:
    """Raises InvalidData for targets with one value, as float32, which all of an adapter is."""
    constant = [
        pairs[0][0]
        for pairs in zip(*targets, strict=True)
        if len({np.float32(value) for _, value in pairs}) == 1
    ]
    if constant:
        raise InvalidData(
            f"All {side} rows have the same value of {_quoted(constant)}. {why}; remove the column "
            "or add rows."
        )


def _quoted(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(repr(name) for name in names[:10]) + more
