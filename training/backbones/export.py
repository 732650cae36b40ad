"""A Hugging Face text encoder to an ONNX graph with the output `tokens`, through torch."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from numpy.typing import NDArray

from backbone.errors import BackboneError
from backbone.surgery.features import Pooling

WRAPPER = "encoder."  # how `_Tokens` calls the encoder: a prefix of every module's path
_LENGTH_CAP = 512  # for a model that names no bound of its own


class _Tokens(torch.nn.Module):
    """The encoder as a function of ids and mask alone."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        tokens: torch.Tensor = output.last_hidden_state
        return tokens


class _Layers(torch.nn.Module):
    """The same, with the outputs of all layers before the last, the embedding's first."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        output = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        )
        # Some models normalise the last one once more: `tokens` is what serves.
        return output.last_hidden_state, *output.hidden_states[:-1]


@dataclass(frozen=True, slots=True)
class Encoder:
    """A loaded encoder with what its folder says about tokenizer, length and pooling."""

    model: _Tokens
    tokenizer: Any
    width: int
    max_length: int
    pad_id: int
    pooling: Pooling


def load_encoder(folder: Path) -> Encoder:
    """Load a text encoder. Raises BackboneError with what `transformers` said."""
    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(folder)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
    except Exception as error:  # transformers has no base class for "this is no model of ours"
        raise BackboneError(f"transformers cannot load {folder} as an encoder: {error}") from error
    bounds = [
        _read(folder / "sentence_bert_config.json").get("max_seq_length"),
        tokenizer.model_max_length,
        getattr(config, "max_position_embeddings", None),
        _LENGTH_CAP,
    ]
    return Encoder(
        model=_Tokens(model).eval(),
        tokenizer=tokenizer,
        width=int(config.hidden_size),
        max_length=min(int(bound) for bound in bounds if bound),
        pad_id=int(tokenizer.pad_token_id or 0),
        pooling=_pooling(folder),
    )


def inner_layers(encoder: Encoder) -> tuple[str, ...]:
    """Names for the outputs of the layers before the last, the embedding's first.

    Raises:
        BackboneError: the model does not show its layers, or they differ in width.
    """
    ids = torch.zeros((1, 2), dtype=torch.int64)
    try:
        with torch.inference_mode():
            tokens, *inner = _Layers(encoder.model.encoder)(ids, torch.ones_like(ids))
    except (AttributeError, TypeError) as error:  # no such output, or no such argument
        raise BackboneError(
            f"this model does not give the outputs of its layers ({error}); add it without --layers"
        ) from error
    if any(each.shape != tokens.shape for each in inner):
        widths = [int(each.shape[-1]) for each in (*inner, tokens)]
        raise BackboneError(
            f"the layers of this model have the widths {widths}, and only equal ones can be "
            "mixed; add it without --layers"
        )
    return tuple(f"layer_{number}" for number in range(len(inner)))


def export_tokens(encoder: Encoder, inner: Sequence[str] = ()) -> onnx.ModelProto:
    """The encoder as ONNX: `input_ids`, `attention_mask` [n, t] int64 -> `tokens` [n, t, d].

    With the names of `inner_layers`, their outputs [n, t, d] come after it.
    """
    ids = torch.randint(5, 100, (2, 6))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0  # no constant may be folded from a mask of ones
    n, t = torch.export.Dim("n", min=1), torch.export.Dim("t", min=1, max=encoder.max_length)
    with _quiet():
        program = torch.onnx.export(
            _Layers(encoder.model.encoder).eval() if inner else encoder.model,
            (ids, mask),
            dynamo=True,
            dynamic_shapes=({0: n, 1: t}, {0: n, 1: t}),
            input_names=["input_ids", "attention_mask"],
            output_names=["tokens", *inner],
            verbose=False,
        )
    assert program is not None, "dynamo=True gives a program"
    model: onnx.ModelProto = program.model_proto
    return model


def reference_features(
    encoder: Encoder, ids: Sequence[int], with_layers: bool = False
) -> dict[str, NDArray[np.float32]]:
    """What torch computes for one row alone: `tokens` [t, d], `pooled` [d], `layers` [L, d]."""
    row = torch.tensor([list(ids)])
    with torch.inference_mode():
        tokens = encoder.model(row, torch.ones_like(row))[0]
        layers = (tokens,)
        if with_layers:
            last, *inner = _Layers(encoder.model.encoder)(row, torch.ones_like(row))
            layers = tuple(each[0] for each in (*inner, last))
    is_mean = encoder.pooling == "mean"
    pooled = torch.stack([each.mean(dim=0) if is_mean else each[0] for each in layers]).numpy()
    found = {"tokens": tokens.numpy(), "pooled": pooled[-1]}
    return {**found, "layers": pooled} if with_layers else found


def tokenizer_json(encoder: Encoder) -> str:
    """The tokenizer in the `tokenizers` library's own format, which serving reads."""
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BackboneError("this model's tokenizer has no fast form, which serving needs")
    text: str = backend.to_str()
    return text


def _pooling(folder: Path) -> Pooling:
    """How sentence-transformers pools this model; the mean where nothing is said."""
    settings = _read(folder / "1_Pooling" / "config.json")
    modes = {name for name, value in settings.items() if name.startswith("pooling_mode") and value}
    known: dict[frozenset[str], Pooling] = {
        frozenset(): "mean",
        frozenset({"pooling_mode_mean_tokens"}): "mean",
        frozenset({"pooling_mode_cls_token"}): "cls",
    }
    if frozenset(modes) not in known:
        raise BackboneError(f"{folder} pools by {sorted(modes)}; known are mean and cls pooling")
    return known[frozenset(modes)]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's and loader's chatter from the terminal; errors still come through."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
