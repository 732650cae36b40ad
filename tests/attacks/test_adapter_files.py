"""Hostile adapter files: each is refused with what is wrong, quickly and without much memory."""

import json
import struct
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.adapter import read_adapter
from adapters.errors import HeadstockError, InvalidAdapter, TooLarge
from tests.attacks.support import set_item
from tests.support import make_adapter_file, make_manifest, make_tensors

GOOD = make_adapter_file()
HEADER_LENGTH = int.from_bytes(GOOD[:8], "little")
DATA = GOOD[8 + HEADER_LENGTH :]


def rebuild(
    change: Callable[[dict[str, Any]], object] = lambda _: None, data: bytes = DATA
) -> bytes:
    """The good file with its header changed."""
    header = json.loads(GOOD[8 : 8 + HEADER_LENGTH])
    change(header)
    return with_header(json.dumps(header), data)


def with_header(text: str, data: bytes = DATA) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(raw)) + raw + data


def with_manifest(change: Callable[[dict[str, Any]], object]) -> bytes:
    def apply(header: dict[str, Any]) -> None:
        manifest = json.loads(header["__metadata__"]["headstock"])
        change(manifest)
        header["__metadata__"]["headstock"] = json.dumps(manifest)

    return rebuild(apply)


def with_values(name: str, value: float) -> bytes:
    header = json.loads(GOOD[8 : 8 + HEADER_LENGTH])
    begin, end = header[name]["data_offsets"]
    data = bytearray(DATA)
    data[begin:end] = np.full((end - begin) // 4, value, dtype="<f4").tobytes()
    return with_header(json.dumps(header), bytes(data))


def header_text() -> str:
    return GOOD[8 : 8 + HEADER_LENGTH].decode()


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not an adapter file"),
    "short": (GOOD[:5], "not an adapter file"),
    "cut in the header": (GOOD[:100], "cut off"),
    "cut in the data": (GOOD[:-1], "cut off"),
    "something added": (GOOD + b"\0", "something was added"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an adapter file"),
    "zip": (b"PK\x03\x04" + bytes(100), "not an adapter file"),
    "pickle": (b"\x80\x04\x95" + bytes(100), "not an adapter file"),
    "header of 200 MB": (struct.pack("<Q", 200 * 2**20) + bytes(100), "209715200 bytes"),
    "header of 2**64 - 1": (b"\xff" * 8 + bytes(100), "announces a header"),
    "header not UTF-8": (struct.pack("<Q", 4) + b'"\xff"}', "not strict JSON"),
    "header not JSON": (with_header("{'a': 1}"), "not strict JSON"),
    "header a list": (with_header("[]"), "not a JSON object"),
    "header nested deeply": (with_header('{"a":' * 100_000), "nested too deeply"),
    "doubled tensor names": (
        with_header(header_text().replace('"head.bias"', '"head.weight"')),
        "'head.weight' stands twice",
    ),
    "NaN in the header": (with_header('{"a": NaN}'), "NaN is not JSON"),
    "no metadata": (rebuild(lambda header: header.pop("__metadata__")), "__metadata__"),
    "more metadata": (rebuild(set_item("__metadata__", "format", value="pt")), "single key"),
    "metadata a number": (rebuild(set_item("__metadata__", "headstock", value=1)), "JSON text"),
    "40,000 tensors": (
        rebuild(
            lambda header: header.update(
                {
                    f"t{n}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
                    for n in range(40_000)
                }
            )
        ),
        "values and keys",
    ),
    "600 tensors": (
        rebuild(
            lambda header: header.update(
                {
                    f"t{n}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
                    for n in range(600)
                }
            )
        ),
        "604 tensors are more",
    ),
    "another dtype": (rebuild(set_item("head.bias", "dtype", value="I32")), "dtype F32"),
    "dtype a list": (rebuild(set_item("head.bias", "dtype", value=["F32"])), "dtype F32"),
    "one more key": (rebuild(set_item("head.bias", "device", value="cpu")), "nothing else"),
    "no shape": (rebuild(lambda header: header["head.bias"].pop("shape")), "needs dtype, shape"),
    "empty tensor": (rebuild(set_item("head.bias", "shape", value=[0])), "at least 1"),
    "scalar": (rebuild(set_item("head.bias", "shape", value=[])), "1 to 4 dimensions"),
    "negative dimension": (rebuild(set_item("head.bias", "shape", value=[-2])), "dimensions"),
    "huge dimension": (rebuild(set_item("head.bias", "shape", value=[2**62])), "dimensions"),
    "boolean dimension": (rebuild(set_item("head.bias", "shape", value=[True])), "dimensions"),
    "overlap": (
        rebuild(set_item("head.bias", "data_offsets", value=[0, 8])),
        "gap or overlaps",
    ),
    "gap": (
        rebuild(lambda header: header.pop("golden.scores")),
        "gap or overlaps",
    ),
    "offsets beyond the file": (
        rebuild(set_item("head.bias", "data_offsets", value=[10**6, 10**6 + 8])),
        "gap or overlaps|the tensors take",
    ),
    "offsets backwards": (
        rebuild(set_item("head.bias", "data_offsets", value=[8, 0])),
        "do not fit its shape",
    ),
    "three offsets": (
        rebuild(set_item("head.bias", "data_offsets", value=[0, 4, 8])),
        "two whole numbers",
    ),
    "shape of another size": (
        rebuild(set_item("head.bias", "shape", value=[3])),
        "do not fit its shape",
    ),
    "shapes that do not fit together": (
        rebuild(set_item("head.weight", "shape", value=[4, 4])),
        r"shape \[4, 4\].*need \[2, 8\]",
    ),
    "NaN weights": (with_values("head.weight", float("nan")), "NaN or infinite"),
    "infinite weights": (with_values("head.bias", float("inf")), "NaN or infinite"),
    "overflowing weights": (with_values("head.weight", 3e38), "golden row 0"),
    "golden rows that do not match": (with_values("golden.scores", 0.5), "golden row 0.*differ"),
    "other weights than measured": (with_values("head.weight", 0.0), "golden row 0.*differ"),
    "manifest not JSON": (
        rebuild(set_item("__metadata__", "headstock", value="{")),
        "manifest is not valid",
    ),
    "manifest with a doubled key": (
        rebuild(set_item("__metadata__", "headstock", value='{"format":1,"format":1}')),
        "'format' stands twice",
    ),
    "another format": (with_manifest(set_item("format", value=2)), "format"),
    "another head": (with_manifest(set_item("head", value="pickle")), "head"),
    "unknown key": (with_manifest(set_item("code", value="import os")), "code"),
    "no backbone": (with_manifest(lambda manifest: manifest.pop("backbone")), "backbone"),
    "backbone no digest": (with_manifest(set_item("backbone", value="../x")), "backbone"),
    "20,000 labels": (
        with_manifest(set_item("labels", value=[f"l{n}" for n in range(20_000)])),
        "20000 labels are more than the limit of 10000",
    ),
    "a million labels": (
        with_manifest(set_item("labels", value=[f"l{n}" for n in range(1_000_000)])),
        "announces a header",
    ),
    "one label": (with_manifest(set_item("labels", value=["a"])), "labels"),
    "a label twice": (with_manifest(set_item("labels", value=["a", "a"])), "distinct"),
    "a label with a line end": (with_manifest(set_item("labels", value=["a", "b\n"])), "label"),
    "a label of 201": (with_manifest(set_item("labels", value=["a", "b" * 201])), "label"),
    "a label with half a character": (
        with_manifest(set_item("labels", value=["a", "\ud800"])),
        "manifest is not valid",
    ),
    "a label that is a number": (with_manifest(set_item("labels", value=["a", 1])), "labels"),
    "three labels for two rows": (
        with_manifest(set_item("labels", value=["a", "b", "c"])),
        "golden.scores must be",
    ),
    "temperature zero": (
        with_manifest(set_item("calibration", "temperature", value=0.0)),
        "temperature",
    ),
    "temperature a text": (
        with_manifest(set_item("calibration", "temperature", value="1")),
        "temperature",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_with_its_reason(name: str) -> None:
    content, reason = FILES[name]
    started = time.perf_counter()
    with pytest.raises(InvalidAdapter, match=reason) as caught:
        read_adapter(content)
    assert time.perf_counter() - started < 5
    assert len(str(caught.value)) < 600


def test_a_file_over_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge, match="67108864"):
        read_adapter(GOOD + bytes(64 * 2**20))


def test_an_announced_length_allocates_nothing() -> None:
    content = struct.pack("<Q", 200 * 2**20) + bytes(1000)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidAdapter):
            read_adapter(content)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=2000))
def test_random_bytes_are_refused_and_nothing_else_happens(content: bytes) -> None:
    with pytest.raises(InvalidAdapter):
        read_adapter(content)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_harmless(position: int, value: int) -> None:
    """A flipped byte may hit padding or a low bit; it never gives anything but a sound adapter."""
    content = GOOD[:position] + bytes([value]) + GOOD[position + 1 :]
    try:
        adapter = read_adapter(content)
    except HeadstockError:
        return
    scores = adapter.score(np.ones(8, dtype=np.float32))
    assert np.isfinite(scores).all()


def test_the_good_file_is_good() -> None:
    adapter = read_adapter(GOOD)
    assert adapter.manifest == make_manifest()
    assert len(make_tensors()) == 2
