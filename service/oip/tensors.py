"""The protocol's tensors: what they are, and their binary form. No transport, no adapter."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapters.errors import InvalidInput

Datatype = Literal["BYTES", "FP32"]
_LENGTH = struct.Struct("<I")  # before each element of BYTES


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """Values in row-major order: as many as `shape` has places. BYTES are UTF-8 texts here."""

    name: str
    shape: tuple[int, ...]
    values: Sequence[str] | NDArray[np.float32]

    @property
    def datatype(self) -> Datatype:
        """As the protocol calls it."""
        return "FP32" if isinstance(self.values, np.ndarray) else "BYTES"

    def to_json(self) -> list[Any]:
        """The values as JSON has them: flat."""
        if isinstance(self.values, np.ndarray):
            return self.values.ravel().tolist()
        return list(self.values)

    def to_binary(self) -> bytes:
        """Little-endian numbers; each text after its length in bytes, four bytes of it."""
        if isinstance(self.values, np.ndarray):
            return self.values.astype("<f4").tobytes()
        parts = []
        for value in self.values:
            content = value.encode()
            parts += [_LENGTH.pack(len(content)), content]
        return b"".join(parts)


def split_bytes(name: str, shape: Sequence[int], content: bytes) -> list[bytes]:
    """The elements of a BYTES tensor in its binary form, which its shape counts.

    Raises InvalidInput.
    """
    count, elements, place = prod(shape), list[bytes](), 0
    while place < len(content):
        if len(elements) == count:
            raise InvalidInput(
                f"input {name!r} has {count} elements by its shape, and "
                f"{len(content) - place} bytes more in its binary data"
            )
        end = place + _LENGTH.size
        if end <= len(content):
            (length,) = _LENGTH.unpack_from(content, place)
            place, end = end, end + length
        if end > len(content):
            raise InvalidInput(f"input {name!r}: its binary data ends within an element")
        elements.append(content[place:end])
        place = end
    return elements


def check_texts(name: str, datatype: str, shape: Sequence[int]) -> None:
    """Raise InvalidInput unless a tensor is of texts, of the shape [n] or [n, 1]."""
    if datatype != "BYTES":
        raise InvalidInput(f"input {name!r} is {datatype[:20]}; texts are BYTES")
    if not 1 <= len(shape) <= 2 or tuple(shape[1:]) not in ((), (1,)) or shape[0] < 1:
        raise InvalidInput(
            f"input {name!r} has the shape {list(shape)[:8]}; texts are [n] or [n, 1]"
        )


def to_texts(name: str, shape: Sequence[int], elements: Sequence[bytes | str]) -> list[str]:
    """The elements of a tensor as texts. Raises InvalidInput."""
    if prod(shape) != len(elements):
        raise InvalidInput(
            f"input {name!r} has {len(elements)} elements, and {prod(shape)} by its shape"
        )
    try:
        return [each if isinstance(each, str) else each.decode() for each in elements]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"input {name!r} has an element that is not UTF-8: {error}") from None
