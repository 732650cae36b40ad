"""Which activations are smoothed before int8, and by how much: the least error on sample texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from backbone.manifest import MODEL_FILE, TOKENIZER_FILE
from backbone.package import read_manifest
from backbone.runtime import open_session
from backbone.stability import SAMPLE_TEXTS
from backbone.surgery.int8 import quantise_columns
from backbone.surgery.sites import constant_matrices
from backbone.surgery.smoothing import Scales, products_by_activation
from backbone.text import TextPreprocessor, TextRow

# How much of a channel's size its weights take over: 0 leaves the activation as it is.
_STRENGTHS = (0.25, 0.5, 0.75)
_WORTH = 0.9  # smoothing costs a pass over the activation: a tenth of the error must go
_TOKENS = 64  # of each text, which bounds what is kept: less than the weights of a large model
_SMALLEST = 1e-5  # a channel or row of the matrix that is zero throughout

Matrix = NDArray[np.float32]


def choose_scales(
    model: onnx.ModelProto, folder: Path, texts: Sequence[str] = SAMPLE_TEXTS
) -> dict[str, Scales]:
    """Scales [k] for `smooth`, by activation, for those whose products gain by them.

    `folder` holds the float32 backbone of `model`, of which the activations are taken.
    """
    matrices = constant_matrices(model)
    products = products_by_activation(model)
    if not products:
        return {}
    seen = _activations(folder, tuple(products), texts)
    chosen = {}
    for activation, weights in products.items():
        matrix = np.concatenate([matrices[weight].array() for weight in weights], axis=1)
        scales = best_scales(seen.pop(activation), matrix)
        if scales is not None:
            chosen[activation] = scales
    return chosen


def best_scales(x: Matrix, matrix: Matrix) -> Scales | None:
    """The scales [k] with the least error of int8 x [n, k] by matrix [k, m]; None: not worth it."""
    if not np.isfinite(x).all():
        return None
    largest = np.maximum(np.abs(x).max(axis=0), _SMALLEST)
    weight = np.maximum(np.abs(matrix).max(axis=1), _SMALLEST)
    best, least = None, _WORTH * _error(x, matrix)
    for strength in _STRENGTHS:
        exponents = np.log2(largest) * strength - np.log2(weight) * (1 - strength)
        scales = np.exp2(np.rint(exponents - np.median(exponents))).astype(np.float32)
        error = _error(x / scales, matrix * scales[:, None])
        if error < least:
            best, least = scales, error
    return best


def _error(x: Matrix, matrix: Matrix) -> float:
    """Root mean square over tokens of the product's error in int8, relative to its length."""
    values, columns = quantise_columns(matrix)
    steps = np.maximum(np.abs(x).max(axis=1, keepdims=True), 1e-30) / 127
    exact = x @ matrix
    error = (np.rint(x / steps) * steps) @ (values * columns) - exact
    lengths = np.linalg.norm(exact, axis=1) + 1e-6
    return float(np.sqrt(np.mean(np.square(np.linalg.norm(error, axis=1) / lengths))))


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
