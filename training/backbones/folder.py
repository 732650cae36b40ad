"""What a model's folder says of itself, read without torch: a bad one is refused within seconds."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbone.errors import BackboneError
from backbone.files import file_sha256
from backbone.manifest import Source

WEIGHTS = "model.safetensors"
MODULES = "modules.json"  # of sentence-transformers: what follows the model
POOLING = "1_Pooling/config.json"  # all that is left of it in folders that were copied in part
_INDEX = "model.safetensors.index.json"
PROMPTS = "config_sentence_transformers.json"
_CARD = "README.md"
# What sentence-transformers writes into the card of a model that it trained with MatryoshkaLoss.
_DIMENSIONS = re.compile(r'"matryoshka_dims":\s*\[([\d,\s]{1,1000})\]')
_LIBRARY = "sentence_transformers."
_FIRST = "Transformer"
_POOLED = "Pooling"
_AFTER = frozenset({"Dense", "Dropout", "LayerNorm", "Normalize"})
# Weights that are not loaded: a pickle can run code, and the others are not torch's.
_OTHER_WEIGHTS = (
    "pytorch_model*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "tf_model.h5",
    "flax_model.msgpack",
    "rust_model.ot",
    "*.gguf",
)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class ModelFolder:
    """A local folder in Hugging Face format, with what the manifest says of its origin.

    A folder that was made for the moment is removed with this object.
    """

    path: Path
    source: Source


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object in a file, {} where there is no file. Raises BackboneError."""
    content = _read(path, dict)
    return content if content is not None else {}


def default_prompt(folder: Path) -> str:
    """What sentence-transformers puts before every text that is encoded, "" for nothing.

    Raises:
        BackboneError: the default prompt is not among the folder's prompts, or is not a text.
    """
    settings = read_settings(folder / PROMPTS)
    prompts, name = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if name is None:
        return ""
    if not isinstance(prompts, dict) or name not in prompts:
        raise BackboneError(
            f"{folder / PROMPTS} names the default prompt {name!r}, and its prompts are "
            f"{sorted(prompts)}; choose one with --prompt TEXT"
        )
    prompt = prompts[name] or ""
    if not isinstance(prompt, str):
        raise BackboneError(
            f"{folder / PROMPTS}: the prompt {name!r} is {prompt!r}, not a text; choose one with "
            "--prompt TEXT"
        )
    return prompt


def named_prompts(folder: Path, default: str) -> dict[str, str]:
    """The folder's prompts by name, without those that say the same as `default`."""
    prompts = read_settings(folder / PROMPTS).get("prompts")
    if not isinstance(prompts, dict):
        return {}
    texts = {name: prompt or "" for name, prompt in prompts.items()}
    return {
        name: prompt
        for name, prompt in sorted(texts.items())
        if isinstance(prompt, str) and prompt != default
    }


def matryoshka_dimensions(folder: Path) -> tuple[int, ...]:
    """The lengths to which the model was trained to have its vectors cut, () where none are named.

    They stand in the model's configuration, or in the card that sentence-transformers writes.
    """
    named = read_settings(model_folder(folder) / "config.json").get("matryoshka_dimensions")
    card = folder / _CARD
    if named is None and card.is_file():
        found = _DIMENSIONS.search(card.read_text(encoding="utf-8", errors="replace"))
        named = [int(each) for each in re.findall(r"\d+", found[1])] if found else None
    if not isinstance(named, list):
        return ()
    return tuple(sorted({each for each in named if type(each) is int and each > 0}))


def has_pipeline(folder: Path) -> bool:
    """Tell whether a folder is one of sentence-transformers, whole or with its pooling alone."""
    return (folder / MODULES).is_file() or (folder / POOLING).is_file()


def model_folder(folder: Path) -> Path:
    """Where the model's own files lie, in its folder or in one inside it.

    Raises:
        BackboneError: the modules are not a pooled text encoder's.
    """
    modules = _read(folder / MODULES, list)
    if modules is None:
        return folder
    kinds = [_kind(folder, module) for module in modules]
    if kinds[:1] != [_FIRST] or kinds[1:2] != [_POOLED] or not set(kinds[2:]) <= _AFTER:
        raise BackboneError(
            f"{folder / MODULES} has the modules {', '.join(kinds) or 'of nothing'}; a backbone is "
            f"made of {_FIRST}, then {_POOLED}, then any of {', '.join(sorted(_AFTER))}"
        )
    for module in modules[1:]:
        _check_weights(folder / str(module.get("path") or ""))
    return folder / str(modules[0].get("path") or "")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The model's safetensors files: one, or the shards that its index names, sorted.

    Raises:
        BackboneError: there are none, or a shard is missing.
    """
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    shards = read_settings(folder / _INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise BackboneError(_no_weights(folder))
    files = tuple(folder / name for name in sorted({str(name) for name in shards.values()}))
    for file in files:
        if file.parent != folder or not file.is_file():
            raise BackboneError(
                f"{folder / _INDEX} names {file.name}, which is not in the folder; copy all shards"
            )
    return files


def weights_sha256(folder: Path) -> str:
    """The sha256 of the model's weights file; of the sha256 of each, where there are shards."""
    files = weight_files(folder)
    if len(files) == 1:
        return file_sha256(files[0])
    listed = "".join(f"{file_sha256(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def check_config(folder: Path) -> None:
    """Refuse what is no whole model in numbers that torch computes with. Raises BackboneError."""
    config = read_settings(folder / "config.json")
    adapter = read_settings(folder / "adapter_config.json")
    if adapter:
        base = adapter.get("base_model_name_or_path")
        raise BackboneError(
            f"{folder} is an adapter of PEFT for {base!r}, not a model; add {base!r} as the "
            "backbone, or merge the adapter into it with merge_and_unload() and save that"
        )
    if not config:
        raise BackboneError(f"{folder} has no config.json, so it is no Hugging Face model")
    if quantised := config.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise BackboneError(
            f"{folder} holds weights quantised by {method}, which only its own kernels read; add "
            "the model they were made of, with --precision int8 if you like"
        )


def _kind(folder: Path, module: Any) -> str:
    kind = module.get("type") if isinstance(module, dict) else None
    if not isinstance(kind, str):
        raise BackboneError(f"{folder / MODULES} has a module without a type: {str(module)[:80]}")
    if not kind.startswith(_LIBRARY):
        raise BackboneError(
            f"{folder / MODULES} has a module of its own code, {kind}, which is never run"
        )
    return kind.rpartition(".")[2]


def _check_weights(module: Path) -> None:
    if (module / "pytorch_model.bin").is_file() and not (module / WEIGHTS).is_file():
        raise BackboneError(_no_weights(module))


def _no_weights(folder: Path) -> str:
    found = sorted({file.name for each in _OTHER_WEIGHTS for file in folder.glob(each)})
    if not found:
        return f"{folder} has no {WEIGHTS}, and no weights of another kind either"
    return (
        f"{folder} has no {WEIGHTS}; weights in other formats ({', '.join(found)}) are not loaded, "
        "since a pickle can run code: convert them with save_pretrained(..., "
        "safe_serialization=True)"
    )


def _read(path: Path, kind: type) -> Any:
    """The JSON of a file, of one type; None where there is no file."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise BackboneError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(content, kind):
        raise BackboneError(f"{path} holds a {type(content).__name__}, not a {kind.__name__}")
    return content
