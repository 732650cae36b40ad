"""Features from the very graph that serves, computed once and kept on disk by content."""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from adapters.lora import Lora
from backbone import Backbone, Spans, TextRow
from backbone.cores import cores
from training.errors import TrainingError

# Features: of a text, of its tokens, of a text in each layer.
POOLED, TOKENS, LAYERS = "pooled", "tokens", "layers"
Progress = Callable[[int, int], None]  # done, total
Feature = NDArray[np.float32]
Rows = list[tuple[bytes, Feature, bool]]  # key, feature, whether the text was truncated
_BATCH_TOKENS = 256  # small batches on one-threaded runs, one a core, are the fastest on CPU
_KEYS_A_QUERY = 500  # SQLite allows 999 bound parameters in its older builds
_WRITE_EVERY_S = 2.0


class FeatureCache:
    """Feature rows by backbone, computer, feature and exact text, in one SQLite file.

    Several trainings may share it: a write is short, and none is open while rows are computed. It
    holds only what can be computed again: deleting the file is always safe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection to the file, made where missing. Raises TrainingError for its failures."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=30)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, feature BLOB NOT NULL,"
                    " truncated INTEGER NOT NULL) WITHOUT ROWID"
                )
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise TrainingError(
                f"the feature cache {self.path} cannot be used ({error}); free some space, delete "
                "it (it is only a cache), or set HEADSTOCK_HOME to a folder that can be written"
            ) from error


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Texts behind a backbone: [d] each, [L, d] of its layers, or [t, d] of the t `tokens`.

    `truncated` says of which texts the backbone has not read all: the rest of the `max_length`
    tokens that it takes.
    """

    features: Sequence[Feature]
    tokens: Sequence[Spans] | None = None
    truncated: Sequence[bool] = ()
    max_length: int | None = None

    def part(self, start: int, end: int) -> Self:
        """Texts `start` to `end`."""
        return replace(
            self,
            features=self.features[start:end],
            tokens=None if self.tokens is None else self.tokens[start:end],
            truncated=self.truncated[start:end],
        )

    def pick(self, places: Iterable[int]) -> Self:
        """Some of the texts."""
        found = list(places)
        return replace(
            self,
            features=[self.features[place] for place in found],
            tokens=None if self.tokens is None else [self.tokens[place] for place in found],
            truncated=[self.truncated[place] for place in found] if self.truncated else (),
        )


NOTHING = Encoded(())


def encode_texts(
    backbone: Backbone,
    texts: Sequence[str],
    feature: str,
    cache: FeatureCache,
    progress: Progress,
    lora: Lora | None = None,
) -> Encoded:
    """Compute what a server gives to heads, for each text. Raises as `compute_features`."""
    rows = _compute_rows(backbone, texts, feature, cache, progress, lora)
    features, truncated = [row for row, _ in rows], [is_truncated for _, is_truncated in rows]
    max_length = backbone.manifest.preprocessing.max_length
    if not backbone.manifest.features[feature].per_token:
        return Encoded(features, None, truncated, max_length)
    tokens = [backbone.preprocess(text, with_spans=True).spans for text in texts]
    found = [each for each in tokens if each is not None]
    # As a server: special tokens have no tag.
    given = [row[each.positions] for row, each in zip(features, found, strict=True)]
    return Encoded(given, found, truncated, max_length)


def compute_features(
    backbone: Backbone,
    texts: Sequence[str],
    feature: str,
    cache: FeatureCache,
    progress: Progress,
    lora: Lora | None = None,
) -> list[Feature]:
    """The feature of each text, [d], [L, d] or [t, d], from the cache where it is there.

    What is done is kept at an interruption. Raises TrainingError, BackboneError.
    """
    rows = _compute_rows(backbone, texts, feature, cache, progress, lora)
    return [row for row, _ in rows]


