"""What the tests of the real parts share: each encoder is exported once in a run of the tests,
and the default backbone that the demo has made is there for others.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

from training.backbones import export


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the whole run, of all processes that run tests side by side."""
    base = tmp_path_factory.getbasetemp()
    # These have folders of their own in one.
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def demo_backbones(shared: Path) -> Path:
    """Where the demo's backbones folder is kept when it has been made; nothing is there before."""
    return shared / "demo-backbones"


@pytest.fixture(autouse=True, scope="session")
def _exported_once(shared: Path) -> Iterator[None]:
    """The exporter itself, asked once for the same weights: tracing takes it 4 s a layer."""
    kept = shared / "exports"
    kept.mkdir(exist_ok=True)
    export_tokens = export.export_tokens

    def export_once(encoder: export.Encoder, inner: Sequence[str] = ()) -> onnx.ModelProto:
        file = kept / f"{_digest(encoder, inner)}.onnx"
        if not file.exists():
            model = export_tokens(encoder, inner)
            written = kept / f"{file.name}.{os.getpid()}"
            written.write_bytes(model.SerializeToString())
            written.rename(file)
        return onnx.load_model_from_string(file.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_tokens", export_once)
        yield


def _digest(encoder: export.Encoder, inner: Sequence[str]) -> str:
    """All that a graph is made of."""
    config: Any = encoder.model.encoder.config
    parts = (config.to_json_string(), encoder.max_length, *inner)
    digest = hashlib.sha256(repr(parts).encode())
    for name, weights in sorted(encoder.model.state_dict().items()):
        digest.update(name.encode() + weights.numpy().tobytes())
    return digest.hexdigest()
