"""What tasks with labels share: cells of one label, and refusals that name labels."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from adapters.manifest import MAX_LABELS, check_label
from training.data.tables import Table, as_text
from training.errors import InvalidData, named_counts

# "[1, 0]", "0 1 0", "0.0|1.0": at least two numbers that are 0 or 1.
_VECTOR = re.compile(r"[\[(]?\s*[01](\.0*)?(?:[\s,;|]+[01](\.0*)?)+\s*[\])]?")


def as_label(cell: object) -> str:
    """A cell as one label, without the white space around it. Raises ValueError."""
    try:
        return check_label(as_text(cell).strip())
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}. Is it the right column?") from error


def check_number_of_labels(table: Table, column: str, n_labels: int) -> None:
    """Raises InvalidData for more than an adapter can have."""
    if n_labels > MAX_LABELS:
        raise InvalidData(
            f"{table.path}: the column {column!r} holds {n_labels:,} different labels; "
            f"{MAX_LABELS:,} are allowed. Is it the right column?"
        )


def refuse_vectors(table: Table, column: str) -> None:
    """Raises InvalidData for a column of 0/1 vectors: their places have no names to answer with."""
    cells = [cell for cell in table.cells[column] if cell not in (None, "")]
    lengths = {_vector_length(cell) for cell in cells}
    if len(lengths) == 1 and lengths != {0}:
        raise InvalidData(
            f"{table.path}: the column {column!r} holds 0/1 vectors of length {lengths.pop()}, "
            f"such as {cells[0]!r:.40}. Write the names of the labels that apply, such as "
            "'refund', or 'refund|late' where several do."
        )


def _vector_length(cell: object) -> int:
    """The numbers of a 0/1 vector, of which it has at least two; 0 for all else."""
    if isinstance(cell, list):
        is_vector = len(cell) > 1 and all(part in (0, 1) for part in cell)
        return len(cell) if is_vector else 0
    if isinstance(cell, str) and _VECTOR.fullmatch(cell.strip()):
        return len(re.findall(r"[01](?:\.0*)?", cell))
    return 0


def refuse_few(counts: Mapping[str, int], least: int, needed: str) -> None:
    """Raises InvalidData for labels with less than `least` of what is `needed`."""
    if few := [(label, n) for label, n in counts.items() if n < least]:
        raise InvalidData(
            f"Labels with too few {needed}: {named_counts(few)}. Add rows, or remove the label."
        )


def refuse_unseen(seen: Collection[str], asked: Iterable[str]) -> None:
    """Raises InvalidData for labels of the test that are not among those `seen` in training."""
    if unseen := Counter(label for label in asked if label not in seen):
        raise InvalidData(
            f"Training never sees labels that the test asks for: {named_counts(unseen.items())}. "
            "Add training rows for them, or remove them from the test."
        )


def refuse_unknown(asked: Iterable[str], labels: Iterable[str]) -> None:
    """Raises InvalidData for labels of the test that are none of the adapter's `labels`."""
    known = set(labels)
    if unknown := Counter(label for label in asked if label not in known):
        raise InvalidData(
            f"The test has labels that the adapter does not know: {named_counts(unknown.items())}."
        )
