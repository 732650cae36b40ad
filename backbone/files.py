"""Files of a backbone, known by their sha256."""

import hashlib
from pathlib import Path

from backbone.errors import BackboneError


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_file(folder: Path, name: str, expected: str) -> None:
    """Refuse a file that is not the one of the manifest. Raises BackboneError."""
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise BackboneError(f"{folder}: the file {name!r} of the manifest is missing")
    if file_sha256(path) != expected:
        raise BackboneError(
            f"{path} is not the file that was added: its sha256 differs from the manifest's; "
            "add the backbone again"
        )
