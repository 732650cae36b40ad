"""How each activation is prepared for int8, by the error of its products on sample texts.

The search is greedy: the zero point first, and then smoothing, tried at that zero point alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from backbone.kernels import open_session
from backbone.manifest import MODEL_FILE, TOKENIZER_FILE
from backbone.package import read_manifest
from backbone.samples import SAMPLE_TEXTS
from backbone.surgery.int8 import MIDDLE, approximate_gelu, quantise, quantise_columns
from backbone.surgery.sites import constant_matrices
from backbone.surgery.smoothing import Scales, products_by_activation, smooth, smoothed
from backbone.text import TextPreprocessor, TextRow

_ZEROS = (64, 32, 24, 16)
# How much of a channel's size its weights take over: 0 leaves the activation as it is.
_STRENGTHS = (0.25, 0.5, 0.75)
# Either must take a tenth of the error: smoothing costs a pass over the activation, and a lower
# zero point leaves fewer steps to what is further below 0 than anything on the sample texts.
_WORTH = 0.9
_TOKENS = 64  # of each text, which bounds what is kept: less than the weights of a large model
_SMALLEST = 1e-5  # a channel or row of the matrix that is zero throughout

Matrix = NDArray[np.float32]


class Preparation(NamedTuple):
    """An activation's zero point in int8, and the scales [k] to smooth it by, if any."""

    zero: int = MIDDLE
    scales: Scales | None = None


def prepare_and_quantise(model: onnx.ModelProto, folder: Path) -> None:
    """Make the graph int8, in place, with the zero point and smoothing that suit each activation.

    `folder` holds the float32 backbone of `model`, of which the activations are taken.

    Raises:
        BackboneError: the graph has no product to quantise, or its opset is too old.
    """
    found = _preparations(model, folder)
    scales = {x: each.scales for x, each in found.items() if each.scales is not None}
    approximate_gelu(model)  # before smoothing, which reads the Gelu in the products' place
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
    """Scales of each strength: 1 up to the middle channel, more for those that stand out.

    None is below 1: a channel that is silent on the samples, scaled up, would take the steps
    from all others where it speaks.
    """
    largest = np.log2(np.maximum(np.abs(x).max(axis=0), _SMALLEST))
    weight = np.log2(np.maximum(np.abs(matrix).max(axis=1), _SMALLEST))
    exponents = [strength * largest - (1 - strength) * weight for strength in _STRENGTHS]
    above = [np.maximum(0, np.rint(each - np.median(each))) for each in exponents]
    return [np.exp2(each).astype(np.float32) for each in above]


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


def _preparations(model: onnx.ModelProto, folder: Path) -> dict[str, Preparation]:
    matrices = constant_matrices(model)
    products = products_by_activation(model)
    seen = _activations(folder, tuple(products)) if products else {}
    found = {}
    for activation, weights in products.items():
        matrix = np.concatenate([matrices[weight].array() for weight in weights], axis=1)
        found[activation] = best_preparation(seen.pop(activation), matrix)
    return found


def _activations(folder: Path, names: Sequence[str]) -> dict[str, Matrix]:
    """Tensors inside the graph, as [tokens of all sample texts, k]."""
    probe = folder / "activations.onnx"  # beside the weights that it refers to
    try:
        _write_probe(folder, names, probe)
        session = open_session(probe)
    finally:
        probe.unlink(missing_ok=True)
    inputs = [node.name for node in session.get_inputs()]
    preprocessor = TextPreprocessor(folder / TOKENIZER_FILE, read_manifest(folder).preprocessing)
    parts: dict[str, list[Matrix]] = {name: [] for name in names}
    for text in SAMPLE_TEXTS:
        row = TextRow(preprocessor.row(text).ids[:_TOKENS])
        values = session.run(names, preprocessor.collate([row], inputs))
        for name, value in zip(names, values, strict=True):
            parts[name].append(value.reshape(-1, value.shape[-1]))
    return {name: np.concatenate(part) for name, part in parts.items()}


def _write_probe(folder: Path, names: Sequence[str], probe: Path) -> None:
    """The float32 graph with tensors inside it as its outputs."""
    model = onnx.load(str(folder / MODEL_FILE), load_external_data=False)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    probe.write_bytes(model.SerializeToString())
