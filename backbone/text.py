"""Text preprocessing without torch: one text to one row of token ids, rows to padded arrays."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from backbone.errors import BackboneError
from backbone.manifest import TextPreprocessing

# Rows are made one at a time: its threads for batches would have nothing to do.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

IDS = "input_ids"
MASK = "attention_mask"
# The graph inputs that can be fed for a single text; anything else cannot be guessed.
KNOWN_INPUTS = frozenset({IDS, MASK, "token_type_ids"})


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Where the tokens of a text stand in it; special tokens, which stand nowhere, are left out.

    `positions` [s] are the tokens' places in the row, `characters` the [start, end) of each in the
    text, counted in Unicode code points.
    """

    positions: NDArray[np.intp]
    characters: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class TextRow:
    """One preprocessed text: token ids [t], int64, 1 <= t <= max_length; spans if asked for."""

    ids: NDArray[np.int64]
    spans: Spans | None = None

    @property
    def length(self) -> int:
        """Tokens, the unit in which batches are bounded."""
        return len(self.ids)


class TextPreprocessor:
    """Tokenizes one text at a time, so that a row never depends on its neighbours."""

    def __init__(self, tokenizer_file: Path, settings: TextPreprocessing) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        except Exception as error:  # tokenizers raises bare Exception
            raise BackboneError(f"{tokenizer_file} is not a tokenizer file: {error}") from error
        # The file's own padding and truncation are for other uses than ours.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(settings.max_length)
        self._pad_id = settings.pad_id

    def row(self, text: str, with_spans: bool = False, at_once: bool = False) -> TextRow:
        """Token ids of `text`, special tokens included, cut at the backbone's max_length.

        A tokenizer without special tokens gives nothing for an empty text: one padding token
        stands in, since a row must have something to pool. `at_once` keeps the interpreter from
        other threads meanwhile: of a short text, to wait for them takes longer than the text.
        """
        # `encode` keeps the interpreter locked, for a second at a long text; batches of one do not.
        if at_once:
            encoding = self._tokenizer.encode(text)
        elif with_spans:
            encoding = self._tokenizer.encode_batch([text])[0]
        else:
            encoding = self._tokenizer.encode_batch_fast([text])[0]  # without places in the text
        ids = np.asarray(encoding.ids or [self._pad_id], dtype=np.int64)
        # The encoding itself is not kept: it holds the tokens that were cut off, too, and took
        # 10 MB for a text of 100,000 characters.
        return TextRow(ids, _spans(encoding) if with_spans else None)

    def collate(
        self, rows: Sequence[TextRow], inputs: Sequence[str]
    ) -> dict[str, NDArray[np.int64]]:
        """The graph's inputs for `rows`: arrays [n, t] with t the longest row, at least two.

        For a single token ONNX Runtime takes a matrix-vector kernel that sums in another order:
        a row of one token would have other bits alone than beside a longer one.
        """
        lengths = [len(row.ids) for row in rows]
        shape = (len(rows), max(2, *lengths))
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        for position, row in enumerate(rows):
            ids[position, : lengths[position]] = row.ids
        arrays = {}
        for name in inputs:
            if name == IDS:
                arrays[name] = ids
            elif name == MASK:
                arrays[name] = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
            else:
                arrays[name] = np.zeros(shape, dtype=np.int64)
        return arrays


def _spans(encoding: Encoding) -> Spans:
    positions = np.flatnonzero(np.asarray(encoding.special_tokens_mask) == 0)
    offsets = encoding.offsets  # the property makes a new list each time
    return Spans(positions, tuple(offsets[position] for position in positions))
