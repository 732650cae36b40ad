"""A tiny real backbone: an ONNX graph and a tokenizer of our own, made in milliseconds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from backbone import Backbone
from backbone.files import file_sha256
from backbone.manifest import MANIFEST_FILE, Source, TextPreprocessing
from backbone.package import load_backbone, read_manifest
from backbone.surgery.features import expose, keep_outputs, strip_provenance
from backbone.surgery.pooling import add_layers, add_pooling
from backbone.surgery.sites import find_sites
from training.backbones.add import OnnxOptions, add_from_onnx
from training.backbones.packing import DEFAULT, Build, Draft, pack

Weight = NDArray[np.float32]
WIDTH = 8
MAX_LENGTH = 16
MARKED = "marked"  # the name of the one with special tokens
LAYERS = ("embedded", "mixed", "tokens")
# The printable ASCII characters, one token each.
_VOCABULARY = {"[PAD]": 0, "[UNK]": 1} | {chr(code): code - 30 for code in range(32, 127)}


INNER = 24
SITES = {
    "layer.query": (WIDTH, WIDTH),
    "layer.value": (WIDTH, WIDTH),
    "layer.up": (WIDTH, INNER),
    "layer.down": (INNER, WIDTH),
}


def tiny_weights() -> dict[str, NDArray[np.float32]]:
    """All weights by name; "layer.down.weight" is kept transposed, as torch does."""
    random = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {"embedding": (len(_VOCABULARY), WIDTH)}
    shapes |= {f"{site}.weight": shape for site, shape in SITES.items()}
    shapes["layer.down.weight"] = (WIDTH, INNER)
    shapes["layer.up.bias"] = (INNER,)
    return {
        name: (random.standard_normal(shape) / np.sqrt(WIDTH)).astype(np.float32)
        for name, shape in shapes.items()
    } | {"embedding": random.standard_normal(shapes["embedding"]).astype(np.float32)}


def write_tiny_model(folder: Path, *, leaky: bool = False) -> Path:
    """`model.onnx` and `tokenizer.json` in `folder`, with an embedding and four matrix products.

    e = embedding[ids]; m = tanh(e Query) + e Value; tokens = tanh(m Up + bias) Down.
    `leaky` subtracts the batch's mean, so that neighbours change a row.
    """
    node = helper.make_node
    nodes = [
        node("Gather", ["embedding", "input_ids"], ["embedded"]),
        node("MatMul", ["embedded", "layer.query.weight"], ["query"]),
        node("MatMul", ["embedded", "layer.value.weight"], ["value"]),
        node("Tanh", ["query"], ["active"]),
        node("Add", ["active", "value"], ["mixed"]),
        node("MatMul", ["mixed", "layer.up.weight"], ["up"]),
        node("Add", ["up", "layer.up.bias"], ["biased"]),
        node("Tanh", ["biased"], ["wide"]),
        node("Transpose", ["layer.down.weight"], ["down"], perm=[1, 0]),
        node("MatMul", ["wide", "down"], ["inner"]),
    ]
    if leaky:
        nodes += [
            node("ReduceMean", ["inner"], ["mean"], keepdims=0),
            node("Sub", ["inner", "mean"], ["last_hidden_state"]),
        ]
    else:
        nodes.append(node("Identity", ["inner"], ["last_hidden_state"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, ["n", "t", WIDTH]
    )
    weights = [numpy_helper.from_array(value, name) for name, value in tiny_weights().items()]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(folder / "model.onnx"))
    tokenizer = Tokenizer(models.WordLevel(_VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "model.onnx"


def change_weight(model: onnx.ModelProto, name: str, change: Callable[[Weight], Weight]) -> None:
    """Put what `change` makes of an initializer in its place."""
    found = next(each for each in model.graph.initializer if each.name == name)
    found.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(found)), name))


def with_gelu(model: onnx.ModelProto) -> None:
    """Each Tanh becomes a Gelu."""
    for node in model.graph.node:
        if node.op_type == "Tanh":
            node.op_type = "Gelu"


def make_layered_backbone(root: Path, name: str = "tiny", build: Build = DEFAULT) -> Backbone:
    """The tiny model with `LAYERS` as a feature, exported as an encoder is."""
    source = root.parent / f"{name}-source"
    source.mkdir(parents=True)
    draft = layered_draft(write_tiny_model(source))
    return pack(draft, build, root, name, lambda _: None, lambda _: None, replace=False).backbone


def layered_draft(file: Path, inner: Sequence[str] = LAYERS[:-1]) -> Draft:
    """A tiny model's graph with these tensors and `tokens` as layers."""
    model = onnx.shape_inference.infer_shapes(onnx.load(str(file)))
    expose(model, "last_hidden_state", "tokens", ("n", "t", WIDTH))
    sites = find_sites(model)
    strip_provenance(model)
    add_pooling(model, WIDTH)
    add_layers(model, inner, WIDTH)
    keep_outputs(model, ("tokens", "pooled", "layers"))
    settings = TextPreprocessing(max_length=MAX_LENGTH, pad_id=0)
    source = Source(kind="folder", id=file.parent.name, weights_sha256=file_sha256(file))
    return Draft(model, sites, file.parent / "tokenizer.json", settings, source)


def make_tiny_backbone(root: Path, name: str = "tiny", build: Build = DEFAULT) -> Backbone:
    """Add the tiny model under `root`, through the same door as any ONNX file."""
    source = root.parent / f"{name}-source"
    source.mkdir(parents=True)
    file = write_tiny_model(source)
    options = OnnxOptions(max_length=MAX_LENGTH)
    return add_from_onnx(file, options, root, name, lambda _: None, build=build).backbone


def make_marked_backbone(root: Path) -> Backbone:
    """The tiny backbone with special tokens at the ends of texts, of the Matryoshka kind.

    Its manifest names prompts, as one of a folder of sentence-transformers does.
    """
    source = root.parent / f"{MARKED}-source"
    source.mkdir()
    file = write_tiny_model(source)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.add_special_tokens(["{", "}"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="{:0 $A:0 }:0", special_tokens=[(mark, _VOCABULARY[mark]) for mark in "{}"]
    )
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(source / "tokenizer.json"))
    options, build = OnnxOptions(max_length=MAX_LENGTH), Build(matryoshka=(4, 2))
    add_from_onnx(file, options, root, MARKED, lambda _: None, build=build)
    manifest = read_manifest(root / MARKED)
    settings = manifest.preprocessing.model_copy(
        update={"prompts": {"query": "q: ", "passage": "p: "}}
    )
    manifest = manifest.model_copy(update={"preprocessing": settings})
    (root / MARKED / MANIFEST_FILE).write_text(manifest.model_dump_json())
    return load_backbone(root / MARKED)
