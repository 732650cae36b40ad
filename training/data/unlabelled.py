"""Texts without labels: read, and less what has labels or is measured on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data.splits import normalise
from training.data.tables import read_table
from training.errors import InvalidData

MOST_TEXTS = 20_000  # the graph of near texts takes time by the square of their number


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Different texts, in the file's order; `fingerprint` is the sha256 of all that it had."""

    texts: tuple[str, ...] = ()
    fingerprint: str = ""
    notes: tuple[str, ...] = ()


NONE = Unlabelled()


def read_unlabelled(
    path: Path, column: str, train: Sequence[str], test: Sequence[str], seed: int
) -> Unlabelled:
    """The texts of a file's column that stand neither in the training nor in the test rows.

    A text of a test row would teach what it looks like to whoever is measured by it. Raises
    InvalidData.
    """
    table = read_table(path)
    if column not in table.columns:
        there = ", ".join(map(repr, table.columns[:20]))
        raise InvalidData(
            f"{path}, the file of unlabelled texts, has no column {column!r}, in which labelled "
            f"rows have their texts; it has {there}. Rename one of the two"
        )
    found = table.texts(column)
    digest = hashlib.sha256()
    for text in found:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    known = {normalise(text) for text in train}
    measured = {normalise(text) for text in test} - known
    by_form: dict[str, str] = {}
    for text in found:
        by_form.setdefault(normalise(text), text)
    left = known | measured
    left_out = len(measured & by_form.keys())
    kept = [text for form, text in by_form.items() if form not in left]
    if not kept:
        raise InvalidData(
            f"{path} has no text that is neither a training nor a test row; give other texts of "
            "the same kind, or leave out --unlabelled"
        )
    notes = []
    if left_out:
        notes.append(f"unlabelled texts that are test rows too, and were left out: {left_out}")
    if len(kept) > MOST_TEXTS:
        notes.append(f"of {len(kept):,} unlabelled texts {MOST_TEXTS:,} were drawn")
        places = np.random.default_rng(seed).choice(len(kept), MOST_TEXTS, replace=False)
        kept = [kept[place] for place in np.sort(places)]
    return Unlabelled(tuple(kept), digest.hexdigest(), tuple(notes))
