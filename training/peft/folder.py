"""A PEFT folder on disk: its configuration and its tensors, read strictly."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
from numpy.typing import NDArray

from training.errors import InvalidPeft
from training.peft.config import PeftConfig, parse_config

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_MAX_CONFIG_BYTES = 2**20
_MAX_TENSOR_BYTES = 512 * 2**20  # eight times what an adapter file may have: a head may be left out
_MAX_HEADER_BYTES = 4 * 2**20  # as in an adapter file
_LENGTH_BYTES = 8

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PeftFolder:
    """The tensors as float32 by their names in the file; `digest` is the sha256 of that file."""

    path: Path
    config: PeftConfig
    tensors: dict[str, Matrix]
    digest: str


def read_folder(path: Path) -> PeftFolder:
    """Read and check a folder that PEFT's `save_pretrained` wrote.

    Raises:
        InvalidPeft: with the file and what is wrong with it.
    """
    if not path.is_dir():
        raise InvalidPeft(f"{path} is no folder; name the one with {CONFIG} and {TENSORS}")
    raw = _read(path / CONFIG, _MAX_CONFIG_BYTES)
    try:
        config = parse_config(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidPeft(f"{path / CONFIG}: it is not UTF-8") from error
    except InvalidPeft as error:
        raise InvalidPeft(f"{path / CONFIG}: {error}") from error
    if not (path / TENSORS).is_file() and (path / _PICKLE).is_file():
        raise InvalidPeft(
            f"{path} has {_PICKLE} alone, which is a pickle and can run code: convert it with "
            "PEFT's save_pretrained(..., safe_serialization=True)"
        )
    content = _read(path / TENSORS, _MAX_TENSOR_BYTES)
    try:
        tensors = _parse(content)
    except InvalidPeft as error:
        raise InvalidPeft(f"{path / TENSORS}: {error}") from error
    return PeftFolder(path, config, tensors, hashlib.sha256(content).hexdigest())


def _read(file: Path, limit: int) -> bytes:
    if not file.is_file():
        raise InvalidPeft(f"{file.parent} has no file {file.name}; is it a folder that PEFT wrote?")
    try:
        if file.stat().st_size > limit:
            raise InvalidPeft(f"{file} has more than the {limit} bytes that are read of it")
        return file.read_bytes()
    except OSError as error:
        raise InvalidPeft(f"{file} cannot be read: {error.strerror}") from error


def _parse(content: bytes) -> dict[str, Matrix]:
    header = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if header > _MAX_HEADER_BYTES:
        raise InvalidPeft(f"it announces a header of {header} bytes (limit {_MAX_HEADER_BYTES})")
    try:
        entries = safetensors.deserialize(content)  # type: ignore[no-untyped-call]  # in Rust
    except safetensors.SafetensorError as error:
        raise InvalidPeft(f"it is not a safetensors file, or is cut off: {error}") from error
    tensors = {}
    for name, entry in entries:
        tensors[name] = _array(name, entry["dtype"], bytes(entry["data"])).reshape(entry["shape"])
    return tensors


def _array(name: str, kind: str, data: bytes) -> Matrix:
    """The values as float32, flat. Raises InvalidPeft."""
    if kind == "BF16":  # the upper half of a float32, which NumPy does not know
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif kind in ("F32", "F16"):
        values = np.frombuffer(data, "<f4" if kind == "F32" else "<f2").astype(np.float32)
    else:
        raise InvalidPeft(f"tensor {name[:120]!a} has dtype {kind}; F32, F16 and BF16 are read")
    if not np.isfinite(values).all():
        raise InvalidPeft(f"tensor {name[:120]!a} has values that are NaN or infinite")
    return values
