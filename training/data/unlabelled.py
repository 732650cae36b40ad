"""Texts without labels: read, and less what has labels or is measured on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapters.manifest import Finding
from training.data.reading import read_table
from training.data.splits import normalise
from training.errors import InvalidData
from training.findings import make_finding

MOST_TEXTS = 20_000
# The graph of near texts takes time by the square of all that is in it, and probabilities take
# memory by their number: with 40,000 a graph takes half a minute.
MOST_WITH_LABELLED = 40_000


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Different texts, in the file's order; `fingerprint` is the sha256 of all that it had."""

    texts: tuple[str, ...] = ()
    fingerprint: str = ""
    findings: tuple[Finding, ...] = ()


NONE = Unlabelled()


def read_unlabelled(
    path: Path, column: str, train: Sequence[str], others: Sequence[str], seed: int
) -> Unlabelled:
    """The texts of a file's column that have no label: neither in `train` nor in `others`.

    `others` are all labelled rows that do not train. A text of one would teach what it looks like,
    and who is measured by it, now or later, would look better than they are. Raises InvalidData.
    """
    most = min(MOST_TEXTS, MOST_WITH_LABELLED - len(train))
    if most <= 0:
        raise InvalidData(
            f"{len(train):,} labelled rows: unlabelled texts are for fewer than "
            f"{MOST_WITH_LABELLED:,}; leave out --unlabelled"
        )
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
    measured = {normalise(text) for text in others} - known
    by_form: dict[str, str] = {}
    for text in found:
        by_form.setdefault(normalise(text), text)
    left = known | measured
    left_out = len(measured & by_form.keys())
    kept = [text for form, text in by_form.items() if form not in left]
    if not kept:
        raise InvalidData(
            f"{path} has no text that is no labelled row; give other texts of the same kind, or "
            "leave out --unlabelled"
        )
    findings = []
    if left_out:
        findings.append(
            make_finding(
                "unlabelled-measured",
                f"unlabelled texts that are rows to measure on too, and were left out: {left_out}",
                texts=left_out,
            )
        )
    if len(kept) > most:
        findings.append(
            make_finding(
                "unlabelled-drawn",
                f"of {len(kept):,} unlabelled texts {most:,} were drawn",
                texts=len(kept),
                drawn=most,
            )
        )
        places = np.random.default_rng(seed).choice(len(kept), most, replace=False)
        kept = [kept[place] for place in np.sort(places)]
    return Unlabelled(tuple(kept), digest.hexdigest(), tuple(findings))
