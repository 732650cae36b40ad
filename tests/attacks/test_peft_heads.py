"""Heads and labels of PEFT folders that no adapter can have: refused with the reason."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from adapters.errors import InvalidAdapter
from backbone import Backbone, BackboneError
from tests.attacks.support import QUERY, zeros
from tests.peft_folders import Matrix, make_modules, write_peft
from tests.tiny import WIDTH, make_tiny_backbone, write_tiny_model
from training.backbones.add import OnnxOptions, add_from_onnx
from training.backbones.packing import Build
from training.errors import InvalidPeft
from training.features import FeatureCache, Progress
from training.peft.convert import import_adapter
from training.peft.labels import read_labels

# The head that a folder carries.
HEAD = {"classifier.weight": zeros(3, WIDTH), "classifier.bias": zeros(3)}
DISTIL = {
    **HEAD,
    "pre_classifier.weight": zeros(WIDTH, WIDTH),
    "pre_classifier.bias": zeros(WIDTH),
}
TAGS = ("O", "B-x", "I-x")


def stage(_: str) -> Progress:
    return lambda *_: None


def import_refusal(backbone: Backbone, folder: Path, labels: tuple[str, ...] | None = TAGS) -> str:
    with pytest.raises((InvalidPeft, InvalidAdapter)) as refused:
        import_adapter(folder, backbone, FeatureCache(folder / "cache"), stage, labels)
    return str(refused.value)


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
