import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import backbone
from backbone import (
    Backbone,
    BackboneError,
    BackboneNotFound,
    find_backbone,
    list_backbones,
    load_backbone,
)
from backbone.errors import BackboneExists
from tests.tiny import WIDTH, make_tiny_backbone, tiny_weights, write_tiny_model
from training.backbones.add import OnnxOptions, add_from_folder, add_from_onnx
from training.backbones.packing import Build


def silent(_: str) -> None:
    pass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "backbones"


def test_an_onnx_file_becomes_a_backbone(root: Path) -> None:
    backbone = make_tiny_backbone(root)
    assert backbone.manifest.width("pooled") == WIDTH
    assert backbone.manifest.features["tokens"].dims == ("n", "t", WIDTH)
    assert [manifest.name for manifest in list_backbones(root)] == ["tiny"]
    assert load_backbone(find_backbone(root, "tiny")).digest == backbone.digest


def test_pooled_is_the_mean_of_the_tokens_that_are_no_padding(root: Path) -> None:
    backbone = make_tiny_backbone(root)
    rows = [backbone.preprocess(text) for text in ("a", "abc", "a longer text")]
    features = backbone.run(rows, {"tokens", "pooled"})
    assert features["tokens"].shape == (3, 13, WIDTH)
    for position, row in enumerate(rows):
        expected = features["tokens"][position, : row.length].mean(axis=0)
        assert features["pooled"][position] == pytest.approx(expected, abs=1e-6)


def test_the_digest_is_of_the_content_not_of_the_name(root: Path) -> None:
    one, other = make_tiny_backbone(root, "one"), make_tiny_backbone(root, "other")
    assert one.digest == other.digest


def test_facts_that_came_later_are_of_the_digest_and_change_no_older_one(root: Path) -> None:
    plain = make_tiny_backbone(root).manifest
    older = plain.model_dump(mode="json", exclude={"name", "matryoshka"})
    for name in ("prompt", "prompts"):
        del older["preprocessing"][name]
    canonical = json.dumps(older, sort_keys=True, separators=(",", ":"))
    assert plain.digest == hashlib.sha256(canonical.encode()).hexdigest()
    assert type(plain).model_validate_json(json.dumps({**older, "name": "x"})) == plain.model_copy(
        update={"name": "x"}
    )
    assert make_tiny_backbone(root, "other", Build(prompt="a ")).digest != plain.digest
    named = plain.preprocessing.model_copy(update={"prompts": {"query": "q: "}})
    for change in ({"preprocessing": named}, {"matryoshka": (2, 4)}):
        assert plain.model_copy(update=change).digest != plain.digest


def test_vectors_may_be_cut_to_lengths_that_are_named(root: Path) -> None:
    build = Build(matryoshka=(4, 2, 4, WIDTH))
    assert make_tiny_backbone(root, "cut", build).manifest.matryoshka == (2, 4)
    with pytest.raises(BackboneError, match=r"--matryoshka 9 .*, which have 8 numbers"):
        make_tiny_backbone(root, "long", Build(matryoshka=(2, 9)))


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_changed_file_is_noticed_at_load(root: Path, file: str) -> None:
    make_tiny_backbone(root)
    path = root / "tiny" / file
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BackboneError, match=f"{file} is not the file that was added"):
        load_backbone(root / "tiny")


def test_a_missing_file_is_noticed_at_load(root: Path) -> None:
    make_tiny_backbone(root)
    (root / "tiny" / "model.onnx").unlink()
    with pytest.raises(BackboneError, match=r"'model\.onnx' of the manifest is missing"):
        load_backbone(root / "tiny")


