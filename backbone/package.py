"""Backbone folders on disk: written whole or not at all, verified when loaded."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from backbone.errors import BackboneError, BackboneExists, BackboneNotFound
from backbone.files import PrivateFiles, file_sha256, open_regular
from backbone.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    Manifest,
    Precision,
    Source,
)
from backbone.runtime import Backbone

_MOST_MANIFEST_BYTES = 16 * 2**20  # thousands of sites take a megabyte


def write_backbone(
    root: Path,
    files: Mapping[str, Path],
    make_manifest: Callable[[dict[str, str]], Manifest],
    check: Callable[[Backbone], None],
    replace: bool = False,
) -> Backbone:
    """Copy `files` (name in the folder -> path) into a new backbone folder and check it.

    `make_manifest` gets the sha256 of each file. The folder appears under its name only after
    `check` passed. The same backbone that is whole there already stays.

    Raises:
        BackboneExists: another has that name, and `replace` is not given.
    """
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=root))
    try:
        for name, path in files.items():
            shutil.copyfile(path, staging / name)
        manifest = make_manifest({name: file_sha256(staging / name) for name in files})
        target = root / manifest.name
        there = peek_manifest(target)
        is_same = there is not None and there.digest == manifest.digest
        if target.exists() and not is_same and not replace:
            raise _taken(target)
        (staging / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
        check(load_backbone(staging))
        staging.chmod(0o755)  # mkdtemp's 0700 would keep other users of the machine out
        if is_same and _is_whole(target):
            shutil.rmtree(staging)
        else:
            _move_in(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return load_backbone(target)


def check_name_free(root: Path, name: str, source: Source, precision: Precision) -> None:
    """Refuse before the long work what `write_backbone` would refuse after it.

    From another source, or in another precision, comes another digest. Raises BackboneExists.
    """
    there = peek_manifest(root / name)
    is_other = there is None or (there.source, there.precision) != (source, precision)
    if (root / name).exists() and is_other:
        raise _taken(root / name)


def _taken(target: Path) -> BackboneExists:
    there = peek_manifest(target)
    if there is None:
        what = "there already, and is no valid backbone"
    else:
        what = (
            f"another backbone, {there.source.id} in {there.precision} with digest "
            f"{there.digest[:12]}…, which the "
            "adapters trained on it need"
        )
    return BackboneExists(f"{target} is {what}; choose another --name, or give --replace")


def _is_whole(target: Path) -> bool:
    try:
        load_backbone(target)
    except BackboneError:
        return False
    return True


def _move_in(staging: Path, target: Path) -> None:
    """Put a finished folder in its place; at no moment is neither on the disk."""
    if not target.exists():
        staging.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=".replaced-", dir=target.parent))
    old = target.rename(aside / target.name)
    try:
        staging.rename(target)
    except BaseException:
        old.rename(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backbone folder, unverified against its files."""
    path = folder / MANIFEST_FILE
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_MANIFEST_BYTES + 1)
        if len(content) > _MOST_MANIFEST_BYTES:
            raise BackboneError(f"{path} has more than {_MOST_MANIFEST_BYTES} bytes")
        return Manifest.model_validate_json(content)
    except FileNotFoundError as error:
        raise BackboneNotFound(f"{folder} is not a backbone: it has no {MANIFEST_FILE}") from error
    except (ValidationError, json.JSONDecodeError) as error:
        raise BackboneError(f"{path} is not a valid manifest: {error}") from error


def peek_manifest(folder: Path) -> Manifest | None:
    """The manifest of a backbone folder, None where there is no valid one."""
    try:
        return read_manifest(folder)
    except BackboneError:
        return None


def load_backbone(folder: Path, threads: int = 1) -> Backbone:
    """Verify the sha256 of every file, then load; `threads` is for each run of the graph.

    Raises:
        BackboneNotFound: no backbone there.
        BackboneError: a file is missing or is not the one that the manifest names.
    """
    manifest = read_manifest(folder)
    graphs = [MODEL_FILE, *(graph.file for graph in manifest.lora)]
    if unnamed := {*graphs, TOKENIZER_FILE} - set(manifest.files):
        raise BackboneError(f"{folder}: the manifest gives no sha256 for {sorted(unnamed)}")
    return Backbone(PrivateFiles(folder, manifest.files), manifest, threads)


def list_backbones(root: Path) -> list[Manifest]:
    """The manifests of all backbones under `root`, by name. Raises BackboneError."""
    manifests = []
    for folder in sorted(path.parent for path in root.glob(f"[!.]*/{MANIFEST_FILE}")):
        manifest = read_manifest(folder)
        if manifest.name != folder.name:
            raise BackboneError(
                f"the folder {str(folder)!r} holds a backbone of the name {manifest.name!r}; "
                "rename it, or remove it if it is a copy"
            )
        manifests.append(manifest)
    return manifests


def find_backbone(root: Path, name: str) -> Path:
    """The folder of the backbone `name`. Raises BackboneNotFound with the names that exist."""
    folder = root / name
    if Path(name).name != name or name == ".." or not (folder / MANIFEST_FILE).is_file():
        known = ", ".join(manifest.name for manifest in list_backbones(root)) or "none yet"
        raise BackboneNotFound(
            f"no backbone {name!r} under {root} (added: {known}); add it with: "
            f"headstock backbone add SOURCE --name {name}"
        )
    return folder
