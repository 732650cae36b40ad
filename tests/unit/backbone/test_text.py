"""Tokens and where they stand in a text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from backbone.manifest import TextPreprocessing
from backbone.text import TextPreprocessor

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "in", "tokyo", "東", "京", "ne", "##w", "🚀"]


@pytest.fixture
def preprocessor(tmp_path: Path) -> TextPreprocessor:
    """With a word-piece tokenizer like BERT's: lower case, no accents, special tokens."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return TextPreprocessor(tmp_path / "tokenizer.json", TextPreprocessing(max_length=6, pad_id=0))


def pieces(preprocessor: TextPreprocessor, text: str) -> list[str]:
    spans = preprocessor.row(text, with_spans=True).spans
    assert spans is not None
    return [text[start:end] for start, end in spans.characters]


def test_spans_are_made_only_where_they_are_asked_for(preprocessor: TextPreprocessor) -> None:
    plain, spanned = preprocessor.row("in Tokyo"), preprocessor.row("in Tokyo", with_spans=True)
    assert plain.spans is None
    assert np.array_equal(plain.ids, spanned.ids)


def test_special_tokens_stand_nowhere(preprocessor: TextPreprocessor) -> None:
    row = preprocessor.row("in Tokyo", with_spans=True)
    assert row.ids.tolist() == [2, 4, 5, 3]
    assert row.spans is not None
    assert row.spans.positions.tolist() == [1, 2]
    assert row.spans.characters == ((0, 2), (3, 8))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("🚀 in 東京", ["🚀", "in", "東", "京"]),
        ("né Tokyo", ["né", "Tokyo"]),
        ("new", ["ne", "w"]),
        ("👩‍🚀 in", ["👩‍🚀", "in"]),
        ("", []),
        ("  ", []),
    ],
)
def test_characters_are_those_of_the_text_as_it_was_given(
    text: str, expected: list[str], preprocessor: TextPreprocessor
) -> None:
    assert pieces(preprocessor, text) == expected


@given(st.text(st.sampled_from("inne tokyoné東京🚀x,.")) | st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_row_made_at_once_is_the_same(preprocessor: TextPreprocessor, text: str) -> None:
    for with_spans in (False, True):
        one = preprocessor.row(text, with_spans)
        other = preprocessor.row(text, with_spans, at_once=True)
        assert np.array_equal(one.ids, other.ids)
        assert (one.spans is None) == (other.spans is None) == (not with_spans)
        if one.spans is not None and other.spans is not None:
            assert one.spans.characters == other.spans.characters
            assert np.array_equal(one.spans.positions, other.spans.positions)


def test_what_is_cut_off_has_no_span(preprocessor: TextPreprocessor) -> None:
    row = preprocessor.row("in " * 50, with_spans=True)
    assert row.spans is not None
    assert (row.length, len(row.spans.positions)) == (6, 4)


def test_a_stand_in_for_nothing_has_no_span(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    preprocessor = TextPreprocessor(
        tmp_path / "tokenizer.json", TextPreprocessing(max_length=6, pad_id=0)
    )
    row = preprocessor.row("", with_spans=True)
    assert row.spans is not None
    assert (row.length, row.spans.positions.tolist(), row.spans.characters) == (1, [], ())
