"""What tasks with labels share: cells of one label, and refusals that name labels."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from adapters.manifest import MAX_LABELS, check_label
from training.data.tables import Table, as_text
from training.errors import InvalidData, named_counts


def as_label(cell: object) -> str:
    """A cell as one label, without the white space around it. Raises ValueError."""
    try:
        return check_label(as_text(cell).strip())
    except ValueError as error:
        raise ValueError(f"{error}. Is it the right column?") from error


def check_number_of_labels(table: Table, column: str, n_labels: int) -> None:
    """Raises InvalidData for more than an adapter can have."""
    if n_labels > MAX_LABELS:
        raise InvalidData(
            f"{table.path}: the column {column!r} holds {n_labels:,} different labels; "
            f"{MAX_LABELS:,} are allowed. Is it the right column?"
        )


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
