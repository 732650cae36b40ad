"""The container of an adapter file: a strict reader of safetensors, and a writer.

The safetensors library accepts doubled keys, any names, NaN and hundreds of thousands of empty
tensors; a file from a tenant is hostile until proven otherwise, so the header is parsed here.
"""

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from adapters.errors import InvalidAdapter, TooLarge
from adapters.json_size import JsonLimits, find_excess
from adapters.strict_json import strict_json

METADATA_KEY = "headstock"
MAX_FILE_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 4 * 2**20
MAX_TENSORS = 512
MAX_HEADER_ELEMENTS = 16_384  # values and keys: each tensor has 9 to 15
_HEADER_LIMITS = JsonLimits(
    elements=MAX_HEADER_ELEMENTS, text_bytes=MAX_HEADER_BYTES, other_bytes=MAX_HEADER_BYTES
)
_LENGTH_BYTES = 8
_ITEM_BYTES = 4  # float32, the one dtype of format 1

Arrays = dict[str, NDArray[np.float32]]


def read_container(content: bytes) -> tuple[str, Arrays]:
    """Split a file into its manifest text and its tensors (views on `content`, no copies).

    Raises:
        TooLarge: the file is over its limit.
        InvalidAdapter: anything that `adapters/FORMAT.md` does not allow.
    """
    if len(content) > MAX_FILE_BYTES:
        raise TooLarge(f"an adapter file has at most {MAX_FILE_BYTES} bytes, not {len(content)}")
    header, data = _split(content)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or list(metadata) != [METADATA_KEY]:
        raise InvalidAdapter(
            f"the file's __metadata__ must hold the single key {METADATA_KEY!r}; is this an "
            "adapter that Headstock wrote?"
        )
    manifest = metadata[METADATA_KEY]
    if not isinstance(manifest, str):
        raise InvalidAdapter(f"__metadata__[{METADATA_KEY!r}] must be a JSON text")
    if len(header) > MAX_TENSORS:
        raise InvalidAdapter(f"{len(header)} tensors are more than the limit of {MAX_TENSORS}")
    return manifest, _tensors(header, data)


def write_container(manifest: str, tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The bytes of a file; equal input gives equal bytes."""
    contiguous = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    content: bytes = safetensors.numpy.save(contiguous, metadata={METADATA_KEY: manifest})
    return content


def write_file(path: Path, content: bytes) -> None:
    """Write through a temporary file, fsync and rename: `path` is whole at any time."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """The parsed header and the data section."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if len(content) < _LENGTH_BYTES or length > MAX_HEADER_BYTES:
        raise InvalidAdapter(
            f"not an adapter file: it announces a header of {length} bytes (limit "
            f"{MAX_HEADER_BYTES}) in a file of {len(content)}"
        )
    raw = content[_LENGTH_BYTES : _LENGTH_BYTES + length]
    if len(raw) < length:
        raise InvalidAdapter(
            f"the file is cut off: its header needs {length} bytes, {len(raw)} are there"
        )
    try:
        excess = find_excess(raw, _HEADER_LIMITS)
        if excess is not None:
            raise InvalidAdapter(f"not an adapter file: its header has {excess}")
        header = strict_json(raw.decode("utf-8"))
    except ValueError as error:
        raise InvalidAdapter(
            f"not an adapter file: its header is not strict JSON: {error}"
        ) from error
    if not isinstance(header, dict):
        raise InvalidAdapter("not an adapter file: its header is not a JSON object")
    return header, memoryview(content)[_LENGTH_BYTES + length :]


def _tensors(header: Mapping[str, Any], data: memoryview) -> Arrays:
    """Views on the data section, which the tensors must fill without gap or overlap."""
    entries = sorted(
        ((*_range(name, entry), name) for name, entry in header.items()),
    )
    tensors: Arrays = {}
    position = 0
    for begin, end, name in entries:
        if begin != position:
            raise InvalidAdapter(f"tensor {name[:80]!a} leaves a gap or overlaps another")
        position = end
    if position != len(data):
        raise InvalidAdapter(
            f"the tensors take {position} bytes and the file has {len(data)} for them: it is cut "
            "off, or something was added to it"
        )
    for begin, end, name in entries:
        flat = np.frombuffer(data[begin:end], dtype="<f4")
        array = np.require(flat.reshape(header[name]["shape"]), requirements=["C", "A"])
        if not np.isfinite(array).all():
            raise InvalidAdapter(f"tensor {name[:80]!a} has values that are NaN or infinite")
        tensors[name] = array
    return tensors


def _range(name: str, entry: Any) -> tuple[int, int]:
    """The checked data_offsets of one header entry."""
    shown = ascii(name[:80])
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise InvalidAdapter(f"tensor {shown} needs dtype, shape and data_offsets, nothing else")
    if entry["dtype"] != "F32":
        raise InvalidAdapter(
            f"tensor {shown} must have dtype F32, not {ascii(entry['dtype'])[:40]}"
        )
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _naturals(shape) or not 1 <= len(shape) <= 4 or 0 in shape:
        raise InvalidAdapter(f"tensor {shown} must have 1 to 4 dimensions of at least 1")
    if not _naturals(offsets) or len(offsets) != 2:
        raise InvalidAdapter(f"tensor {shown}: data_offsets are two whole numbers")
    begin, end = offsets
    if end - begin != math.prod(shape) * _ITEM_BYTES:
        raise InvalidAdapter(f"tensor {shown}: its data_offsets do not fit its shape")
    return begin, end


def _naturals(value: Any) -> bool:
    """Whether `value` is a list of whole numbers that no file can exceed (bool is no number)."""
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item <= MAX_FILE_BYTES for item in value
    )
