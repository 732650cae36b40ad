"""An adapter in memory: read strictly, proven by its golden rows, ready to answer."""

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from adapters.answers import Answer
from adapters.container import MAX_FILE_BYTES, read_container, write_container
from adapters.errors import InvalidAdapter
from adapters.heads import HEADS, HeadFailed
from adapters.lora import Lora, build_lora, lora_tensors
from adapters.manifest import Manifest, parse_manifest
from adapters.scoring import Scorer, build_scorer

GOLDEN_FEATURES = "golden.features"
GOLDEN_SCORES = "golden.scores"
MAX_GOLDEN_ROWS = 16
GOLDEN_TOLERANCE = 1e-4  # scores are compared across machines, where equal bits are not promised


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """One immutable version; `width` is its feature's, `size` the bytes that it keeps in memory."""

    digest: str
    manifest: Manifest
    scorer: Scorer
    lora: Lora | None
    width: int
    size: int

    @property
    def per_token(self) -> bool:
        """Whether a row's feature is a vector a token, [t, d], and not one, [d]."""
        return self.scorer.task.PER_TOKEN

    def score(self, feature: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores [C] of one row's feature [d], or [L, d] for a mix; raises HeadFailed.

        Of a tagging adapter also [t, C] of [t, d].
        """
        return self.scorer.score(feature)

    def answer(self, feature: NDArray[np.float32], top_k: int) -> Answer:
        """The answer to one row's feature [d], [L, d] for a mix, or [t, d] where the adapter tags.

        `top_k` bounds the labels that classification and multilabel rank. Raises HeadFailed.
        """
        return self.scorer.answer(feature, top_k)

    def for_serving(self) -> Self:
        """The same without `training` and `measured`: 10 KB as objects that no answer needs."""
        lean = self.manifest.model_copy(update={"training": None, "measured": None})
        return replace(self, manifest=lean)


def read_adapter(content: bytes) -> Adapter:
    """Parse, check and prove an adapter file.

    Raises:
        TooLarge, InvalidAdapter: with what is wrong and where.
    """
    text, tensors = read_container(content)
    try:
        manifest = parse_manifest(text)
    except ValidationError as error:
        raise InvalidAdapter(f"the manifest is not valid: {_first(error)}") from error
    except ValueError as error:
        raise InvalidAdapter(f"the manifest is not valid: {error}") from error
    expected = HEADS[manifest.head].TENSORS | {GOLDEN_FEATURES, GOLDEN_SCORES}
    expected |= lora_tensors(manifest.lora)
    if set(tensors) != expected:
        raise InvalidAdapter(
            f"a {manifest.head} head {'and LoRA have' if manifest.lora else 'has'} the tensors "
            f"{_shown(expected)}; missing: {_shown(expected - set(tensors))}, unknown: "
            f"{_shown(set(tensors) - expected)}"
        )
    scorer = _prove(manifest, tensors)
    lora = build_lora(manifest.lora, tensors)
    width = tensors[GOLDEN_FEATURES].shape[1]
    digest = hashlib.sha256(content).hexdigest()
    return Adapter(digest, manifest, scorer, lora, width, len(content))


def read_adapter_file(path: Path) -> Adapter:
    """Read and prove an adapter file. Raises InvalidAdapter."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidAdapter(f"{path} has more than the {MAX_FILE_BYTES} bytes of an adapter")
        content = path.read_bytes()
    except OSError as error:
        raise InvalidAdapter(f"cannot read {path}: {error.strerror}") from error
    try:
        return read_adapter(content)
    except InvalidAdapter as error:
        raise InvalidAdapter(f"{path}: {error}") from error


def build_adapter(
    manifest: Manifest, tensors: Mapping[str, NDArray[np.float32]], golden: NDArray[np.float32]
) -> bytes:
    """The bytes of an adapter file whose golden rows are the vectors `golden` [g, d].

    The result has been read back: what this returns, every loader accepts.
    """
    scorer = build_scorer(manifest, tensors, golden.shape[1])
    scores = np.stack([scorer.score_vector(vector) for vector in golden])
    everything = {**tensors, GOLDEN_FEATURES: golden, GOLDEN_SCORES: scores}
    content = write_container(manifest.to_json(), everything)
    read_adapter(content)
    return content


def _prove(manifest: Manifest, tensors: Mapping[str, NDArray[np.float32]]) -> Scorer:
    """Build head and task and recompute the golden rows."""
    features, scores = tensors[GOLDEN_FEATURES], tensors[GOLDEN_SCORES]
    if features.ndim != 2 or not 1 <= len(features) <= MAX_GOLDEN_ROWS:
        raise InvalidAdapter(f"{GOLDEN_FEATURES} must be [1 to {MAX_GOLDEN_ROWS} rows, width]")
    if scores.shape != (len(features), len(manifest.labels)):
        raise InvalidAdapter(
            f"{GOLDEN_SCORES} must be {[len(features), len(manifest.labels)]} (a score a label for "
            f"each golden row), not {list(scores.shape)}"
        )
    scorer = build_scorer(manifest, tensors, features.shape[1])
    allowed = _tolerances(manifest, scores)
    for number, (vector, expected) in enumerate(zip(features, scores, strict=True)):
        try:
            found = scorer.score_vector(vector)
        except HeadFailed as error:
            raise InvalidAdapter(f"golden row {number}: {error}") from error
        gaps = np.abs(found.astype(np.float64) - expected)
        if not (gaps <= allowed).all():
            raise InvalidAdapter(
                f"golden row {number}: the recomputed scores differ from the file's by "
                f"{float(gaps.max()):.2g} (limit {float(allowed[gaps.argmax()]):g}); the weights "
                "are not the ones that were measured"
            )
    return scorer


def _tolerances(manifest: Manifest, scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far each score [C] may be off; for values, which have units, relative to their size."""
    if manifest.task != "regression":
        return np.full(scores.shape[1], GOLDEN_TOLERANCE)
    sizes = np.abs(scores).max(axis=0).astype(np.float64)
    allowed: NDArray[np.float64] = GOLDEN_TOLERANCE * np.maximum(sizes, 1)
    return allowed


def _first(error: ValidationError) -> str:
    """One line for the first of pydantic's complaints, without the input's text."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "manifest"
    return f"{where[:120]}: {first['msg']}"


def _shown(names: Set[str]) -> str:
    return ascii(sorted(name[:80] for name in names)[:5])
