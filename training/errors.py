"""What training refuses. Messages are for the user: what is wrong, where, and what to do."""

from collections.abc import Iterable

from adapters.errors import HeadstockError


class TrainingError(HeadstockError):
    """Base of everything that training refuses or fails at."""

    code = "training-failed"


class InvalidData(TrainingError):
    """The labelled rows cannot be used as they are; the message names the file, column and row."""

    code = "invalid-data"


class InvalidRecipe(TrainingError):
    """The settings of a training do not fit together, or are none; the message names them."""

    code = "invalid-recipe"


class InvalidPeft(TrainingError):
    """A folder of PEFT cannot be taken as it is; the message names the file, module or setting."""

    code = "invalid-peft"


class InvalidManifest(TrainingError):
    """A manifest of trainings cannot be used; the message names its lines."""

    code = "invalid-manifest"


def named_counts(counts: Iterable[tuple[str, int]]) -> str:
    """ "'refund' (1), 'lost card' (1) and 3 more": the first few values with their row counts."""
    pairs = list(counts)
    more = f" and {len(pairs) - 10} more" if len(pairs) > 10 else ""
    return ", ".join(f"{value!r} ({n})" for value, n in pairs[:10]) + more
