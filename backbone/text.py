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
    """Where the tokens of a text stand in it; special tokens and the prompt's are left out.

    `positions` [s] are the tokens' places in the row, `characters` the [start, end) of each in the
    text, counted in Unicode code points.
    """

    positions: NDArray[np.intp]
    characters: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class TextRow:
    """One preprocessed text: token ids [t], int64, 1 <= t <= max_length; spans if asked for.

    `truncated` says that the text had more tokens, which were cut off.
    """

    ids: NDArray[np.int64]
    spans: Spans | None = None
    truncated: bool = False

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
        # The file's own padding is for other uses than ours; of truncation it knows the side.
        side = (self._tokenizer.truncation or {}).get("direction", "right")
        self._tokenizer.no_padding()
        _check_prompts(self._tokenizer, settings)
        self._tokenizer.enable_truncation(settings.max_length, direction=side)
        _remember_no_words(self._tokenizer)
        self._pad_id = settings.pad_id
        self._prompt = settings.prompt
        self._max_length = settings.max_length

    def row(
        self,
        text: str,
        with_spans: bool = False,
        at_once: bool = False,
        prompt: str | None = None,
    ) -> TextRow:
        """Token ids of prompt and `text`, special tokens included, cut at max_length.

        A tokenizer without special tokens gives nothing for an empty text: one padding token
        stands in, since a row must have something to pool. `at_once` keeps the interpreter from
        other threads meanwhile: of a short text, to wait for them takes longer than the text.
        """
        # `encode` keeps the interpreter locked, for a second at a long text; batches of one do not.
        prompt = self._prompt if prompt is None else prompt
        prompted = prompt + text
        if at_once:
            encoding = self._tokenizer.encode(prompted)
        elif with_spans:
            encoding = self._tokenizer.encode_batch([prompted])[0]
        else:
            # The fast one gives no places in the text.
            encoding = self._tokenizer.encode_batch_fast([prompted])[0]
        return self._row(encoding, with_spans, prompt)

    def _row(self, encoding: Encoding, with_spans: bool, prompt: str) -> TextRow:
        ids = np.asarray(encoding.ids or [self._pad_id], dtype=np.int64)
        # The encoding itself is not kept: it holds the tokens that were cut off, too, and took
        # 10 MB for a text of 100,000 characters.
        return TextRow(
            ids,
            spans=_spans(encoding, len(prompt)) if with_spans else None,
            # What was cut off is copied by asking for it: of short rows nothing was.
            truncated=len(ids) == self._max_length and bool(encoding.overflowing),
        )

    def text_of(self, ids: Sequence[int]) -> str | None:
        """The text for which the tokenizer gives exactly `ids`, special tokens included, or None.

        Ids of another tokenizer are numbers in the same range. Of what tiktoken makes of the first
        two words of 3,000 questions (BANKING77), 22 % would pass for MiniLM's ids if special tokens
        were not asked for, and 77 to 90 % for those of byte-level BPE, which adds none; with
        special tokens none passes. So a tokenizer that adds none has no ids taken. Nor are more
        than max_length: what the tokenizer gives for so long a text is cut.
        """
        tokenizer = self._tokenizer
        if not tokenizer.num_special_tokens_to_add(False) or len(ids) > self._max_length:
            return None
        size = tokenizer.get_vocab_size()
        if not all(0 <= each < size for each in ids):
            return None
        text = tokenizer.decode(list(ids), skip_special_tokens=True)
        (encoding,) = tokenizer.encode_batch_fast([text])
        return text if encoding.ids == list(ids) else None

    def rows(
        self, texts: Sequence[str], with_spans: bool = False, prompt: str | None = None
    ) -> list[TextRow]:
        """Make the rows of several texts in one call, each as `row` makes it.

        The interpreter is left to other threads meanwhile, and waited for once.
        """
        prompt = self._prompt if prompt is None else prompt
        prompted = [prompt + text for text in texts]
        encode = self._tokenizer.encode_batch if with_spans else self._tokenizer.encode_batch_fast
        return [self._row(encoding, with_spans, prompt) for encoding in encode(prompted)]

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


def _check_prompts(tokenizer: Tokenizer, settings: TextPreprocessing) -> None:
    """A prompt must leave room for a text."""
    for prompt in filter(None, (settings.prompt, *settings.prompts.values())):
        tokenizer.no_truncation()
        taken = len(tokenizer.encode(prompt).ids)
        if taken >= settings.max_length:
            raise BackboneError(
                f"the prompt {prompt[:80]!r} takes {taken} tokens, which leaves nothing of the "
                f"{settings.max_length} that a text may have; choose a shorter one with --prompt"
            )


def _remember_no_words(tokenizer: Tokenizer) -> None:
    """Turn off the words' cache of BPE and Unigram: it is one for all tenants.

    A text whose words were seen lately takes half the time, by which one tenant could guess at
    another's. WordPiece and WordLevel have no such cache.
    """
    model = tokenizer.model
    if hasattr(model, "_resize_cache"):
        model._resize_cache(0)


def _spans(encoding: Encoding, prompt: int) -> Spans:
    """Spans in the text alone, which begins after `prompt` characters.

    A token of both has the part of it that is in the text.
    """
    offsets = encoding.offsets  # the property makes a new list each time
    ordinary = np.flatnonzero(np.asarray(encoding.special_tokens_mask) == 0)
    positions = [place for place in ordinary if not prompt or offsets[place][1] > prompt]
    characters = (
        (max(offsets[each][0] - prompt, 0), offsets[each][1] - prompt) for each in positions
    )
    return Spans(np.asarray(positions, dtype=np.intp), tuple(characters))
