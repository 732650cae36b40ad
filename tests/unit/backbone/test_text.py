"""Tokens and where they stand in a text."""

import random
import statistics
import string
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from backbone.errors import BackboneError
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
def test_a_row_made_at_once_or_beside_others_is_the_same(
    preprocessor: TextPreprocessor, text: str
) -> None:
    for with_spans in (False, True):
        one = preprocessor.row(text, with_spans)
        at_once = preprocessor.row(text, with_spans, at_once=True)
        _, beside, _ = preprocessor.rows(["in " * 50, text, ""], with_spans)
        for other in (at_once, beside):
            assert np.array_equal(one.ids, other.ids)
            assert (one.spans is None) == (other.spans is None) == (not with_spans)
            if one.spans is not None and other.spans is not None:
                assert one.spans.characters == other.spans.characters
                assert np.array_equal(one.spans.positions, other.spans.positions)


@pytest.mark.parametrize("with_spans", [False, True])
@pytest.mark.parametrize(
    ("text", "is_truncated"),
    [("", False), ("in in in in", False), ("in in in in in", True), ("in " * 1000, True)],
    ids=["empty", "as long as may be", "one token more", "much longer"],
)
def test_a_row_knows_that_its_text_was_truncated(
    preprocessor: TextPreprocessor, text: str, is_truncated: bool, with_spans: bool
) -> None:
    ways = [
        preprocessor.row(text, with_spans),
        preprocessor.row(text, with_spans, at_once=True),
        *preprocessor.rows([text], with_spans),
    ]
    assert [row.truncated for row in ways] == [is_truncated] * 3


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


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_words_that_were_seen_take_as_long_as_new_ones(tmp_path: Path, kind: str) -> None:
    """The libraries' own cache of words would tell one tenant what another one wrote."""
    chooser = random.Random(kind)

    def text() -> str:
        words = ("".join(chooser.choices(string.ascii_lowercase, k=16)) for _ in range(40))
        return " ".join(words)

    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
        trainer: Any = trainers.BpeTrainer(vocab_size=2000, special_tokens=["[UNK]"])
    else:
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=500, special_tokens=["[UNK]"], unk_token="[UNK]"
        )
    trainer.show_progress = False
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([text() for _ in range(40)], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    made = TextPreprocessing(max_length=512, pad_id=0)
    preprocessor = TextPreprocessor(tmp_path / "tokenizer.json", made)
    seen = [text() for _ in range(150)]
    seconds: tuple[list[float], list[float]] = ([], [])
    for each in seen:
        preprocessor.row(each, at_once=True)
    for each in seen:
        for times, asked in zip(seconds, (each, text()), strict=True):
            started = time.perf_counter()
            preprocessor.row(asked, at_once=True)
            times.append(time.perf_counter() - started)
    ratio = statistics.median(seconds[0]) / statistics.median(seconds[1])
    assert ratio > 0.87  # 0.7 with that cache


def prompted(folder: Path, prompt: str, max_length: int = 8) -> TextPreprocessor:
    settings = TextPreprocessing(max_length=max_length, pad_id=0, prompt=prompt)
    return TextPreprocessor(folder / "tokenizer.json", settings)


def test_a_prompt_stands_before_every_text_and_has_no_span(
    preprocessor: TextPreprocessor, tmp_path: Path
) -> None:
    rows = [
        prompted(tmp_path, "new ").row("in Tokyo", with_spans, at_once)
        for with_spans in (False, True)
        for at_once in (False, True)
    ]
    for row in rows:
        assert row.ids.tolist() == preprocessor.row("new in Tokyo").ids.tolist()
    for spans in (row.spans for row in rows if row.spans is not None):
        assert spans.positions.tolist() == [3, 4]
        assert spans.characters == ((0, 2), (3, 8))


def test_a_token_of_prompt_and_text_has_the_part_in_the_text(
    preprocessor: TextPreprocessor, tmp_path: Path
) -> None:
    row = prompted(tmp_path, "to").row("kyo in", with_spans=True)
    assert row.spans is not None
    assert row.spans.characters == ((0, 3), (4, 6))


def test_an_empty_text_behind_a_prompt_has_no_span(
    preprocessor: TextPreprocessor, tmp_path: Path
) -> None:
    row = prompted(tmp_path, "in ").row("", with_spans=True)
    assert row.ids.tolist() == [2, 4, 3]
    assert row.spans is not None
    assert (row.spans.positions.tolist(), row.spans.characters) == ([], ())


def test_a_prompt_counts_towards_the_length_and_must_leave_room(
    preprocessor: TextPreprocessor, tmp_path: Path
) -> None:
    row = prompted(tmp_path, "in in ", max_length=6).row("tokyo " * 9, with_spans=True)
    assert row.ids.tolist() == [2, 4, 4, 5, 5, 3]
    assert row.spans is not None
    assert row.spans.characters == ((0, 5), (6, 11))
    with pytest.raises(BackboneError, match=r"the prompt 'in in ' takes 4 tokens.* the 4 that"):
        prompted(tmp_path, "in in ", max_length=4)


def marked(tmp_path: Path, special: bool = True, max_length: int = 6) -> TextPreprocessor:
    """With special tokens that the file calls so, as transformers saves it, or with none."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(WORDS[:4])
    if special:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "marked.json"))
    settings = TextPreprocessing(max_length=max_length, pad_id=0, prompt="in ")
    return TextPreprocessor(tmp_path / "marked.json", settings)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([2, 4, 5, 3], "in tokyo"),
        ([2, 8, 9, 3], "new"),
        ([2, 3], ""),
        ([4, 5], None),  # no special tokens
        ([2, 4, 5], None),
        ([2, 4, 3, 3], None),
        ([2, 9, 3], None),  # a piece of a word, which begins none
        ([2, 1, 3], None),  # what the tokenizer does not know
        ([2, 0, 3], None),
        ([2, 11, 3], None),  # beyond the vocabulary
        ([2, -1, 3], None),
        ([2, 2**40, 3], None),
        ([2, 4, 4, 4, 4, 4, 3], None),  # longer than what is read
        ([], None),
    ],
)
def test_ids_stand_for_the_text_that_gives_them(
    ids: list[int], text: str | None, tmp_path: Path
) -> None:
    preprocessor = marked(tmp_path)
    assert preprocessor.text_of(ids) == text
    if text is not None:
        assert preprocessor.row(text, prompt="").ids.tolist() == ids


def test_a_tokenizer_that_adds_no_special_tokens_has_ids_of_no_text(tmp_path: Path) -> None:
    assert marked(tmp_path, special=False).text_of([4, 5]) is None


def test_another_prompt_may_stand_before_a_text(tmp_path: Path) -> None:
    preprocessor = marked(tmp_path)
    for prompt, ids in ((None, [2, 4, 5, 3]), ("", [2, 5, 3]), ("ne ", [2, 8, 5, 3])):
        assert preprocessor.row("tokyo", prompt=prompt).ids.tolist() == ids
    spans = preprocessor.row("tokyo", with_spans=True, prompt="ne ").spans
    assert spans is not None
    assert spans.characters == ((0, 5),)


CORPUS = [
    "Where is my order? It isn't here -- 3,000 days!",
    "größer, naïve: 東京 e\u0301",
    "a  b\tc",
]


def family(kind: str) -> Tokenizer:
    """A tokenizer as those of BERT, RoBERTa or XLM-R, which knows every character of the corpus."""
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer: Any = trainers.WordPieceTrainer(special_tokens=["[UNK]", "<s>", "</s>"])
    elif kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
        special = ["<s>", "</s>"]
        trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=letters)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        special = ["<unk>", "<s>", "</s>"]
        trainer = trainers.UnigramTrainer(
            special_tokens=special, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(CORPUS, trainer)
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=marks
    )
    return tokenizer


@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "unigram"])
def test_what_a_tokenizer_gives_it_takes_in_every_family(kind: str, tmp_path: Path) -> None:
    family(kind).save(str(tmp_path / "family.json"))
    settings = TextPreprocessing(max_length=200, pad_id=0)
    preprocessor = TextPreprocessor(tmp_path / "family.json", settings)
    for text in (*CORPUS, "", "Where", " ".join(CORPUS[:2])):
        ids = preprocessor.row(text).ids.tolist()
        found = preprocessor.text_of(ids)
        assert found is not None, text
        assert preprocessor.row(found).ids.tolist() == ids
        assert preprocessor.text_of(ids[1:]) is None
        assert preprocessor.text_of(ids[:-1]) is None
        assert preprocessor.text_of(ids + ids) is None
