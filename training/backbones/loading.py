"""A folder's weights into the torch model that its config names: all of them, or none."""

import contextlib
import inspect
import io
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers

from backbone.errors import BackboneError
from training.backbones.folder import read_settings

# What wrappers put before the names of weights: torch.compile, DataParallel, Lightning.
_WRAPPERS = ("_orig_mod.", "module.", "model.module.", "_forward_module.")
_NAMED = 4  # weights that a message names


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's and loader's chatter from the terminal; errors still come through."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "sentence_transformers")]
    levels, verbosity = [each.level for each in loggers], transformers.utils.logging.get_verbosity()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity(logging.CRITICAL)  # else it reports weights by itself
    transformers.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        transformers.utils.logging.set_verbosity(verbosity)


def first_line(error: Exception) -> str:
    """What an error says first: those of transformers go on with advice of several paragraphs."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def load_model(folder: Path) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """The text encoder of a folder in float32, and the weights of heads that it leaves out.

    Of an encoder-decoder it is the encoder.

    Raises:
        BackboneError: transformers cannot load it, or weights are missing, left over, or of other
            shapes than the config says.
    """
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model, loaded = transformers.AutoModel.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # so that they are named
                output_loading_info=True,
            )
    except Exception as error:  # transformers has no base class for "this is no model of ours"
        if "auto_map" in read_settings(folder / "config.json"):
            raise BackboneError(
                f"{folder} needs code of its own (auto_map in config.json), which is never run"
            ) from error
        raise BackboneError(
            f"transformers cannot load {folder} as an encoder: {first_line(error)}"
        ) from error
    encoder = _encoder_of(model)
    _check_shapes(folder, loaded["mismatched_keys"])
    _check_missing(folder, _needed(model, encoder, loaded["missing_keys"]), loaded)
    heads = _heads(model)
    _check_unexpected(folder, sorted(set(loaded["unexpected_keys"]) - heads))
    _check_finite(folder, encoder)
    return encoder.eval(), tuple(sorted(set(loaded["unexpected_keys"]) & heads))


def _encoder_of(model: torch.nn.Module) -> torch.nn.Module:
    """The encoder of an encoder-decoder, which its config may not call one (sentence-t5)."""
    parts = dict(model.named_children())
    return parts["encoder"] if {"encoder", "decoder"} <= parts.keys() else model


def _needed(model: torch.nn.Module, encoder: torch.nn.Module, names: Iterable[str]) -> list[str]:
    """Those of the weights that the encoder's tokens depend on: no decoder's, no pooler's."""
    inside = {id(weight) for weight in encoder.parameters()}
    every = dict(model.named_parameters(remove_duplicate=False))
    return sorted(
        name
        for name in names
        if (name not in every or id(every[name]) in inside) and "pooler" not in name.split(".")
    )


def _heads(model: Any) -> frozenset[str]:
    """The names of all weights in models of the same family: those with a head on top, too."""
    names: set[str] = set()
    module: ModuleType = sys.modules[type(model).__module__]
    kinds: list[Any] = [kind for _, kind in inspect.getmembers(module, inspect.isclass)]
    for kind in kinds:
        if not issubclass(kind, transformers.PreTrainedModel):
            continue
        if kind.config_class is type(model.config):
            with contextlib.suppress(Exception), quiet(), torch.device("meta"):
                names |= set(kind(model.config).state_dict())
    return frozenset(names)


def _check_shapes(folder: Path, mismatched: Iterable[Any]) -> None:
    for name, given, wanted in sorted(mismatched):
        raise BackboneError(
            f"{folder}: the weight {name} has shape {list(given)}, and config.json wants "
            f"{list(wanted)}: they are of two models"
        )


def _check_missing(folder: Path, missing: list[str], loaded: dict[str, Any]) -> None:
    if not missing:
        return
    unexpected = sorted(loaded["unexpected_keys"])
    for prefix in _WRAPPERS:
        if any(name.startswith(prefix) for name in unexpected):
            raise BackboneError(
                f"{folder}: the weights stand under the prefix {prefix!r}, as {unexpected[0]}, so "
                "that transformers would take none of them; save the model inside the wrapper, "
                "with save_pretrained"
            )
    beside = f"; it has {_listed(unexpected)} instead" if unexpected else ""
    raise BackboneError(
        f"{folder} lacks weights of its model: {_listed(missing)}{beside}; they would be made up "
        "at random"
    )


def _check_unexpected(folder: Path, unexpected: list[str]) -> None:
    if unexpected:
        raise BackboneError(
            f"{folder} has weights that its model does not have: {_listed(unexpected)}; without "
            "them it would be another one. Save the encoder alone, with save_pretrained, if they "
            "belong to a head"
        )


def _check_finite(folder: Path, encoder: torch.nn.Module) -> None:
    for name, weight in encoder.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise BackboneError(f"{folder}: the weight {name} has numbers that are not finite")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
