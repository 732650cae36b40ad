"""A Hugging Face text encoder to an ONNX graph with the output `tokens`, through torch."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
import transformers
from numpy.typing import NDArray
from transformers.pytorch_utils import Conv1D

from backbone.errors import BackboneError
from training.backbones.folder import has_pipeline, model_folder
from training.backbones.head import Head, mean_head
from training.backbones.loading import first_line, load_model, quiet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WRAPPER = "encoder."  # how `_Tokens` calls the encoder: a prefix of every module's path
_UNBOUNDED = 512  # tokens of a text, for a model that names no bound of its own
Factors = tuple[NDArray[np.float32], NDArray[np.float32]]
_OPSET = 18  # of the older exporter: the first in which reductions take their axes as an input


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
    """A loaded encoder with what its folder says about tokenizer, length and pooling.

    `left_out`: weights of the folder that no feature needs. `library` is the whole folder as
    sentence-transformers has it, None for a model alone; `takes_prompts` says that its graph is
    right behind any prompt.
    """

    model: _Tokens
    head: Head
    tokenizer: Any
    width: int
    max_length: int
    pad_id: int
    prompt: str = ""
    left_out: tuple[str, ...] = ()
    library: "SentenceTransformer | None" = None
    takes_prompts: bool = False


def load_encoder(folder: Path, prompt: str = "", max_length: int | None = None) -> Encoder:
    """Load a text encoder that puts `prompt` before texts and reads `max_length` tokens at most.

    Raises:
        BackboneError: transformers or sentence-transformers cannot load it, the weights are not
            the model's, or the model takes no such length.
    """
    inner = model_folder(folder)
    model, left_out = load_model(inner)
    width = _width(model, inner)
    _check_tokenizer_file(inner)
    library, head, takes_prompts = None, mean_head(), False
    if has_pipeline(folder):
        from training.backbones import pipeline  # it takes a second to import

        library = pipeline.load_pipeline(folder, width)
        head = pipeline.pipeline_head(library, prompt)
        takes_prompts = pipeline.takes_prompts(library)
    tokenizer = _load_tokenizer(inner) if library is None else library.tokenizer
    _check_vocabulary(inner, model, tokenizer)
    return Encoder(
        model=_Tokens(model).eval(),
        head=head,
        tokenizer=tokenizer,
        width=width,
        max_length=_max_length(model, tokenizer, max_length),
        pad_id=int(tokenizer.pad_token_id or 0),
        prompt=prompt,
        left_out=left_out,
        library=library,
        takes_prompts=takes_prompts,
    )


def inner_layers(encoder: Encoder) -> tuple[str, ...]:
    """Names for the outputs of the layers before the last, the embedding's first.

    Raises:
        BackboneError: the model does not show its layers, they differ in width, or what follows
            the pooling is made for the last one alone.
    """
    if not encoder.head.describe().takes_layers:
        kinds = [type(each).__name__ for each in list(encoder.head.steps)[1:]]
        raise BackboneError(
            f"the modules {', '.join(kinds)} after the pooling were trained on the last layer "
            "alone; add it without --layers"
        )
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

    Raises:
        BackboneError: neither of torch's exporters can write it.
    """
    model = _Layers(encoder.model.encoder).eval() if inner else encoder.model
    names = ["tokens", *inner]
    try:
        return _export(model, names, encoder.max_length)
    except Exception:  # the older exporter knows some operators that the new one does not (T5)
        try:
            return _export_by_trace(model, names)
        except Exception as error:
            raise BackboneError(
                f"torch cannot export this model to ONNX: {first_line(error)}"
            ) from error


def _export(model: torch.nn.Module, names: list[str], longest: int) -> onnx.ModelProto:
    n, t = torch.export.Dim("n", min=1), torch.export.Dim("t", min=1, max=longest)
    with quiet():
        program = torch.onnx.export(
            model,
            _example(),
            dynamo=True,
            dynamic_shapes=({0: n, 1: t}, {0: n, 1: t}),
            input_names=["input_ids", "attention_mask"],
            output_names=names,
            verbose=False,
        )
    assert program is not None, "dynamo=True gives a program"
    exported: onnx.ModelProto = program.model_proto
    return exported


def _export_by_trace(model: torch.nn.Module, names: list[str]) -> onnx.ModelProto:
    inputs = ["input_ids", "attention_mask"]
    with quiet(), tempfile.TemporaryDirectory() as work:
        file = Path(work) / "model.onnx"
        torch.onnx.export(
            model,
            _example(),
            file,
            dynamo=False,
            dynamic_axes={name: {0: "n", 1: "t"} for name in [*inputs, *names]},
            input_names=inputs,
            output_names=names,
            opset_version=_OPSET,
        )
        return onnx.shape_inference.infer_shapes(onnx.load(str(file)))


def _example() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and a mask, of which no constant may be folded: it is not of ones alone."""
    ids = torch.arange(12).reshape(2, 6) % 7 + 1
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return ids, mask


def reference_features(
    encoder: Encoder, ids: Sequence[int], with_layers: bool = False
) -> dict[str, NDArray[np.float32]]:
    """What torch computes for one row alone: `tokens` [t, d], `pooled` [D], `layers` [L, D]."""
    row = torch.tensor([list(ids)])
    mask = torch.ones_like(row)
    with torch.inference_mode():
        tokens = encoder.model(row, mask)
        layers = [tokens]
        if with_layers:
            last, *inner = _Layers(encoder.model.encoder)(row, mask)
            layers = [*inner, last]
        pooled = torch.cat([encoder.head(each, mask) for each in layers]).numpy()
    found = {"tokens": tokens[0].numpy(), "pooled": pooled[-1]}
    return {**found, "layers": pooled} if with_layers else found


def is_linear(encoder: Encoder, site: str) -> bool:
    """Whether a site of the graph is one layer of torch's model, whose weight LoRA adds to."""
    try:
        return isinstance(encoder.model.encoder.get_submodule(site), torch.nn.Linear | Conv1D)
    except AttributeError:
        return False


