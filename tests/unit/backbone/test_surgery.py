"""Surgery on small graphs: sites and their names, int8, weights outside."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backbone import Backbone, BackboneError, load_backbone
from backbone.surgery.features import keep_outputs
from backbone.surgery.int8 import quantise, quantise_columns
from backbone.surgery.sites import find_sites
from backbone.surgery.weights import move_weights
from tests.tiny import SITES, make_tiny_backbone, write_tiny_model
from training.backbones import quantisation
from training.backbones.add import OnnxOptions, add_from_onnx
from training.backbones.lora_targets import choose_graphs
from training.backbones.packing import Build


def model_of(nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, int]]) -> onnx.ModelProto:
    """A graph from x [n, t, 4] to y, with matrices of these shapes."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", TensorProto.FLOAT, ["n", "t", 4])],
        [info("y", TensorProto.FLOAT, ["n", "t", 4])],
        [numpy_helper.from_array(np.ones(s, np.float32), name) for name, s in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def product(x: str, weight: str, y: str, name: str = "", scopes: str = "") -> onnx.NodeProto:
    node = helper.make_node("MatMul", [x, weight], [y], name=name)
    if scopes:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    return node


@pytest.mark.parametrize(
    ("weight", "name", "scopes", "expected"),
    [
        ("a.query.weight", "", "", "a.query"),
        ("onnx::MatMul_12", "/a/layer.0/query/MatMul", "", "a.layer.0.query"),
        ("onnx::MatMul_12", "/a/query/MatMul_1", "", "a.query"),
        ("val_1", "node_MatMul_1", "['', 'model', 'model.a.query', 'linear']", "a.query"),
        ("val_1", "node_MatMul_1", "['', 'linear']", "val_1"),
        ("a b,c\n.weight", "", "", "a_b_c_"),
    ],
)
def test_a_site_is_called_as_its_module(weight: str, name: str, scopes: str, expected: str) -> None:
    model = model_of([product("x", weight, "y", name, scopes)], {weight: (4, 4)})
    assert [site.name for site in find_sites(model, "model.")] == [expected]


def test_names_are_unique_and_shapes_those_of_the_product() -> None:
    nodes = [
        product("x", "w", "a"),
        product("a", "w", "b"),
        helper.make_node("Transpose", ["v"], ["v_t"], perm=[1, 0]),
        product("b", "v_t", "y"),
    ]
    model = onnx.shape_inference.infer_shapes(model_of(nodes, {"w": (4, 4), "v": (4, 4)}))
    sites = find_sites(model)
    assert [(site.name, site.places) for site in sites] == [
        ("w", (("x", "a"), ("a", "b"))),
        ("v", (("b", "y"),)),
    ]
    assert all(site.takes_lora for site in sites)


def test_a_product_of_rows_without_tokens_takes_no_lora() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0, axes=[1]),
        product("mean", "w", "y"),
    ]
    model = model_of(nodes, {"w": (4, 4)})
    model.opset_import[0].version = 17
    (site,) = find_sites(onnx.shape_inference.infer_shapes(model))
    assert not site.takes_lora


def test_what_no_output_needs_is_dropped() -> None:
    nodes = [product("x", "w", "y"), product("x", "v", "other")]
    model = model_of(nodes, {"w": (4, 4), "v": (4, 4)})
    keep_outputs(model, ("y",))
    assert [node.output[0] for node in model.graph.node] == ["y"]
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]


NAMES = ("0.query", "0.key", "0.value", "0.dense", "1.query", "1.key", "1.value", "1.dense")
PAIR = tuple(name for name in NAMES if name.endswith(("query", "value")))


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (None, (PAIR, NAMES)),
        (["none"], ()),
        (["all"], (NAMES,)),
        (["query,value"], (PAIR,)),
        (["1.key"], (("1.key",),)),
        (["all", "query, value", "value,query"], (PAIR, NAMES)),
        (["0.key", "1.dense"], (("0.key",), ("1.dense",), ("0.key", "1.dense"))),
    ],
)
def test_targets_are_endings_of_names(
    targets: list[str] | None, expected: tuple[tuple[str, ...], ...]
) -> None:
    assert choose_graphs(NAMES, targets) == expected


def test_sites_of_other_families_and_none_at_all() -> None:
    assert choose_graphs(("a.q_lin", "a.v_lin", "a.out_lin"), None)[0] == ("a.q_lin", "a.v_lin")
    assert choose_graphs(("a", "b"), None) == (("a", "b"),)
    assert choose_graphs((), None) == ()


