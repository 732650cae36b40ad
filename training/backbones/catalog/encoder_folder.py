"""A BERT's weights become a folder of sentence-transformers, which is added like any other."""

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from backbone.errors import BackboneError
from backbone.manifest import Source
from training.backbones.folder import MODULES, POOLING, PROMPTS, WEIGHTS, ModelFolder

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Names the tokens that transformers asks a tokenizer for."""

    cls: str
    sep: str
    pad: str
    unk: str
    mask: str


@dataclass(frozen=True, slots=True)
class Bert:
    """Holds a BERT, and as `tokenizer` the content of its tokenizer.json.

    `weights` are named as in transformers, `config` is what differs from the defaults there.
    """

    weights: Weights
    config: Mapping[str, Any]
    tokenizer: bytes
    tokens: SpecialTokens


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Says what sentence-transformers does, beside taking the mean of the tokens.

    `prompts` are by name; that of the name `default_prompt` is put before every text.
    """

    max_length: int
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    normalize: bool = False


def write_folder(source: Source, model: Bert, pipeline: Pipeline) -> ModelFolder:
    """Write a temporary folder, which is removed with the object that is returned.

    Raises:
        BackboneError: there is no room for it.
    """
    path = Path(tempfile.mkdtemp(prefix="headstock-model-"))
    folder = ModelFolder(path, source)
    weakref.finalize(folder, shutil.rmtree, path, ignore_errors=True)
    try:
        _write_files(path, model, pipeline)
    except (OSError, SafetensorError) as error:
        raise BackboneError(
            f"the weights of {source.id} cannot be written to {path.parent} ({error}); name "
            "another folder with TMPDIR"
        ) from error
    return folder


def _write_files(path: Path, model: Bert, pipeline: Pipeline) -> None:
    save_file(dict(model.weights), path / WEIGHTS, metadata={"format": "pt"})
    (path / "tokenizer.json").write_bytes(model.tokenizer)
    modules = ["Transformer", "Pooling", *(["Normalize"] if pipeline.normalize else [])]
    prompts = {
        "prompts": dict(pipeline.prompts),
        "default_prompt_name": pipeline.default_prompt,
    }
    documents: dict[str, Any] = {
        "config.json": {"model_type": "bert", "architectures": ["BertModel"], **model.config},
        "tokenizer_config.json": _tokenizer_config(model.tokens, pipeline.max_length),
        MODULES: [
            {
                "idx": number,
                "name": str(number),
                "path": f"{number}_{kind}" if number else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for number, kind in enumerate(modules)
        ],
        "sentence_bert_config.json": {"max_seq_length": pipeline.max_length},
        POOLING: {
            "word_embedding_dimension": model.config["hidden_size"],
            "pooling_mode_mean_tokens": True,
        },
        PROMPTS: prompts if pipeline.prompts else {},
    }
    for name, content in documents.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(json.dumps(content))


def _tokenizer_config(tokens: SpecialTokens, max_length: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "cls_token": tokens.cls,
        "sep_token": tokens.sep,
        "pad_token": tokens.pad,
        "unk_token": tokens.unk,
        "mask_token": tokens.mask,
    }
