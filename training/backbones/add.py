"""`headstock backbone add`: a source to a verified backbone folder."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from backbone.errors import BackboneError
from backbone.files import file_sha256
from backbone.manifest import TOKENIZER_FILE, Source, TextPreprocessing
from backbone.package import check_name_free
from backbone.runtime import Backbone
from backbone.stability import SAMPLE_TEXTS
from backbone.surgery.features import (
    add_layers,
    add_pooling,
    expose,
    keep_outputs,
    strip_provenance,
)
from backbone.surgery.sites import find_sites
from training.backbones.packing import DEFAULT, Added, Build, Draft, find_made, pack

Say = Callable[[str], None]
TOLERANCE = 1e-4  # largest difference to torch that an export may have


class OnnxOptions(NamedTuple):
    """What an ONNX file does not say of itself."""

    tokenizer: Path | None = None
    taps: Mapping[str, str] = {}
    max_length: int = 256
    pad_id: int = 0


def add_from_folder(
    folder: Path,
    source: Source,
    root: Path,
    name: str,
    say: Say,
    replace: bool = False,
    build: Build = DEFAULT,
) -> Added:
    """Export a Hugging Face folder, check it against torch, and keep it under `root`/`name`.

    What is there already is not made again, except with `replace`.

    Raises:
        BackboneExists: another has that name, and `replace` is not given.
        BackboneError: the model cannot be used.
    """
    if not replace:
        check_name_free(root, name, source, build.precision)
        if made := find_made(root, name, source, build):
            return Added(made, None)
    say("loading torch and the model")
    from training.backbones import (
        export,  # torch is slow to import: only once the source is known good
    )

    encoder = export.load_encoder(folder)
    say("exporting to ONNX")
    inner = export.inner_layers(encoder) if build.layers else ()
    model = export.export_tokens(encoder, inner)
    sites = find_sites(model, wrapper=export.WRAPPER)
    strip_provenance(model)
    add_pooling(model, encoder.width, encoder.pooling)
    if build.layers:
        add_layers(model, inner, encoder.width, encoder.pooling)
        keep_outputs(model, ("tokens", "pooled", "layers"))
    settings = TextPreprocessing(max_length=encoder.max_length, pad_id=encoder.pad_id)

    def check(backbone: Backbone) -> None:
        say("comparing with torch")
        for text in SAMPLE_TEXTS:
            row = backbone.preprocess(text)
            ours = backbone.run([row], backbone.manifest.features)
            theirs = export.reference_features(encoder, row.ids.tolist(), build.layers)
            for feature, expected in theirs.items():
                value = ours[feature][0][: row.length] if feature == "tokens" else ours[feature][0]
                gap = float(np.max(np.abs(value - expected)))
                if not gap <= TOLERANCE:
                    raise BackboneError(
                        f"the exported {feature!r} differs from torch by {gap:.2g}, more than "
                        f"{TOLERANCE:g}, on {text[:40]!r}; this model cannot be exported faithfully"
                    )

    with tempfile.TemporaryDirectory() as work:
        tokenizer = Path(work) / TOKENIZER_FILE
        tokenizer.write_text(export.tokenizer_json(encoder), encoding="utf-8")
        draft = Draft(model, sites, tokenizer, settings, source)
        return pack(draft, build, root, name, say, check, replace)


def add_from_onnx(
    file: Path,
    options: OnnxOptions,
    root: Path,
    name: str,
    say: Say,
    replace: bool = False,
    build: Build = DEFAULT,
) -> Added:
    """Take an ONNX file as it is, with tensors inside it tapped as features.

    `taps` maps a feature to a tensor's name: `tokens` [n, t, d] or `pooled` [n, d]. Where only
    `tokens` is tapped, `pooled` is its masked mean. Raises as `add_from_folder`.
    """
    if build.layers:
        raise BackboneError(
            f"{file} is an ONNX file, which does not say what its layers are; --layers is for "
            "Hugging Face ids and folders"
        )
    tokenizer = options.tokenizer or file.parent / TOKENIZER_FILE
    if not tokenizer.is_file():
        raise BackboneError(f"no tokenizer at {tokenizer}; name it with --tokenizer FILE")
    say("reading the graph")
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(str(file)))
    except Exception as error:  # protobuf and onnx each raise their own
        raise BackboneError(f"{file} is not an ONNX file: {error}") from error
    weights = file_sha256(file)
    _tap(model, options.taps or _guess_taps(model))
    sites = find_sites(model)
    strip_provenance(model)
    settings = TextPreprocessing(max_length=options.max_length, pad_id=options.pad_id)
    source = Source(kind="onnx", id=file.name, weights_sha256=weights)
    if not replace:
        check_name_free(root, name, source, build.precision)
    draft = Draft(model, sites, tokenizer, settings, source)
    return pack(draft, build, root, name, say, lambda _: None, replace)


def _guess_taps(model: onnx.ModelProto) -> dict[str, str]:
    """The usual names of a text encoder's output."""
    outputs = [output.name for output in model.graph.output]
    for usual in ("tokens", "last_hidden_state", "token_embeddings"):
        if usual in outputs:
            return {"tokens": usual}
    raise BackboneError(
        f"which tensor holds the features? Name it with --tap tokens=TENSOR or --tap "
        f"pooled=TENSOR; the graph's outputs are {outputs}"
    )


def _tap(model: onnx.ModelProto, taps: Mapping[str, str]) -> None:
    if unknown := set(taps) - {"tokens", "pooled"}:
        raise BackboneError(
            f"unknown features {sorted(unknown)}; a text backbone has tokens, pooled"
        )
    for feature, tensor in taps.items():
        width = _width(model, tensor)
        middle = ("t",) if feature == "tokens" else ()
        expose(model, tensor, feature, ("n", *middle, width))
    keep_outputs(model, tuple(taps))
    if "pooled" not in taps:
        add_pooling(model, _width(model, "tokens"), "mean")


def _width(model: onnx.ModelProto, tensor: str) -> int:
    graph = model.graph
    for value in [*graph.output, *graph.value_info]:
        if value.name == tensor and value.type.tensor_type.shape.dim:
            width = value.type.tensor_type.shape.dim[-1].dim_value
            if width > 0:
                return int(width)
    raise BackboneError(f"tensor {tensor!r} is not in the graph or has no fixed last dimension")
