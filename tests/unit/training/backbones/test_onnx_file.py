"""ONNX files as people export them: other numbers, other ids, older opsets."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from backbone import Backbone, BackboneError
from tests.tiny import WIDTH, write_tiny_model
from training.backbones.add import OnnxOptions, add_from_onnx
from training.backbones.packing import DEFAULT, Build

TEXT = "where is my order?"


def add(file: Path, name: str, build: Build = DEFAULT) -> Backbone:
    root, options = file.parent / "backbones", OnnxOptions(max_length=32)
    return add_from_onnx(file, options, root, name, lambda _: None, build=build).backbone


def pooled(backbone: Backbone) -> NDArray[np.float32]:
    return backbone.run([backbone.preprocess(TEXT)], ["pooled"])["pooled"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path)


def change(file: Path, model: onnx.ModelProto) -> None:
    onnx.save(model, str(file))


def half(model: onnx.ModelProto) -> None:
    """All weights and the output as float16, with a cast inside that says so."""
    for each in model.graph.initializer:
        value = numpy_helper.to_array(each).astype(np.float16)
        each.CopyFrom(numpy_helper.from_array(value, each.name))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    last = model.graph.node[-1]
    last.op_type = "Cast"
    last.attribute.append(helper.make_attribute("to", TensorProto.FLOAT16))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_half_precision_is_computed_in_float32(precision: str, file: Path) -> None:
    expected = pooled(add(file, "whole"))
    model = onnx.load(str(file))
    half(model)
    change(file, model)
    build = Build("int8" if precision == "int8" else "fp32")
    backbone = add(file, "half", build)
    assert backbone.manifest.lora
    assert np.abs(pooled(backbone) - expected).max() < (0.01 if precision == "fp32" else 0.1)


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.FLOAT, TensorProto.BOOL])
def test_ids_and_masks_of_other_kinds_are_cast(kind: int, file: Path) -> None:
    expected = pooled(add(file, "whole"))
    model = onnx.load(str(file))
    for given in model.graph.input:
        is_mask = given.name == "attention_mask"
        given.type.tensor_type.elem_type = kind if is_mask else TensorProto.INT32
    graph = model.graph  # the mask is read, so that its kind matters
    graph.node.append(
        helper.make_node("Cast", ["attention_mask"], ["numbers"], to=TensorProto.FLOAT)
    )
    graph.node.append(helper.make_node("Unsqueeze", ["numbers", "last"], ["column"]))
    graph.node.append(helper.make_node("Mul", ["last_hidden_state", "column"], ["masked"]))
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), "last"))
    graph.output[0].name = "token_embeddings"
    graph.node.append(helper.make_node("Identity", ["masked"], ["token_embeddings"]))
    change(file, model)
    assert np.array_equal(pooled(add(file, "other")), expected)


@pytest.mark.parametrize("opset", [11, 12])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_older_opsets_are_brought_up(opset: int, precision: str, file: Path) -> None:
    expected = pooled(add(file, "newer"))
    model = onnx.load(str(file))
    model.opset_import[0].version, model.ir_version = opset, 6
    model.graph.node[-1].output[0] = "inner_out"
    node = helper.make_node  # axes are attributes until opset 13
    model.graph.node.append(node("Unsqueeze", ["inner_out"], ["deeper"], axes=[0]))
    model.graph.node.append(node("Squeeze", ["deeper"], ["last_hidden_state"], axes=[0]))
    change(file, model)
    backbone = add(file, "older", Build("int8" if precision == "int8" else "fp32"))
    assert np.abs(pooled(backbone) - expected).max() < (1e-6 if precision == "fp32" else 0.1)


def test_an_opset_that_cannot_be_brought_up_is_refused(file: Path) -> None:
    model = onnx.load(str(file))
    model.opset_import[0].version = 11
    model.graph.node[0].op_type = "NoSuchOperator"
    change(file, model)
    with pytest.raises(BackboneError, match=r"opset 11, and cannot be brought to 18: export it"):
        add(file, "x")


def test_a_graph_without_a_mask_and_weights_among_its_inputs(file: Path) -> None:
    expected = pooled(add(file, "whole"))
    model = onnx.load(str(file))
    del model.graph.input[1]
    for each in model.graph.initializer:
        info = helper.make_tensor_value_info(each.name, each.data_type, list(each.dims))
        model.graph.input.append(info)
    change(file, model)
    backbone = add(file, "bare")
    assert np.array_equal(pooled(backbone), expected)
    assert backbone.manifest.width("pooled") == WIDTH
    assert len(backbone.manifest.sites) == 4


def test_fixed_lengths_are_refused_with_what_to_do(file: Path) -> None:
    model = onnx.load(str(file))
    for given in model.graph.input:
        for dim, value in zip(given.type.tensor_type.shape.dim, (1, 128), strict=True):
            dim.Clear()
            dim.dim_value = value
    change(file, model)
    with pytest.raises(BackboneError, match=r"input_ids of .* fixed shape \[1, 128\]; export it"):
        add(file, "x")


def test_a_graph_that_is_not_what_its_file_computes_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        model.graph.node[3].op_type = "Relu"

    monkeypatch.setattr("training.backbones.onnx_file._take_int64", spoil)
    with pytest.raises(BackboneError, match="'tokens' differs from the file's: they are"):
        add(file, "x")
