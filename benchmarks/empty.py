"""A backbone that computes next to nothing, so that what is measured is all around it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from headstock.commands.common import settings
from headstock.output import note
from training.backbones.add import OnnxOptions, add_from_onnx
from training.backbones.packing import Build

NAME = "empty"
WIDTH = 8
_WORDS = 1000


@contextmanager
def empty_backbone() -> Iterator[None]:
    """It is there within this: one table that a token's vector is read from."""
    root = settings().backbones_folder
    with tempfile.TemporaryDirectory() as folder:
        file, build = _write(Path(folder)), Build(lora=["none"])
        options = OnnxOptions(max_length=64)
        add_from_onnx(file, options, root, NAME, note, replace=True, build=build)
    try:
        yield
    finally:
        shutil.rmtree(root / NAME)


def _write(folder: Path) -> Path:
    table = np.random.default_rng(0).standard_normal((_WORDS, WIDTH)).astype(np.float32)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, ["n", "t", WIDTH]
    )
    node = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    weights = [numpy_helper.from_array(table, "table")]
    graph = helper.make_graph([node], NAME, inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(folder / "model.onnx"))
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {f"w{word}": word for word in range(2, _WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "model.onnx"