def test_a_manifest_cannot_name_files_elsewhere(root: Path) -> None:
    make_tiny_backbone(root)
    path = root / "tiny" / "backbone.json"
    content = json.loads(path.read_text())
    content["files"]["../../secret"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(BackboneError, match="is missing"):
        load_backbone(root / "tiny")


def test_an_unknown_name_lists_the_known_ones(root: Path) -> None:
    make_tiny_backbone(root)
    with pytest.raises(BackboneNotFound, match=r"added: tiny.*headstock backbone add"):
        find_backbone(root, "tinny")


def add(root: Path, max_length: int = 16, replace: bool = False) -> Backbone:
    file = root.parent / "tiny-source" / "model.onnx"
    return add_from_onnx(
        file, OnnxOptions(max_length=max_length), root, "tiny", silent, replace
    ).backbone


def test_another_backbone_takes_a_name_only_where_that_is_meant(root: Path) -> None:
    first = make_tiny_backbone(root)
    with pytest.raises(BackboneExists, match=rf"{first.digest[:12]}.* --replace"):
        add(root, max_length=8)
    assert load_backbone(root / "tiny").digest == first.digest
    assert add(root, max_length=8, replace=True).digest != first.digest
    assert [path.name for path in root.iterdir()] == ["tiny"]


def test_another_source_is_refused_before_the_work(root: Path) -> None:
    taken = make_tiny_backbone(root)
    source = taken.manifest.source.model_copy(update={"id": "other.onnx"})
    nowhere = root / "no-such-model"
    with pytest.raises(BackboneExists):
        add_from_folder(nowhere, source, root, "tiny", silent)


def test_the_same_backbone_stays_and_is_repaired(root: Path) -> None:
    first = make_tiny_backbone(root)
    file = root / "tiny" / "model.onnx"
    before = file.stat().st_ino
    assert add(root).digest == first.digest
    assert file.stat().st_ino == before
    file.write_bytes(b"broken")
    assert add(root).digest == first.digest
    assert [path.name for path in root.iterdir()] == ["tiny"]


def test_a_folder_that_is_no_backbone_is_not_taken_for_free(root: Path) -> None:
    make_tiny_backbone(root)
    (root / "tiny" / "backbone.json").write_text("{}")
    with pytest.raises(BackboneExists, match="is no valid backbone"):
        add(root)
    assert add(root, replace=True).name == "tiny"


def test_the_old_one_is_there_until_the_new_one_is(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_tiny_backbone(root)
    rename = Path.rename

    def fail_to_move_in(self: Path, target: Path) -> Path:
        if self.name.startswith(".adding-"):
            raise OSError("disk failure")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_to_move_in)
    with pytest.raises(OSError, match="disk failure"):
        add(root, max_length=8, replace=True)
    assert load_backbone(root / "tiny").digest == first.digest
    assert [path.name for path in root.iterdir()] == ["tiny"]


def test_a_graph_whose_rows_meet_is_refused_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    file = write_tiny_model(tmp_path, leaky=True)
    with pytest.raises(BackboneError, match=r"changes by up to .* with the other rows"):
        add_from_onnx(file, OnnxOptions(max_length=16), root, "leaky", lambda _: None)
    assert list(root.iterdir()) == []


def test_a_tensor_inside_the_graph_can_be_tapped(root: Path, tmp_path: Path) -> None:
    file = write_tiny_model(tmp_path)
    options = OnnxOptions(taps={"tokens": "embedded"}, max_length=16)
    backbone = add_from_onnx(file, options, root, "tapped", lambda _: None).backbone
    row = backbone.preprocess("abc")
    tokens = backbone.run([row], {"tokens"})["tokens"][0]
    assert tokens.shape == (3, WIDTH)
    assert np.array_equal(tokens, tiny_weights()["embedding"][row.ids])


def test_a_wrong_tap_names_what_there_is(root: Path, tmp_path: Path) -> None:
    file = write_tiny_model(tmp_path)
    options = OnnxOptions(taps={"tokens": "nowhere"})
    with pytest.raises(BackboneError, match="'nowhere'"):
        add_from_onnx(file, options, root, "x", lambda _: None)


def test_a_file_that_is_no_onnx_is_refused(root: Path, tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    file = tmp_path / "model.onnx"
    file.write_bytes(b"hello")
    with pytest.raises(BackboneError, match="is not an ONNX file"):
        add_from_onnx(file, OnnxOptions(), root, "x", lambda _: None)


def test_a_long_text_is_cut_and_an_empty_one_is_a_row(root: Path) -> None:
    backbone = make_tiny_backbone(root)
    assert backbone.preprocess("a" * 1000).length == 16
    assert backbone.preprocess("").length == 1
    assert np.isfinite(backbone.run([backbone.preprocess("")], {"pooled"})["pooled"]).all()


def test_every_name_of_the_package_is_found_where_it_is_said_to_be() -> None:
    assert all(getattr(backbone, name) is not None for name in backbone.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        backbone.nothing  # noqa: B018
