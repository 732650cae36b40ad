"""Files of PEFT folders that are no such files: refused with the file's name."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from backbone import Backbone
from tests.attacks.support import PEFT_CONFIG, PEFT_TENSORS, QUERY, peft_refusal
from tests.peft_folders import make_modules, write_peft
from training.peft.folder import read_folder
from training.peft.lora import read_peft


def test_the_folder_before_any_attack(folder: Path, backbone: Backbone) -> None:
    assert list(read_peft(folder, backbone.manifest).lora.sites) == ["layer.query"]


def test_links_are_followed(folder: Path, backbone: Backbone, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in (PEFT_CONFIG, PEFT_TENSORS):
        (linked / name).symlink_to(folder / name)
    read_peft(linked, backbone.manifest)
    (linked / PEFT_TENSORS).unlink()
    (linked / PEFT_TENSORS).symlink_to(tmp_path / "nowhere")
    assert "has no file adapter_model.safetensors" in peft_refusal(linked, backbone)


@pytest.mark.parametrize("name", [PEFT_CONFIG, PEFT_TENSORS])
def test_a_missing_file_or_a_folder_in_its_place(
    folder: Path, backbone: Backbone, name: str
) -> None:
    (folder / name).unlink()
    assert f"has no file {name}" in peft_refusal(folder, backbone)
    (folder / name).mkdir()
    assert f"has no file {name}" in peft_refusal(folder, backbone)
    assert "is no folder" in peft_refusal(folder / "none", backbone)


def test_a_pickle_is_never_opened(folder: Path, backbone: Backbone) -> None:
    (folder / PEFT_TENSORS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(print))
    assert "is a pickle and can run code" in peft_refusal(folder, backbone)


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
    (folder / PEFT_CONFIG).write_bytes(content)
    found = peft_refusal(folder, backbone)
    assert message in found
    assert str(folder / PEFT_CONFIG) in found


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
    file = folder / PEFT_TENSORS
    raw, changed = file.read_bytes(), change(file.read_bytes())
    assert changed != raw
    file.write_bytes(changed)
    found = peft_refusal(folder, backbone)
    assert message in found
    assert str(file) in found


def test_every_cut_is_refused(folder: Path, backbone: Backbone) -> None:
    raw = (folder / PEFT_TENSORS).read_bytes()
    for length in range(0, len(raw), 7):
        (folder / PEFT_TENSORS).write_bytes(raw[:length])
        peft_refusal(folder, backbone)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_read_exactly(tmp_path: Path, backbone: Backbone, kind: str) -> None:
    import torch
    from safetensors.torch import save_file

    folder = write_peft(tmp_path / "peft", make_modules(QUERY))
    halves = {
        name: torch.from_numpy(value).to(getattr(torch, kind))
        for name, value in safetensors.numpy.load_file(folder / PEFT_TENSORS).items()
    }
    save_file(halves, folder / PEFT_TENSORS)
    for name, value in read_folder(folder).tensors.items():
        assert np.array_equal(value, halves[name].float().numpy())
