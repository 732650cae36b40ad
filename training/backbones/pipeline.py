"""Folders of sentence-transformers: loaded by that library, described for the graph.

Its import takes a second: this module is imported for such folders alone.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling
from torch import Tensor, nn

from backbone.errors import BackboneError
from backbone.surgery import pooling
from training.backbones.folder import MODULES, POOLING
from training.backbones.head import Head
from training.backbones.loading import first_line, quiet

_ACTIVATIONS: dict[type[nn.Module], pooling.Activation] = {
    nn.Identity: "identity",
    nn.Tanh: "tanh",
    nn.ReLU: "relu",
    nn.Sigmoid: "sigmoid",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
}


class Truncate(nn.Module):
    """The first `width` numbers of a vector: of folders with truncate_dim `encode` gives these."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """What the modules of sentence-transformers take and give."""
        return {**features, "sentence_embedding": features["sentence_embedding"][:, : self.width]}


def load_pipeline(folder: Path, width: int) -> SentenceTransformer:
    """The folder as sentence-transformers loads it.

    A folder that was copied in part has its pooling of tokens [t, width] alone.

    Raises:
        BackboneError: sentence-transformers cannot load it.
    """
    try:
        with quiet():
            pipeline = _load(folder, width)
    except Exception as error:  # it has no base class for what is wrong with a folder
        raise BackboneError(
            f"sentence-transformers cannot load {folder}: {first_line(error)}"
        ) from error
    tokenizer = pipeline.tokenizer
    if tokenizer.pad_token is None:  # it pads even one text, which changes nothing of it
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return pipeline


def _load(folder: Path, width: int) -> SentenceTransformer:
    if (folder / MODULES).is_file():
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    config = Pooling.load_config(str(folder), subfolder=str(Path(POOLING).parent))
    for name in ("embedding_dimension", "word_embedding_dimension"):
        config.pop(name, None)
    modules = [Transformer.load(str(folder)), Pooling(width, **config)]
    return SentenceTransformer(modules=modules, device="cpu")


def pipeline_head(pipeline: SentenceTransformer, prompt: str) -> Head:
    """The modules that follow the model."""
    skipped = 0
    if prompt:
        skipped = int(pipeline.preprocess([""], prompt=prompt)["prompt_length"])
    modules = list(pipeline)[1:]
    if pipeline.truncate_dim is not None:
        modules.append(Truncate(pipeline.truncate_dim))
    return Head(modules, partial(_described_head, modules, skipped), skipped).eval()


def _described_head(modules: Sequence[nn.Module], skipped: int) -> pooling.Pooling:
    first, *others = modules
    assert isinstance(first, Pooling), "a head begins with its pooling"
    modes: Any = first.pooling_mode
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    steps = [_described(each) for each in others if not isinstance(each, Dropout)]
    return pooling.Pooling(
        modes=modes,
        steps=tuple(steps),
        skipped=0 if first.include_prompt else skipped,
    )


def takes_prompts(pipeline: SentenceTransformer) -> bool:
    """Tell whether any prompt will do: one that is left out of the pooling has a length."""
    first = pipeline[1]
    assert isinstance(first, Pooling), "a head begins with its pooling"
    return bool(first.include_prompt)


def _described(module: nn.Module) -> pooling.Step:
    if isinstance(module, Truncate):
        return pooling.Truncate(module.width)
    names = {
        getattr(module, f"module_{end}_name", "sentence_embedding") for end in ("input", "output")
    }
    if names != {"sentence_embedding"}:
        raise BackboneError(
            f"the module {type(module).__name__} reads or writes {sorted(names)}; only those of "
            "sentence_embedding can be part of a backbone"
        )
    match module:
        case Normalize():
            return pooling.Normalize()
        case LayerNorm():
            norm = module.norm
            return pooling.LayerNorm(_array(norm.weight), _array(norm.bias), norm.eps)
        case Dense():
            return _described_dense(module)
    raise BackboneError(f"the module {type(module).__name__} cannot be part of a backbone")


def _described_dense(module: Dense) -> pooling.Dense:
    kind = type(module.activation_function)
    if kind not in _ACTIVATIONS:
        known = ", ".join(sorted(get_args(pooling.Activation)))
        raise BackboneError(f"a Dense module has the activation {kind.__name__}; known are {known}")
    linear = module.linear
    residual: pooling.Vector | Literal["input"] | None = None
    if module.use_residual:
        residual = "input"
        if module.in_features != module.out_features:
            residual = _array(module.residual.weight.T)
    return pooling.Dense(
        weight=_array(linear.weight.T),
        bias=_array(linear.bias) if module.bias else None,
        activation=_ACTIVATIONS[kind],
        residual=residual,
    )


def _array(tensor: Tensor) -> pooling.Vector:
    array: pooling.Vector = tensor.detach().to(torch.float32).contiguous().numpy()
    return array
