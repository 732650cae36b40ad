"""PEFT folders that no adapter can be made of: refused with the file, module or setting."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy

from adapters.errors import InvalidAdapter
from backbone import Backbone, BackboneError
from tests.peft_folders import Matrix, make_modules, write_peft
from tests.tiny import INNER, WIDTH, make_tiny_backbone, write_tiny_model
from training.backbones.add import OnnxOptions, add_from_onnx
from training.backbones.packing import Build
from training.errors import InvalidPeft
from training.features import FeatureCache, Progress
from training.peft.convert import import_adapter
from training.peft.folder import read_folder
from training.peft.labels import read_labels
from training.peft.lora import read_peft

QUERY = {"layer.query": (4, WIDTH, WIDTH)}
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return make_tiny_backbone(tmp_path_factory.mktemp("home") / "backbones")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_peft(tmp_path / "peft", make_modules(QUERY))


def stage(_: str) -> Progress:
    return lambda *_: None


def zeros(*shape: int) -> Matrix:
    return np.zeros(shape, np.float32)


def refusal(folder: Path, backbone: Backbone) -> str:
    with pytest.raises((InvalidPeft, InvalidAdapter)) as refused:
        read_peft(folder, backbone.manifest)
    return str(refused.value)


def test_the_folder_before_any_attack(folder: Path, backbone: Backbone) -> None:
    assert list(read_peft(folder, backbone.manifest).lora.sites) == ["layer.query"]


def test_links_are_followed(folder: Path, backbone: Backbone, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in (CONFIG, TENSORS):
        (linked / name).symlink_to(folder / name)
    read_peft(linked, backbone.manifest)
    (linked / TENSORS).unlink()
    (linked / TENSORS).symlink_to(tmp_path / "nowhere")
    assert "has no file adapter_model.safetensors" in refusal(linked, backbone)


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_a_missing_file_or_a_folder_in_its_place(
    folder: Path, backbone: Backbone, name: str
) -> None:
    (folder / name).unlink()
    assert f"has no file {name}" in refusal(folder, backbone)
    (folder / name).mkdir()
    assert f"has no file {name}" in refusal(folder, backbone)
    assert "is no folder" in refusal(folder / "none", backbone)


def test_a_pickle_is_never_opened(folder: Path, backbone: Backbone) -> None:
    (folder / TENSORS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(print))
    assert "is a pickle and can run code" in refusal(folder, backbone)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b'{"peft_type": "LORA"', "it is not JSON"),
        (b" " * (2**20 + 1), "more than the 1048576 bytes"),
    ],
)
def test_a_broken_configuration(
    folder: Path, backbone: Backbone, content: bytes, message: str
) -> None:
    (folder / CONFIG).write_bytes(content)
    found = refusal(folder, backbone)
    assert message in found
    assert str(folder / CONFIG) in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: b"", "not a safetensors file"),
        (lambda raw: raw[:7], "not a safetensors file"),
        (lambda raw: raw[:40], "not a safetensors file"),
        (lambda raw: raw[:-4], "not a safetensors file"),
        (lambda raw: raw + b"more", "not a safetensors file"),
        (lambda raw: (2**40).to_bytes(8, "little") + raw[8:], "a header of 1099511627776 bytes"),
        (lambda raw: (2**64 - 1).to_bytes(8, "little") + raw[8:], "limit 4194304"),
        (lambda raw: (2**20).to_bytes(8, "little") + raw[8:], "not a safetensors file"),
        (lambda raw: raw.replace(b'"F32"', b'"F64"'), "not a safetensors file"),
        (lambda raw: raw.replace(b'"F32"', b'"I32"'), "has dtype I32; F32, F16 and BF16 are read"),
        (lambda raw: raw.replace(b"[4,8]", b"[4,9]"), "not a safetensors file"),
    ],
)
def test_broken_tensors(
    folder: Path, backbone: Backbone, change: Callable[[bytes], bytes], message: str
) -> None:
    file = folder / TENSORS
    raw, changed = file.read_bytes(), change(file.read_bytes())
    assert changed != raw
    file.write_bytes(changed)
    found = refusal(folder, backbone)
    assert message in found
    assert str(file) in found


def test_every_cut_is_refused(folder: Path, backbone: Backbone) -> None:
    raw = (folder / TENSORS).read_bytes()
    for length in range(0, len(raw), 7):
        (folder / TENSORS).write_bytes(raw[:length])
        refusal(folder, backbone)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path: Path, backbone: Backbone, bad: float) -> None:
    modules = make_modules(QUERY)
    modules["layer.query"][1][3, 1] = bad
    folder = write_peft(tmp_path / "peft", modules)
    found = refusal(folder, backbone)
    assert "layer.query.lora_B.weight' has values that are NaN or infinite" in found


@pytest.mark.parametrize("alpha", [1e40, 1e308])
def test_a_scale_that_overflows(tmp_path: Path, backbone: Backbone, alpha: float) -> None:
    folder = write_peft(tmp_path / "peft", make_modules(QUERY), lora_alpha=alpha)
    assert "lora_B is too large once it is scaled" in refusal(folder, backbone)


@pytest.mark.parametrize("missing", ["A", "B"])
def test_one_factor_without_the_other(folder: Path, backbone: Backbone, missing: str) -> None:
    tensors = safetensors.numpy.load_file(folder / TENSORS)
    del tensors[f"base_model.model.layer.query.lora_{missing}.weight"]
    safetensors.numpy.save_file(tensors, folder / TENSORS)
    assert f"module 'layer.query' has no lora_{missing}" in refusal(folder, backbone)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((4, 8), (8, 3), "has lora_A [4, 8] and lora_B [8, 3]; with the rank 4"),
        ((3, 8), (8, 3), "has lora_A [3, 8] and lora_B [8, 3]; with the rank 4"),
        ((4, 8, 1), (8, 4), "has lora_A [4, 8, 1]"),
        ((4,), (8, 4), "has lora_A [4]"),
        ((0, 8), (8, 0), "has lora_A [0, 8]"),
        ((4, 16), (8, 4), "goes from width 16 to 8; the backbone's goes from 8 to 8"),
        ((4, 8), (9, 4), "goes from width 8 to 9; the backbone's goes from 8 to 8"),
        ((4, 0), (8, 4), "goes from width 0 to 8"),
    ],
)
def test_wrong_shapes(
    tmp_path: Path, backbone: Backbone, a: tuple[int, ...], b: tuple[int, ...], message: str
) -> None:
    folder = write_peft(tmp_path / "peft", {"layer.query": (zeros(*a), zeros(*b))})
    assert message in refusal(folder, backbone)


def test_a_rank_over_the_limit(tmp_path: Path, backbone: Backbone) -> None:
    folder = write_peft(tmp_path / "a", make_modules({"layer.query": (65, WIDTH, WIDTH)}), r=65)
    assert "has rank 65; an adapter has at most 64" in refusal(folder, backbone)
    ranks = {"layer.query": (64, WIDTH, WIDTH), "layer.up": (1, WIDTH, INNER)}
    folder = write_peft(tmp_path / "b", make_modules(ranks), rank_pattern={"query": 64}, r=1)
    assert read_peft(folder, backbone.manifest).lora.rank == 64


@pytest.mark.parametrize(
    ("others", "named"),
    [
        ({"embedding.lora_embedding_A": zeros(4, 9)}, "embedding.lora_embedding_A"),
        ({"layer.query.lora_magnitude_vector": zeros(8)}, "layer.query.lora_magnitude_vector"),
        ({"layer.query.lora_B.bias": zeros(8)}, "layer.query.lora_B.bias"),
        ({"layer.query.bias": zeros(8)}, "layer.query.bias"),
        ({"embedding.weight": zeros(97, 8)}, "embedding.weight"),
        ({"lay.conv.lora_A.weight": zeros(4, 8, 3)}, "lay.conv"),
        ({"query.lora_A.weight.lora_A.weight": zeros(4, 8)}, "query.lora_A.weight"),
        ({"..lora_A.weight": zeros(4, 8)}, "'.'"),
        ({"classifier.lora_magnitude_vector": zeros(4)}, "classifier.lora_magnitude_vector"),
    ],
)
def test_what_no_lora_of_a_backbone_is_gets_named(
    tmp_path: Path, backbone: Backbone, others: dict[str, Matrix], named: str
) -> None:
    folder = write_peft(tmp_path / "peft", make_modules(QUERY), others)
    found = refusal(folder, backbone)
    assert "has weights that LoRA of backbone tiny cannot have: " in found
    assert named in found


def test_a_tensor_without_pefts_prefix(folder: Path, backbone: Backbone) -> None:
    tensors = safetensors.numpy.load_file(folder / TENSORS)
    tensors["layer.query.lora_A.weight"] = zeros(4, 8)
    safetensors.numpy.save_file(tensors, folder / TENSORS)
    assert "cannot have: 'layer.query.lora_A.weight'" in refusal(folder, backbone)


def test_many_unknown_modules_are_named_up_to_a_bound(tmp_path: Path, backbone: Backbone) -> None:
    shapes = {f"decoder.{number:02}.k": (4, WIDTH, WIDTH) for number in range(25)}
    folder = write_peft(tmp_path / "peft", make_modules({**QUERY, **shapes}))
    found = refusal(folder, backbone)
    assert [f"'decoder.{number:02}.k'" in found for number in range(25)] == [True] * 10 + [
        False
    ] * 15
    assert "and 15 more" in found


def test_a_factor_that_stands_there_twice(folder: Path, backbone: Backbone) -> None:
    tensors = safetensors.numpy.load_file(folder / TENSORS)
    tensors["base_model.model.layer.query.lora_A.default.weight"] = zeros(4, 8)
    safetensors.numpy.save_file(tensors, folder / TENSORS)
    assert "cannot have: 'base_model.model.layer.query.lora_A" in refusal(folder, backbone)


def test_a_backbone_without_a_graph_for_the_sites(folder: Path, tmp_path: Path) -> None:
    value = make_tiny_backbone(tmp_path / "home", "value", Build(lora=["value"]))
    with_head = write_peft(folder, make_modules(QUERY), HEAD, task_type="TOKEN_CLS")
    with pytest.raises(BackboneError, match=r"no LoRA graph with the sites \['layer.query'\]"):
        import_adapter(with_head, value, FeatureCache(tmp_path / "cache"), stage, TAGS)


def test_a_backbone_without_the_heads_feature(folder: Path, tmp_path: Path) -> None:
    options = OnnxOptions(max_length=16, taps={"pooled": "sentence"})
    model = onnx.load(write_tiny_model(tmp_path))
    model.graph.node.append(
        onnx.helper.make_node("Gather", ["inner", "place"], ["sentence"], axis=1)
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0), "place"))
    onnx.save(model, tmp_path / "model.onnx")
    added = add_from_onnx(
        tmp_path / "model.onnx", options, tmp_path / "home", "first", lambda _: None
    )
    folder = write_peft(folder, make_modules(QUERY), HEAD, task_type="TOKEN_CLS")
    assert "takes tokens, which backbone first lacks" in import_refusal(added.backbone, folder)


def test_no_module_at_all(tmp_path: Path, backbone: Backbone) -> None:
    assert "no LoRA at any site" in refusal(write_peft(tmp_path / "peft", {}), backbone)


def test_two_modules_that_would_be_one_site(tmp_path: Path, backbone: Backbone) -> None:
    twice = {**QUERY, "bert.layer.query": (4, WIDTH, WIDTH)}
    folder = write_peft(tmp_path / "a", make_modules(twice))
    assert "cannot have: 'layer.query'" in refusal(folder, backbone)
    two = {"encoder.layer.query": (4, WIDTH, WIDTH), "decoder.layer.value": (4, WIDTH, WIDTH)}
    folder = write_peft(tmp_path / "b", make_modules(two))
    assert "under several models: 'decoder', 'encoder'" in refusal(folder, backbone)


@pytest.mark.parametrize("prefix", ["", "bert.", "model.", "0.auto_model."])
def test_a_prefix_is_taken_off(tmp_path: Path, backbone: Backbone, prefix: str) -> None:
    shapes = {f"{prefix}{name}": shape for name, shape in QUERY.items()}
    found = read_peft(write_peft(tmp_path / "peft", make_modules(shapes)), backbone.manifest)
    assert list(found.lora.sites) == ["layer.query"]
    assert f"{found.family}." == (prefix or ".")


def test_a_site_may_have_the_longer_name(tmp_path: Path, backbone: Backbone) -> None:
    folder = write_peft(tmp_path / "peft", make_modules({"query": (4, WIDTH, WIDTH)}))
    assert list(read_peft(folder, backbone.manifest).lora.sites) == ["layer.query"]
    folder = write_peft(tmp_path / "part", make_modules({"uery": (4, WIDTH, WIDTH)}))
    assert "cannot have: 'uery'" in refusal(folder, backbone)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_read_exactly(tmp_path: Path, backbone: Backbone, kind: str) -> None:
    import torch
    from safetensors.torch import save_file

    folder = write_peft(tmp_path / "peft", make_modules(QUERY))
    halves = {
        name: torch.from_numpy(value).to(getattr(torch, kind))
        for name, value in safetensors.numpy.load_file(folder / TENSORS).items()
    }
    save_file(halves, folder / TENSORS)
    for name, value in read_folder(folder).tensors.items():
        assert np.array_equal(value, halves[name].float().numpy())


# The head that a folder carries.
HEAD = {"classifier.weight": zeros(3, WIDTH), "classifier.bias": zeros(3)}
DISTIL = {
    **HEAD,
    "pre_classifier.weight": zeros(WIDTH, WIDTH),
    "pre_classifier.bias": zeros(WIDTH),
}
TAGS = ("O", "B-x", "I-x")


def import_refusal(backbone: Backbone, folder: Path, labels: tuple[str, ...] | None = TAGS) -> str:
    with pytest.raises((InvalidPeft, InvalidAdapter)) as refused:
        import_adapter(folder, backbone, FeatureCache(folder / "cache"), stage, labels)
    return str(refused.value)


@pytest.mark.parametrize(
    ("head", "kind", "message"),
    [
        ({}, "TOKEN_CLS", "has LoRA and no head; fit a head on rows of yours"),
        (HEAD, None, "has the task_type None: say with --task"),
        (HEAD, "CAUSAL_LM", "has the task_type 'CAUSAL_LM': say with --task"),
        (HEAD, "SEQ_CLS", "stands behind layers of the base model (such as BERT's pooler"),
        ({"score.weight": zeros(3, WIDTH)}, "SEQ_CLS", "stands behind layers of the base model"),
        ({**HEAD, "pooler.dense.weight": zeros(8, 8)}, "SEQ_CLS", "no head of an adapter computes"),
        (
            {"classifier.dense.weight": zeros(8, 8), "classifier.out_proj.weight": zeros(3, 8)},
            "SEQ_CLS",
            "'classifier.dense.weight', 'classifier.out_proj.weight': no head of an adapter",
        ),
        (DISTIL, "TOKEN_CLS", "no head of an adapter computes that"),
        (DISTIL, "SEQ_CLS", "takes the first token's vector, and backbone tiny pools otherwise"),
        ({"classifier.bias": zeros(3)}, "TOKEN_CLS", "no head of an adapter computes that"),
        ({**HEAD, "classifier.bias": zeros(4)}, "TOKEN_CLS", "[3, 8] and classifier.bias [4]"),
        ({"classifier.weight": zeros(3)}, "TOKEN_CLS", "classifier.weight is [3]"),
        ({"classifier.weight": zeros(3, 9)}, "TOKEN_CLS", "'head.weight' has shape [3, 9]"),
        ({"classifier.weight": zeros(4, 8)}, "TOKEN_CLS", "has 4 outputs, and 3 labels are named"),
        (  # which may stand before a feature that is tapped in an ONNX file
            {**HEAD, "pooler.lora_A.weight": zeros(4, 8), "pooler.lora_B.weight": zeros(8, 4)},
            "TOKEN_CLS",
            "backbone tiny cannot have: 'pooler'",
        ),
    ],
)
def test_heads_that_cannot_be_taken(
    tmp_path: Path, backbone: Backbone, head: dict[str, Matrix], kind: str | None, message: str
) -> None:
    folder = write_peft(tmp_path / "peft", make_modules(QUERY), head, task_type=kind)
    assert message in import_refusal(backbone, folder)


def test_a_classifier_behind_a_head_that_stayed_in_the_base(
    tmp_path: Path, backbone: Backbone
) -> None:
    modules = make_modules({"model.layer.query": (4, WIDTH, WIDTH)})
    folder = write_peft(tmp_path / "peft", modules, HEAD, task_type="TOKEN_CLS")
    assert "as ModernBERT's does" in import_refusal(backbone, folder)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("O", "B-x"), "has 3 outputs, and 2 labels are named"),
        (("O", "B-x", "B-x"), "labels are distinct"),
        (("B-y", "B-x", "I-x"), "tagging needs 'O'"),
        (("O", "x", "I-x"), "'x' is no tag"),
        (("O", "B-x", ""), "is empty or has space around it"),
        (None, "does not say what its 3 outputs mean"),
    ],
)
def test_labels_that_do_not_fit(
    tmp_path: Path, backbone: Backbone, labels: tuple[str, ...] | None, message: str
) -> None:
    folder = write_peft(tmp_path / "peft", make_modules(QUERY), HEAD, task_type="TOKEN_CLS")
    assert message in import_refusal(backbone, folder, labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config.json cannot be read"),
        ('{"id2label": {"0": "O", "2": "B-x", "1": 3}}', "no label for each number from 0"),
        ('{"id2label": {"0": "O", "1": "B-x", "3": "I-x"}}', "no label for each number from 0"),
        ('{"id2label": ["O"]}', "no label for each number from 0"),
        ("[]", "does not say what its 3 outputs mean"),
        ('{"id2label": {"0": "O", "1": "B-x"}}', "has 3 outputs, and 2 labels are named"),
    ],
)
def test_a_models_configuration_with_no_labels(
    tmp_path: Path, backbone: Backbone, content: str, message: str
) -> None:
    folder = write_peft(tmp_path / "peft", make_modules(QUERY), HEAD, task_type="TOKEN_CLS")
    (folder / "config.json").write_text(content)
    assert message in import_refusal(backbone, folder, None)


def test_a_file_of_labels_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(b"\xff\xff")
    with pytest.raises(InvalidPeft, match="it cannot be read"):
        read_labels(str(tmp_path / "labels"))
    with pytest.raises(InvalidPeft, match="it cannot be read"):
        read_labels("x," * 5000)


def test_padding_with_zeros_is_all_that_mixed_ranks_change(
    tmp_path: Path, backbone: Backbone
) -> None:
    shapes = {"layer.query": (2, WIDTH, WIDTH), "layer.up": (5, WIDTH, INNER)}
    modules = make_modules(shapes)
    patterns = {"rank_pattern": {"up": 5}, "alpha_pattern": {"up": 10}}
    folder = write_peft(tmp_path / "peft", modules, None, r=2, lora_alpha=3, **patterns)
    found = read_peft(folder, backbone.manifest)
    sites = found.lora.sites
    assert found.lora.rank == 5
    a, b = modules["layer.query"]
    np.testing.assert_array_equal(sites["layer.query"].a, np.vstack([a, zeros(3, WIDTH)]))
    np.testing.assert_array_equal(sites["layer.query"].b, np.vstack([b.T * 1.5, zeros(3, WIDTH)]))
    a, b = modules["layer.up"]
    np.testing.assert_array_equal(sites["layer.up"].a, a)
    np.testing.assert_array_equal(sites["layer.up"].b, b.T * 2)
