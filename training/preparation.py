"""How each activation is prepared for int8: what has the least error on sample texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from backbone.manifest import MODEL_FILE, TOKENIZER_FILE
from backbone.package import read_manifest
from backbone.runtime import open_session
from backbone.stability import SAMPLE_TEXTS
from backbone.surgery.int8 import MIDDLE, quantise, quantise_columns
from backbone.surgery.sites import constant_matrices
from backbone.surgery.smoothing import Scales, products_by_activation, smooth, smoothed
from backbone.text import TextPreprocessor, TextRow

_ZEROS = (64, 32, 24, 16)
# How much of a channel's size its weights take over: 0 leaves the activation as it is.
_STRENGTHS = (0.25, 0.5, 0.75)
_WORTH = 0.9  # smoothing costs a pass over the activation: a tenth of the error must go
_TOKENS = 64  # of each text, which bounds what is kept: less than the weights of a large model
_SMALLEST = 1e-5  # a channel or row of the matrix that is zero throughout

Matrix = NDArray[np.float32]


class Preparation(NamedTuple):
    """An activation's zero point in int8, and the scales [k] to smooth it by, if any."""

    zero: int = MIDDLE
    scales: Scales | None = None


def prepare_and_quantise(
    model: onnx.ModelProto, folder: Path, texts: Sequence[str] = SAMPLE_TEXTS
) -> None:
    """Make the graph int8, in place, each activation smoothed where that gains.

    `folder` holds the float32 backbone of `model`, of which the activations are taken.

    Raises:
        BackboneError: the graph has no product to quantise.
    """
    found = _preparations(model, folder, texts)
    scales = {x: each.scales for x, each in found.items() if each.scales is not None}
    smooth(model, scales)
    quantise(model, {smoothed(x) if x in scales else x: each.zero for x, each in found.items()})


def best_preparation(x: Matrix, matrix: Matrix) -> Preparation:
    """The one with the least error of int8 x [n, k] by matrix [k, m]; the plain one if near."""
    if not np.isfinite(x).all():
        return Preparation()
    best, least = Preparation(), _WORTH * _error(x, matrix, MIDDLE)
    for zero in _ZEROS:
        if (error := _error(x, matrix, zero)) < least:
            best, least = Preparation(zero), error
    least *= _WORTH if best.zero != MIDDLE else 1
    for scales in _candidates(x, matrix):
        error = _error(x / scales, matrix * scales[:, None], best.zero)
        if error < least:
            best, least = Preparation(best.zero, scales), error
    return best


def _candidates(x: Matrix, matrix: Matrix) -> list[Scales]:
    """Scales of each strength, of which the middle channel's is 1."""
    largest = np.log2(np.maximum(np.abs(x).max(axis=0), _SMALLEST))
    weight = np.log2(np.maximum(np.abs(matrix).max(axis=1), _SMALLEST))
    exponents = [strength * largest - (1 - strength) * weight for strength in _STRENGTHS]
    return [np.exp2(np.rint(each - np.median(each))).astype(np.float32) for each in exponents]


def _error(x: Matrix, matrix: Matrix, zero: int) -> float:
    """Root mean square over tokens of the product's error in int8, relative to its length."""
    values, columns = quantise_columns(matrix)
    above, below = (255 - zero, 127 if zero == MIDDLE else zero)
    steps = np.maximum(x.max(axis=1) / above, -x.min(axis=1) / below)[:, None]
    steps = np.maximum(steps, 1e-30)
    exact = x @ matrix
    error = (np.rint(x / steps) * steps) @ (values * columns) - exact
    lengths = np.linalg.norm(exact, axis=1) + 1e-6
    return float(np.sqrt(np.mean(np.square(np.linalg.norm(error, axis=1) / lengths))))


def _preparations(
    model: onnx.ModelProto, folder: Path, texts: Sequence[str]
) -> dict[str, Preparation]:
    matrices = constant_matrices(model)
    products = products_by_activation(model)
    seen = _activations(folder, tuple(products), texts) if products else {}
    found = {}
    for activation, weights in products.items():
        matrix = np.concatenate([matrices[weight].array() for weight in weights], axis=1)
        found[activation] = best_preparation(seen.pop(activation), matrix)
    return found


def _activations(folder: Path, names: Sequence[str], texts: Sequence[str]) -> dict[str, Matrix]:
    """Tensors inside the graph, as [tokens of all texts, k]."""
    model = onnx.load(str(folder / MODEL_FILE), load_external_data=False)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    probe = folder / "activations.onnx"  # beside the weights that it refers to
    probe.write_bytes(model.SerializeToString())
    session = open_session(probe)
    inputs = [node.name for node in session.get_inputs()]
    preprocessor = TextPreprocessor(folder / TOKENIZER_FILE, read_manifest(folder).preprocessing)
    parts: dict[str, list[Matrix]] = {name: [] for name in names}
    for text in texts:
        row = TextRow(preprocessor.row(text).ids[:_TOKENS])
        values = session.run(names, preprocessor.collate([row], inputs))
        for name, value in zip(names, values, strict=True):
            parts[name].append(value.reshape(-1, value.shape[-1]))
    return {name: np.concatenate(part) for name, part in parts.items()}
