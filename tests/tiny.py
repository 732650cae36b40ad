"""A tiny real backbone: an ONNX graph and a tokenizer of our own, made in milliseconds."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from backbone import Backbone
from training.backbones import OnnxOptions, add_from_onnx

WIDTH = 8
MAX_LENGTH = 16
# The printable ASCII characters, one token each.
_VOCABULARY = {"[PAD]": 0, "[UNK]": 1} | {chr(code): code - 30 for code in range(32, 127)}


def tiny_weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The embedding and the matrix W."""
    random = np.random.default_rng(7)
    embedding = random.standard_normal((len(_VOCABULARY), WIDTH)).astype(np.float32)
    return embedding, random.standard_normal((WIDTH, WIDTH)).astype(np.float32)


def write_tiny_model(folder: Path, *, leaky: bool = False) -> Path:
    """`model.onnx` and `tokenizer.json` in `folder`: tokens = tanh(embedding[ids] W).

    `leaky` subtracts the batch's mean, so that neighbours change a row.
    """
    embedding, weight = tiny_weights()
    node = helper.make_node
    nodes = [
        node("Gather", ["embedding", "input_ids"], ["embedded"]),
        node("MatMul", ["embedded", "weight"], ["mixed"]),
        node("Tanh", ["mixed"], ["inner"]),
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
    weights = [
        numpy_helper.from_array(embedding, "embedding"),
        numpy_helper.from_array(weight, "weight"),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(folder / "model.onnx"))
    tokenizer = Tokenizer(models.WordLevel(_VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "model.onnx"


def make_tiny_backbone(root: Path, name: str = "tiny") -> Backbone:
    """Add the tiny model under `root`, through the same door as any ONNX file."""
    source = root.parent / f"{name}-source"
    source.mkdir(parents=True)
    file = write_tiny_model(source)
    return add_from_onnx(file, OnnxOptions(max_length=MAX_LENGTH), root, name, lambda _: None)
