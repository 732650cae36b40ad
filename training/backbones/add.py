"""`headstock backbone add`: a source to a verified backbone folder."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from backbone.errors import BackboneError
from backbone.files import file_sha256
from backbone.kernels import open_session
from backbone.manifest import TOKENIZER_FILE, Source, TextPreprocessing
from backbone.package import check_name_free
from backbone.runtime import Backbone
from backbone.samples import SAMPLE_TEXTS
from backbone.stability import random_factors
from backbone.surgery.features import expose, keep_outputs, strip_provenance
from backbone.surgery.gemm import unfold_gemms
from backbone.surgery.pooling import add_layers, add_pooling
from backbone.surgery.sites import find_sites
from training.backbones.catalog.entry import Entry, Say
from training.backbones.folder import default_prompt, matryoshka_dimensions, named_prompts
from training.backbones.onnx_file import read_onnx
from training.backbones.packing import DEFAULT, Added, Build, Draft, find_made, pack, shorter
from training.backbones.sources import resolve

if TYPE_CHECKING:
    from training.backbones.export import Encoder

Vector = NDArray[np.float32]
# Largest difference to torch that an export may have; in parts of the largest number above 1.
TOLERANCE = 1e-4
_HALF_TOLERANCE = 0.02  # the same of a file whose own numbers have 16 bits
# What a file may take ids and masks as.
_NUMBERS = {
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
_RANK = 4  # of the LoRA that is compared with torch


class OnnxOptions(NamedTuple):
    """What an ONNX file does not say of itself."""

    tokenizer: Path | None = None
    taps: Mapping[str, str] = {}
    max_length: int = 256
    pad_id: int = 0


def add_from_catalog(
    entry: Entry,
    root: Path,
    name: str,
    say: Say,
    replace: bool = False,
    build: Build = DEFAULT,
) -> Added:
    """Add an entry of the catalogue, as `add_from_folder` adds its folder.

    Nothing is downloaded for what is there already. Raises as `add_from_folder`.
    """
    if not replace:
        check_name_free(root, name, entry.source, build.precision)
        prompt = entry.prompt if build.prompt is None else build.prompt
        if made := find_made(root, name, entry.source, build, prompt, build.matryoshka or ()):
            return Added(made, None)
    found = resolve(entry.name, None, root, say)
    return add_from_folder(found.path, found.source, root, name, say, replace, build)


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
    prompt = default_prompt(folder) if build.prompt is None else build.prompt
    cuts = matryoshka_dimensions(folder) if build.matryoshka is None else build.matryoshka
    if not replace:
        check_name_free(root, name, source, build.precision)
        if made := find_made(root, name, source, build, prompt, cuts):
            return Added(made, None)
    say("loading torch and the model")
    from training.backbones import (
        export,  # torch is slow to import: only once the source is known good
    )

    encoder = export.load_encoder(folder, prompt, build.max_length)
    say("exporting to ONNX")
    inner = export.inner_layers(encoder) if build.layers else ()
    model = export.export_tokens(encoder, inner)
    unfold_gemms(model)
    sites = find_sites(model, wrapper=export.WRAPPER)
    strip_provenance(model)
    pooling = encoder.head.describe()
    add_pooling(model, encoder.width, pooling)
    if build.layers:
        add_layers(model, inner, encoder.width, pooling)
        keep_outputs(model, ("tokens", "pooled", "layers"))
    named = named_prompts(folder, prompt) if encoder.takes_prompts else {}
    settings = TextPreprocessing(
        max_length=encoder.max_length, pad_id=encoder.pad_id, prompt=prompt, prompts=named
    )

    def check(backbone: Backbone) -> None:
        say("comparing with torch")
        for text in SAMPLE_TEXTS:
            _compare(backbone, encoder, text)
        for other in named.values():
            _compare_vector(backbone, encoder, SAMPLE_TEXTS[1], other)
        _compare_lora(backbone, encoder)

    with tempfile.TemporaryDirectory() as work:
        tokenizer = Path(work) / TOKENIZER_FILE
        tokenizer.write_text(export.tokenizer_json(encoder), encoding="utf-8")
        cut = _checked_cuts(build, cuts, pooling.width(encoder.width))
        draft = Draft(model, sites, tokenizer, settings, source, cut)
        added = pack(draft, build, root, name, say, check, replace)
    return added._replace(notes=_notes(encoder))


def _compare(backbone: Backbone, encoder: "Encoder", text: str) -> None:
    """One text through the backbone, and through the libraries that its folder belongs to."""
    from training.backbones import export

    row = backbone.preprocess(text)
    ids = row.ids.tolist()
    if ids != (export.library_ids(encoder, text) or ids):  # a row has a token, if it is of padding
        raise BackboneError(
            f"the tokenizer gives other tokens of {text[:40]!r} than in transformers; this "
            "tokenizer cannot be served faithfully"
        )
    ours = backbone.run([row], backbone.manifest.features)
    with_layers = "layers" in ours
    for feature, expected in export.reference_features(encoder, ids, with_layers).items():
        value = ours[feature][0]
        value = value[: row.length] if feature == "tokens" else value
        _check_gap(value, expected, f"the exported {feature!r} differs from torch", text)
    _compare_vector(backbone, encoder, text, encoder.prompt)


def _compare_vector(backbone: Backbone, encoder: "Encoder", text: str, prompt: str) -> None:
    """The vector of one text behind a prompt, which sentence-transformers makes as a whole."""
    from training.backbones import export

    vector = export.library_vector(encoder, text, prompt)
    if vector is not None:
        ours = backbone.run([backbone.preprocess(text, prompt=prompt)], ["pooled"])["pooled"][0]
        _check_gap(ours, vector, "'pooled' is not what SentenceTransformer gives", text)


def _compare_lora(backbone: Backbone, encoder: "Encoder") -> None:
    """LoRA at all sites of the graph, and in all the places where torch has their weights."""
    from training.backbones import export

    sites = backbone.manifest.sites
    taken = [name for graph in backbone.manifest.lora[-1:] for name in graph.sites]
    chosen = {name: sites[name] for name in taken if export.is_linear(encoder, name)}
    if not chosen:
        return
    factors = random_factors(chosen, _RANK, seed=0)
    placed = backbone.lora_pool(_RANK).place(range(1, _RANK + 1), factors)
    row = backbone.preprocess(SAMPLE_TEXTS[1])
    tokens = backbone.run([row], ["tokens"], [placed])["tokens"][0]
    with export.merged_lora(encoder, factors):
        expected = export.reference_features(encoder, row.ids.tolist())["tokens"]
    what = "'tokens' with LoRA differs from torch, as it would not with --lora none"
    _check_gap(tokens, expected, what, SAMPLE_TEXTS[1])


def _compare_file(backbone: Backbone, file: Path, taps: Mapping[str, str]) -> None:
    """What the file itself gives, for those of its outputs that are features."""
    session = open_session(file)
    outputs = {output.name for output in session.get_outputs()}
    shown = {feature: tensor for feature, tensor in taps.items() if tensor in outputs}
    inputs = {each.name: _NUMBERS.get(each.type, np.int64) for each in session.get_inputs()}
    for text in SAMPLE_TEXTS[1:4] if shown else ():
        row = backbone.preprocess(text)
        arrays = backbone.collate([row], tuple(inputs))
        feeds = {name: arrays[name].astype(kind) for name, kind in inputs.items()}
        ours = backbone.run([row], list(shown))
        theirs = session.run(list(shown.values()), feeds)
        for feature, value in zip(shown, theirs, strict=True):
            within = TOLERANCE if value.dtype == np.float32 else _HALF_TOLERANCE
            _check_gap(ours[feature], value, f"{feature!r} differs from the file's", text, within)


def _check_gap(
    ours: Vector, theirs: Vector, what: str, text: str, within: float = TOLERANCE
) -> None:
    if ours.shape != theirs.shape:
        raise BackboneError(f"{what}: it has shape {list(ours.shape)}, not {list(theirs.shape)}")
    gap = float(np.max(np.abs(ours - theirs))) / max(1.0, float(np.max(np.abs(theirs))))
    if not gap <= within:
        raise BackboneError(
            f"{what}: they are {gap:.2g} apart, more than {within:g}, on {text[:40]!r}; this "
            "model cannot be exported faithfully"
        )


def _checked_cuts(build: Build, cuts: tuple[int, ...], width: int) -> tuple[int, ...]:
    """The lengths to which vectors may be cut. Raises BackboneError for one that is asked for."""
    if build.matryoshka and max(build.matryoshka) > width:
        raise BackboneError(
            f"--matryoshka {max(build.matryoshka)} is longer than the vectors, which have {width} "
            "numbers; name the lengths that the model's card names"
        )
    return shorter(cuts, width)


def _notes(encoder: "Encoder") -> tuple[str, ...]:
    if not encoder.left_out:
        return ()
    names = ", ".join(encoder.left_out[:4]) + (" …" if len(encoder.left_out) > 4 else "")
    return (f"Left out, as parts of a head that the encoder does not have: {names}.",)


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
    model = read_onnx(file)
    weights = file_sha256(file)
    taps = options.taps or _guess_taps(model)
    _tap(model, taps)
    unfold_gemms(model)
    sites = find_sites(model)
    strip_provenance(model)
    settings = TextPreprocessing(
        max_length=options.max_length, pad_id=options.pad_id, prompt=build.prompt or ""
    )
    source = Source(kind="onnx", id=file.name, weights_sha256=weights)
    if not replace:
        check_name_free(root, name, source, build.precision)
    pooled = next(each for each in model.graph.output if each.name == "pooled")
    width = int(pooled.type.tensor_type.shape.dim[-1].dim_value)
    cut = _checked_cuts(build, build.matryoshka or (), width)
    draft = Draft(model, sites, tokenizer, settings, source, cut)

    def check(backbone: Backbone) -> None:
        say("comparing with the file")
        _compare_file(backbone, file, taps)

    return pack(draft, build, root, name, say, check, replace)


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
        add_pooling(model, _width(model, "tokens"))


def _width(model: onnx.ModelProto, tensor: str) -> int:
    graph = model.graph
    for value in [*graph.output, *graph.value_info]:
        if value.name == tensor and value.type.tensor_type.shape.dim:
            width = value.type.tensor_type.shape.dim[-1].dim_value
            if width > 0:
                return int(width)
    raise BackboneError(f"tensor {tensor!r} is not in the graph or has no fixed last dimension")