@pytest.mark.parametrize("targets", [["quer"], ["query,nothing"], ["all,none"], [""]])
def test_a_target_that_nothing_matches_names_what_there_is(targets: list[str]) -> None:
    with pytest.raises(BackboneError, match="its sites end with: dense, key, query, value"):
        choose_graphs(NAMES, targets)


def test_columns_are_quantised_each_by_its_largest() -> None:
    matrix = np.array([[1, 0, -300], [-2, 0, 0.001]], np.float32)
    values, scales = quantise_columns(matrix)
    assert values.tolist() == [[64, 0, -127], [-127, 0, 0]]
    assert scales == pytest.approx([2 / 127, 1, 300 / 127])


@pytest.mark.parametrize("version", [17, 20])
def test_the_int8_graph_is_near_to_fp32(version: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    file = write_tiny_model(source)
    model = onnx.load(str(file))
    model.opset_import[0].version = version
    onnx.save(model, str(file))
    options = OnnxOptions(max_length=16)
    fp32, int8 = (
        add_from_onnx(file, options, tmp_path / "b", kind, lambda _: None, False, Build(kind))
        for kind in ("fp32", "int8")
    )
    assert fp32.int8 is None
    assert int8.int8 is not None
    assert int8.int8.cosine_minimum > 0.99
    assert int8.int8.speed > 0
    assert int8.backbone.manifest.precision == "int8"
    assert int8.backbone.manifest.sites == fp32.backbone.manifest.sites
    assert int8.backbone.digest != fp32.backbone.digest


def test_activations_are_quantised_once_for_all_that_read_them(tmp_path: Path) -> None:
    model = onnx.load(str(write_tiny_model(tmp_path)))
    quantise(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulIntegerToFloat") == len(SITES)
    assert kinds.count("ReduceMax") == len(SITES) - 1
    assert "MatMul" not in kinds
    assert not [tensor for tensor in model.graph.initializer if tensor.name in SITES]


def test_a_graph_without_products_is_not_quantised(tmp_path: Path) -> None:
    file = write_tiny_model(tmp_path)
    options = OnnxOptions(taps={"tokens": "embedded"}, max_length=16)
    root = tmp_path / "backbones"
    with pytest.raises(BackboneError, match=r"nothing to quantise.*--precision fp32"):
        add_from_onnx(file, options, root, "x", lambda _: None, False, Build("int8"))
    assert not root.exists()


def test_int8_that_is_far_from_fp32_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "LOWEST_COSINE", 1.5)
    with pytest.raises(BackboneError, match=r"away from fp32: cosine .* --precision fp32"):
        make_tiny_backbone(tmp_path / "backbones", build=Build("int8"))
    assert list((tmp_path / "backbones").iterdir()) == []


def test_large_weights_move_out_and_come_back_the_same(tmp_path: Path) -> None:
    model = onnx.load(str(write_tiny_model(tmp_path)))
    moved = copy.deepcopy(model)
    move_weights(moved, tmp_path / "weights.bin")
    outside = [tensor.name for tensor in moved.graph.initializer if tensor.external_data]
    assert outside == ["embedding"]
    (tmp_path / "moved.onnx").write_bytes(moved.SerializeToString())
    again = onnx.load(str(tmp_path / "moved.onnx"))
    for one, other in zip(model.graph.initializer, again.graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))


@pytest.fixture
def tiny(tmp_path: Path) -> Backbone:
    return make_tiny_backbone(tmp_path / "backbones")


def test_every_graph_and_the_weights_are_in_the_manifest(tiny: Backbone) -> None:
    files = {"model.onnx", "lora-1.onnx", "lora-2.onnx", "weights.bin", "tokenizer.json"}
    assert set(tiny.manifest.files) == files


@pytest.mark.parametrize("file", ["weights.bin", "lora-2.onnx"])
def test_a_file_that_the_manifest_leaves_out_is_refused(
    file: str, tiny: Backbone, tmp_path: Path
) -> None:
    folder = tmp_path / "backbones" / "tiny"
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BackboneError, match=f"{file} is not the file that was added"):
        load_backbone(folder)
    (folder / file).unlink()
    with pytest.raises(BackboneError, match=f"'{file}' of the manifest is missing"):
        load_backbone(folder)


def test_a_graph_without_a_digest_is_refused(tiny: Backbone, tmp_path: Path) -> None:
    folder = tmp_path / "backbones" / "tiny"
    files = {name: digest for name, digest in tiny.manifest.files.items() if "lora-1" not in name}
    manifest = tiny.manifest.model_copy(update={"files": files})
    (folder / "backbone.json").write_text(manifest.model_dump_json())
    with pytest.raises(BackboneError, match=r"gives no sha256 for \['lora-1.onnx'\]"):
        load_backbone(folder)
