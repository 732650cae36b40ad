"""What the outputs of a head are called, which PEFT does not keep."""

from collections.abc import Mapping
from pathlib import Path

from adapters.strict_json import strict_json
from training.errors import InvalidPeft

_CONFIG = "config.json"  # of the whole model, where somebody saved it beside the LoRA


def read_labels(given: str) -> tuple[str, ...]:
    """The labels of "a,b,c", or of a file with a label a line. Raises InvalidPeft."""
    file = Path(given)
    try:
        if not file.is_file():
            return tuple(label.strip() for label in given.split(","))
        return tuple(file.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, ValueError) as error:
        raise InvalidPeft(f"--labels {given[:80]}: it cannot be read: {error}") from error


def saved_labels(folder: Path) -> tuple[str, ...] | None:
    """The labels of the model's `id2label`, where its configuration lies in the folder.

    Raises InvalidPeft.
    """
    file = folder / _CONFIG
    if not file.is_file():
        return None
    try:
        content = strict_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidPeft(f"{file} cannot be read: {error}") from error
    found = content.get("id2label") if isinstance(content, dict) else None
    if found is None:
        return None
    if not _is_numbered(found):
        raise InvalidPeft(
            f"{file}: id2label gives no label for each number from 0; name them with --labels"
        )
    return tuple(found[str(number)] for number in range(len(found)))


def _is_numbered(found: object) -> bool:
    return (
        isinstance(found, Mapping)
        and set(found) == {str(number) for number in range(len(found))}
        and all(isinstance(label, str) for label in found.values())
    )