def _compute_rows(
    backbone: Backbone,
    texts: Sequence[str],
    feature: str,
    cache: FeatureCache,
    progress: Progress,
    lora: Lora | None,
) -> list[tuple[Feature, bool]]:
    """Compute the feature of each text, and whether the text was truncated."""
    known = backbone.manifest.features
    if feature not in known:
        hint = "; add it again under another name, with --layers" if feature == LAYERS else ""
        raise TrainingError(
            f"backbone {backbone.name} has no feature {feature[:80]!r}, only {sorted(known)}{hint}"
        )
    shape = [-1 if each == "t" else int(each) for each in known[feature].dims[1:]]
    behind = "" if lora is None else lora.digest
    keys = [_key(backbone, feature, behind, text) for text in texts]
    missing = dict(zip(keys, texts, strict=True))
    found: dict[bytes, tuple[Feature, bool]] = {}
    with cache.connection() as connection:
        for key, row, truncated in _read(connection, list(missing)):
            found[key] = np.frombuffer(row, dtype=np.float32).reshape(shape), bool(truncated)
            del missing[key]
        progress(len(found), len(found) + len(missing))
        unwritten: Rows = []
        written_at = time.monotonic()
        try:
            for rows in _run(backbone, missing, feature, lora):
                unwritten += rows
                found.update((key, (row, truncated)) for key, row, truncated in rows)
                progress(len(found), len(set(keys)))
                if time.monotonic() - written_at >= _WRITE_EVERY_S:
                    _write(connection, unwritten)
                    unwritten, written_at = [], time.monotonic()
        finally:
            _write(connection, unwritten)
    return [found[key] for key in keys]


def _key(backbone: Backbone, feature: str, lora: str, text: str) -> bytes:
    # Bits are promised on one computer: another one's rows would pass for what this one measures.
    parts = (backbone.digest, backbone.computer, feature, lora, text)
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _read(connection: sqlite3.Connection, keys: list[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
    for start in range(0, len(keys), _KEYS_A_QUERY):
        part = keys[start : start + _KEYS_A_QUERY]
        marks = ",".join("?" * len(part))
        yield from connection.execute(
            f"SELECT key, feature, truncated FROM rows WHERE key IN ({marks})", part
        ).fetchall()


def _write(connection: sqlite3.Connection, rows: Rows) -> None:
    with connection:
        connection.executemany(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, ?)",
            [(key, feature.tobytes(), truncated) for key, feature, truncated in rows],
        )


def _run(
    backbone: Backbone, missing: dict[bytes, str], feature: str, lora: Lora | None
) -> Iterator[Rows]:
    """Run what is missing in batches of near lengths, as many at once as there are cores."""
    rows = sorted(
        ((key, backbone.preprocess(text)) for key, text in missing.items()),
        key=lambda item: (item[1].length, item[0]),
    )

    placed = None
    if lora is not None:
        weights = {name: (site.a, site.b) for name, site in lora.sites.items()}
        placed = backbone.lora_pool(lora.rank).place(range(1, 1 + lora.rank), weights)

    def run(batch: list[tuple[bytes, TextRow]]) -> Rows:
        loras = [placed] * len(batch) if placed else ()
        values = backbone.run([row for _, row in batch], [feature], loras)[feature]
        is_padded = backbone.manifest.features[feature].per_token
        return [
            (key, value[: row.length] if is_padded else value, row.truncated)
            for (key, row), value in zip(batch, values, strict=True)
        ]

    pool = ThreadPoolExecutor(cores())
    try:
        yield from pool.map(run, _batches(rows))
    finally:
        pool.shutdown(cancel_futures=True)  # an interruption does not wait for the whole queue


def _batches(rows: list[tuple[bytes, TextRow]]) -> Iterator[list[tuple[bytes, TextRow]]]:
    """Cut rows, shortest first, into batches of at most `_BATCH_TOKENS` padded tokens."""
    batch: list[tuple[bytes, TextRow]] = []
    for item in rows:
        if batch and item[1].length * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