@contextlib.contextmanager
def merged_lora(encoder: Encoder, factors: Mapping[str, Factors]) -> Iterator[None]:
    """Torch's own weights with products of LoRA added: a [r, inputs] and b [r, outputs] by site."""
    kept = {}
    with torch.no_grad():
        for site, (a, b) in factors.items():
            module = encoder.model.encoder.get_submodule(site)
            weight = module.get_parameter("weight")
            kept[weight] = weight.clone()
            product = torch.from_numpy(b.T @ a)  # [outputs, inputs], as nn.Linear has it
            weight.add_(product.T if isinstance(module, Conv1D) else product)
        try:
            yield
        finally:
            for weight, before in kept.items():
                weight.copy_(before)


def library_ids(encoder: Encoder, text: str) -> list[int]:
    """The token ids that the model's own tokenizer gives for the prompt and a text."""
    encoded = encoder.tokenizer(
        encoder.prompt + text, truncation=True, max_length=encoder.max_length
    )
    return list(encoded["input_ids"])


def library_vector(encoder: Encoder, text: str, prompt: str) -> NDArray[np.float32] | None:
    """What `SentenceTransformer.encode` gives for a text, [D]; None for a model alone."""
    if encoder.library is None:
        return None
    try:
        with quiet():
            vector = encoder.library.encode(text, prompt=prompt, show_progress_bar=False)
    except Exception as error:  # whatever its modules raise
        raise BackboneError(
            f"SentenceTransformer cannot encode {text[:40]!r}: {first_line(error)}"
        ) from error
    return np.asarray(vector, dtype=np.float32)


def tokenizer_json(encoder: Encoder) -> str:
    """The tokenizer in the `tokenizers` library's own format, which serving reads."""
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BackboneError("this model's tokenizer has no fast form, which serving needs")
    # What the last call has set of padding and truncation would be part of the digest.
    content = {**json.loads(backend.to_str()), "padding": None, "truncation": None}
    if encoder.tokenizer.truncation_side == "left":
        length = {"max_length": encoder.max_length, "stride": 0}
        content["truncation"] = {**length, "direction": "Left", "strategy": "LongestFirst"}
    return json.dumps(content, ensure_ascii=False)


def _check_tokenizer_file(folder: Path) -> None:
    """Without its files transformers makes up a tokenizer, which knows no word."""
    usual = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken", "*.spm")
    if not any(file.is_file() for each in usual for file in folder.glob(each)):
        raise BackboneError(f"{folder} has no tokenizer.json, nor another file of a vocabulary")


def _load_tokenizer(folder: Path) -> Any:
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers has no base class for it
        raise BackboneError(
            f"transformers cannot load the tokenizer of {folder}: {first_line(error)}"
        ) from error
    return tokenizer


def _width(model: torch.nn.Module, folder: Path) -> int:
    """The width of the model's tokens, by a look at two of them.

    Raises:
        BackboneError: it does not make one vector of each token of a text.
    """
    ids = torch.zeros((1, 2), dtype=torch.int64)
    try:
        with torch.inference_mode(), quiet():
            shape = tuple(_Tokens(model)(ids, torch.ones_like(ids)).shape)
    except Exception as error:  # whatever a model of another kind makes of texts
        raise _no_encoder(model, folder, first_line(error)) from error
    if len(shape) != 3 or shape[:2] != (1, 2):
        raise _no_encoder(model, folder, f"two tokens come out as {list(shape)}")
    return int(shape[-1])


def _no_encoder(model: Any, folder: Path, reason: str) -> BackboneError:
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    return BackboneError(
        f"{folder} is a model of the kind {kind!r}, which does not turn a text into one vector a "
        f"token ({reason}); a backbone for text is an encoder as BERT, or the encoder of one as T5"
    )


def _check_vocabulary(folder: Path, model: Any, tokenizer: Any) -> None:
    """A token without a vector would fail, or give nonsense, whenever a text has it."""
    try:
        rows = int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):  # a model that does not show them
        return
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= rows:
        raise BackboneError(
            f"the tokenizer of {folder} has tokens up to number {highest}, and the model has "
            f"vectors for {rows}; call resize_token_embeddings(len(tokenizer)), and save it again"
        )


def _max_length(model: Any, tokenizer: Any, wanted: int | None) -> int:
    """Tokens of a text at most: as wanted, else as many as model and tokenizer take.

    Raises:
        BackboneError: the model has no positions for as many as are wanted.
    """
    positions = _positions(model)
    if wanted is not None:
        if positions is not None and wanted > positions:
            raise BackboneError(
                f"--max-length {wanted}: the model has positions for {positions} tokens"
            )
        return wanted
    named = [bound for bound in (tokenizer.model_max_length, positions) if bound]
    known = [
        int(bound) for bound in named if bound < transformers.tokenization_utils_base.LARGE_INTEGER
    ]
    return min(known) if known else _UNBOUNDED


def _positions(model: Any) -> int | None:
    """How many tokens the model has positions for; None where their number is not bounded."""
    for name, module in model.named_modules():
        offset = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and offset is not None:
            # The family of RoBERTa counts from the place after the padding's.
            return int(module.num_embeddings) - int(offset) - 1
    bound = getattr(model.config, "max_position_embeddings", None)
    return int(bound) if bound and bound > 0 else None
