"""Models are downloaded from the Hugging Face hub."""

from pathlib import Path

from backbone.errors import BackboneError

_FILES = (
    "*.json",
    "*.txt",
    "*.model",
    "model*.safetensors",
    "README.md",
    "[0-9]*_*/*.json",  # the modules of sentence-transformers
    "[0-9]*_*/*.safetensors",
)
_TIMEOUT_S = 5.0


def download(identity: str, revision: str | None, hint: str = "") -> tuple[Path, str]:
    """Get the model's files and the commit they are from; `hint` ends the message if that fails.

    Where the hub is away, its local cache stands in for a revision that the caller names.

    Raises:
        BackboneError: the hub cannot be reached, or has no such model.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # Asked first and once: the downloader would go through its retries for each file.
        info = hub.HfApi().model_info(identity, revision=revision, timeout=_TIMEOUT_S)
        commit = str(info.sha)
        folder = hub.snapshot_download(identity, revision=commit, allow_patterns=list(_FILES))
    except Exception as error:  # the hub's client raises errors of three libraries
        refused = isinstance(error, HfHubHTTPError)
        if revision and not refused and (kept := _kept(identity, revision)):
            return kept, kept.name
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"cannot get {identity} from the Hugging Face hub: {reason}{hint}"
        ) from None
    return Path(folder), commit


def _kept(identity: str, revision: str) -> Path | None:
    """The model's folder in the hub's local cache, named after its commit; None where it is not."""
    import huggingface_hub as hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(hub.snapshot_download(identity, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if (folder / "config.json").is_file() else None
