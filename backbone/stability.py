"""Proof on real runs that neighbours and padding never change a row's features."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from backbone.errors import BackboneError
from backbone.runtime import Backbone, Features
from backbone.text import TextRow

# Lengths from a word to a paragraph, several scripts, so that rows of every kind meet in a batch.
SAMPLE_TEXTS = (
    "Hi",
    "Where is my order?",
    "I would like to change the delivery address of the parcel that you sent yesterday.",
    "The card was charged twice; please refund one of the two payments, thank you.",
    "¿Dónde está la estación?",
    "配達はいつ届きますか",
    "ok",
    "Can I get a prescription refill without seeing the doctor, or do I need an appointment first?",
    "numbers 1 2 3 4 5 6 7 8 9 10 and signs !?;: () [] {} @ # % & * + = / \\ | ~",
    " ".join(["A long message that goes on and on about the same small thing."] * 12),
    "",
    " ".join(f"word{number}" for number in range(400)),
)


def check_row_stability(backbone: Backbone) -> None:
    """Compare each sample row alone with itself in batches of other sizes and lengths.

    Raises:
        BackboneError: where a single bit differs; such a backbone would let one tenant's rows
            change another's answers.
    """
    rows = [backbone.preprocess(text) for text in SAMPLE_TEXTS]
    features = sorted(backbone.manifest.features)
    alone = [_cut(backbone, row, backbone.run([row], features), 0) for row in rows]
    for batch in _batches(len(rows)):
        outputs = backbone.run([rows[index] for index in batch], features)
        for position, index in enumerate(batch):
            together = _cut(backbone, rows[index], outputs, position)
            for feature, value in together.items():
                if not np.array_equal(value, alone[index][feature]):
                    gap = float(np.max(np.abs(value - alone[index][feature])))
                    raise BackboneError(
                        f"feature {feature!r} of a row changes by up to {gap:.2g} with the other "
                        "rows of its batch; this graph cannot be shared between tenants (dynamic "
                        "quantisation over the whole batch is a usual cause)"
                    )


def _batches(n_rows: int) -> Iterator[Sequence[int]]:
    """All rows at once, neighbours in pairs, each row beside the longest, and repeated rows."""
    yield range(n_rows)
    for index in range(n_rows):
        yield (index, (index + 1) % n_rows)
        yield (n_rows - 1, index)
        yield [index] * 3 + [(index + 5) % n_rows] * 2


def _cut(
    backbone: Backbone, row: TextRow, outputs: Features, position: int
) -> dict[str, NDArray[np.float32]]:
    """One row's part of each feature, without its padding."""
    parts = {}
    for name, feature in backbone.manifest.features.items():
        value = outputs[name][position]
        parts[name] = value[: row.length] if "t" in feature.dims else value
    return parts
