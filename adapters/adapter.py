"""An adapter in memory: read strictly, proven by its golden rows, ready to answer."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from adapters.container import MAX_FILE_BYTES, read_container, write_container
from adapters.errors import InvalidAdapter
from adapters.heads import HEADS, Head, HeadFailed
from adapters.manifest import Manifest, parse_manifest

GOLDEN_FEATURES = "golden.features"
GOLDEN_SCORES = "golden.scores"
MAX_GOLDEN_ROWS = 16
GOLDEN_TOLERANCE = 1e-4  # scores are compared across machines, where equal bits are not promised

Ranked = list[tuple[str, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """One immutable version; `width` is its feature's, `size` the bytes that it keeps in memory."""

    digest: str
    manifest: Manifest
    head: Head
    width: int
    size: int

    def rank(self, feature: NDArray[np.float32], top_k: int) -> Ranked:
        """The `top_k` labels of one row with their scores, best first; raises HeadFailed."""
        return rank(self.manifest.labels, self.head.score(feature), top_k)


def rank(labels: Sequence[str], scores: NDArray[np.float32], top_k: int) -> Ranked:
    """Labels by falling score; equal scores keep the labels' order."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [(labels[index], float(scores[index])) for index in order]


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
    kind = HEADS[manifest.head]
    expected = kind.TENSORS | {GOLDEN_FEATURES, GOLDEN_SCORES}
    if set(tensors) != expected:
        raise InvalidAdapter(
            f"a {manifest.head} head has the tensors {sorted(expected)}; missing: "
            f"{sorted(expected - set(tensors))}, unknown: {_shown(set(tensors) - expected)}"
        )
    head = _prove(kind, manifest, tensors)
    width = tensors[GOLDEN_FEATURES].shape[1]
    return Adapter(hashlib.sha256(content).hexdigest(), manifest, head, width, len(content))


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
    """The bytes of an adapter file whose golden rows are the features `golden` [g, d].

    The result has been read back: what this returns, every loader accepts.
    """
    head = HEADS[manifest.head].build(manifest, tensors, golden.shape[1])
    scores = np.stack([head.score(feature) for feature in golden])
    everything = {**tensors, GOLDEN_FEATURES: golden, GOLDEN_SCORES: scores}
    content = write_container(manifest.to_json(), everything)
    read_adapter(content)
    return content


def _prove(
    kind: type[Head], manifest: Manifest, tensors: Mapping[str, NDArray[np.float32]]
) -> Head:
    """Build the head and recompute the golden rows."""
    features, scores = tensors[GOLDEN_FEATURES], tensors[GOLDEN_SCORES]
    if features.ndim != 2 or not 1 <= len(features) <= MAX_GOLDEN_ROWS:
        raise InvalidAdapter(f"{GOLDEN_FEATURES} must be [1 to {MAX_GOLDEN_ROWS} rows, width]")
    if scores.shape != (len(features), len(manifest.labels)):
        raise InvalidAdapter(
            f"{GOLDEN_SCORES} must be {[len(features), len(manifest.labels)]} (a score a label for "
            f"each golden row), not {list(scores.shape)}"
        )
    head = kind.build(manifest, tensors, features.shape[1])
    for number, (feature, expected) in enumerate(zip(features, scores, strict=True)):
        try:
            found = head.score(feature)
        except HeadFailed as error:
            raise InvalidAdapter(f"golden row {number}: {error}") from error
        gap = float(np.max(np.abs(found - expected)))
        if not gap <= GOLDEN_TOLERANCE:
            raise InvalidAdapter(
                f"golden row {number}: the recomputed scores differ from the file's by {gap:.2g} "
                f"(limit {GOLDEN_TOLERANCE:g}); the weights are not the ones that were measured"
            )
    return head


def _first(error: ValidationError) -> str:
    """One line for the first of pydantic's complaints, without the input's text."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "manifest"
    return f"{where[:120]}: {first['msg']}"


def _shown(names: set[str]) -> str:
    return ascii(sorted(name[:80] for name in names)[:5])
