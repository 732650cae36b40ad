"""Pooling and what follows it, beside NumPy, and with the same bits in every batch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from backbone import Backbone
from backbone.manifest import Source, TextPreprocessing
from backbone.surgery.features import expose, keep_outputs
from backbone.surgery.pooling import Dense, LayerNorm, Mode, Normalize, Pooling, Step, add_pooling
from backbone.surgery.sites import find_sites
from tests.tiny import WIDTH, write_tiny_model
from training.backbones.packing import Build, Draft, pack

Vector = NDArray[np.float32]
TEXTS = ("where?", "a", "", "a longer text")
RANDOM = np.random.default_rng(5)
SQUARE, WIDE = (
    RANDOM.standard_normal((WIDTH, width)).astype(np.float32) for width in (WIDTH, 2 * WIDTH)
)
SHIFT = RANDOM.standard_normal(WIDTH).astype(np.float32)

# What each mode makes of the tokens [t, d] after the first `skipped` of them.
EXPECTED: dict[Mode, Callable[[Vector, int], Vector]] = {
    "cls": lambda tokens, skipped: tokens[skipped],
    "lasttoken": lambda tokens, skipped: tokens[skipped:][-1],
    "max": lambda tokens, skipped: tokens[skipped:].max(axis=0),
    "mean": lambda tokens, skipped: tokens[skipped:].mean(axis=0),
    "mean_sqrt_len_tokens": lambda tokens, skipped: (
        tokens[skipped:].sum(axis=0) / np.sqrt(len(tokens) - skipped)
    ),
    "weightedmean": lambda tokens, skipped: np.average(
        tokens[skipped:], axis=0, weights=np.arange(skipped + 1, len(tokens) + 1)
    ),
}


def make(folder: Path, pooling: Pooling, prompt: str = "") -> Backbone:
    """The tiny model with this pooling, proven stable as every backbone is."""
    file = write_tiny_model(folder)
    model = onnx.shape_inference.infer_shapes(onnx.load(str(file)))
    expose(model, "last_hidden_state", "tokens", ("n", "t", WIDTH))
    keep_outputs(model, ("tokens",))
    sites = find_sites(model)
    add_pooling(model, WIDTH, pooling)
    settings = TextPreprocessing(max_length=32, pad_id=0, prompt=prompt)
    source = Source(kind="folder", id="tiny", weights_sha256="0" * 64)
    draft = Draft(model, sites, folder / "tokenizer.json", settings, source)
    build = Build(lora=["none"])
    root = folder / "backbones"
    return pack(draft, build, root, "x", lambda _: None, lambda _: None, False).backbone


@pytest.mark.parametrize("mode", EXPECTED)
@pytest.mark.parametrize("prompt", ["", "ab "])
def test_a_mode_is_what_numpy_makes_of_the_tokens(mode: Mode, prompt: str, tmp_path: Path) -> None:
    skipped = len(prompt)  # the tiny tokenizer's tokens are characters, and none is special
    backbone = make(tmp_path, Pooling((mode,), skipped=skipped), prompt)
    rows = [backbone.preprocess(text) for text in TEXTS if text]
    found = backbone.run(rows, ["tokens", "pooled"])
    for number, row in enumerate(rows):
        tokens = found["tokens"][number, : row.length]
        expected = EXPECTED[mode](tokens, skipped)
        assert found["pooled"][number] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("mode", ["mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_a_prompt_alone_leaves_nothing_to_pool(mode: Mode, tmp_path: Path) -> None:
    backbone = make(tmp_path, Pooling((mode,), skipped=3), "ab ")
    pooled = backbone.run([backbone.preprocess("")], ["pooled"])["pooled"]
    assert np.array_equal(pooled, np.zeros((1, WIDTH)))


def test_modes_stand_side_by_side(tmp_path: Path) -> None:
    backbone = make(tmp_path, Pooling(("max", "cls")))
    row = backbone.preprocess(TEXTS[0])
    found = backbone.run([row], ["tokens", "pooled"])
    tokens = found["tokens"][0]
    expected = np.concatenate([tokens.max(axis=0), tokens[0]])
    assert np.array_equal(found["pooled"][0], expected)
    assert backbone.manifest.width("pooled") == 2 * WIDTH


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Normalize(), lambda x: x / np.linalg.norm(x)),
        (
            LayerNorm(SQUARE[0], SHIFT, 1e-5),
            lambda x: (x - x.mean()) / np.sqrt(x.var() + 1e-5) * SQUARE[0] + SHIFT,
        ),
        (Dense(SQUARE, SHIFT, "tanh"), lambda x: np.tanh(x @ SQUARE + SHIFT)),
        (Dense(SQUARE, None, "relu", "input"), lambda x: np.maximum(x @ SQUARE, 0) + x),
        (Dense(WIDE, None, "identity", WIDE), lambda x: 2 * x @ WIDE),
    ],
    ids=["normalize", "norm", "dense", "residual", "projected"],
)
def test_a_step_is_what_numpy_makes_of_the_mean(
    step: Step, expected: Callable[[Vector], Vector], tmp_path: Path
) -> None:
    backbone = make(tmp_path, Pooling(("mean",), (step,)))
    rows = [backbone.preprocess(text) for text in TEXTS]
    found = backbone.run(rows, ["tokens", "pooled"])
    for number, row in enumerate(rows):
        mean = found["tokens"][number, : row.length].mean(axis=0)
        assert found["pooled"][number] == pytest.approx(expected(mean), abs=1e-5)
