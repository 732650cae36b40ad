"""`adapter_config.json` of a PEFT folder: how the LoRA is scaled, and what cannot be taken."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.strict_json import strict_json
from training.errors import InvalidPeft

# Starts that leave the frozen weights as they are; all others may have taken a part out of them.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
# Settings that make something else of y + (x A^T) B, and what that is.
_VARIANTS = {
    "use_dora": "DoRA also scales each output by a learnt magnitude",
    "lora_bias": "its products have biases",
    "alora_invocation_tokens": "it applies behind certain tokens alone",
    "layer_replication": "it has copies of layers that the backbone does not have",
    "target_parameters": "it changes parameters that are no matrix product of a module",
    "trainable_token_indices": "it changes the embeddings of some tokens",
}
# Names by which PEFT turns variants on, and those among them that change no product.
_SWITCH = re.compile(r"use_\w+|\w+_config")
_HARMLESS = {
    *("use_rslora", "eva_config", "loftq_config", "corda_config", "lora_ga_config"),
    *("megatron_config", "runtime_config"),  # of starts, which are looked at, or of training alone
}

Finite = Annotated[float, Field(allow_inf_nan=False)]
Rank = Annotated[int, Field(ge=1)]
Value = TypeVar("Value", int, float)


class PeftConfig(BaseModel):
    """What of the file matters here; the tensors themselves name the modules with LoRA."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    peft_type: str
    r: Rank
    lora_alpha: Finite
    use_rslora: bool = False
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, Finite] | None = None
    bias: str = "none"
    init_lora_weights: bool | str | None = True
    base_model_name_or_path: str | None = None
    task_type: str | None = None

    def rank(self, module: str) -> int:
        """The rank at a module of the model that PEFT wrapped."""
        return _patterned(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """What B is multiplied by: alpha / rank, or alpha / sqrt(rank).

        The latter is rsLoRA (Kalajdzievski 2023).
        """
        alpha, rank = _patterned(self.alpha_pattern, module, self.lora_alpha), self.rank(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def parse_config(text: str) -> PeftConfig:
    """Parse the file and refuse what is not plain LoRA.

    Raises:
        InvalidPeft: not JSON, a value that cannot be, or another method than plain LoRA.
    """
    try:
        content = strict_json(text)
    except ValueError as error:
        raise InvalidPeft(f"it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidPeft("it is not a JSON object")
    # Said first: other methods have other keys.
    if content.get("peft_type") != "LORA":
        found = ascii(content.get("peft_type"))[:80]
        raise InvalidPeft(f"peft_type is {found}; only 'LORA' can be taken")
    try:
        config = PeftConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidPeft(f"{where[:120]}: {first['msg']}") from error
    _check_plain(config, content)
    return config


def _check_plain(config: PeftConfig, content: Mapping[str, Any]) -> None:
    for key, what in _VARIANTS.items():
        if content.get(key):
            raise InvalidPeft(f"{key} is set: {what}, which an adapter file cannot say")
    for key in content:
        if content[key] and _SWITCH.fullmatch(key) and key not in _HARMLESS:
            raise InvalidPeft(f"{key[:80]} is set: only plain LoRA and rsLoRA can be taken")
    if config.bias != "none":
        raise InvalidPeft(
            f"bias is {config.bias[:40]!a}: it changes biases of the backbone, which is shared and "
            "frozen; train with bias='none'"
        )
    if config.init_lora_weights not in _PLAIN_STARTS:
        raise InvalidPeft(
            f"init_lora_weights is {str(config.init_lora_weights)[:40]!a}: such a start may take a "
            "part out of the frozen weights, and the LoRA fits what is left of them; save it as "
            "plain LoRA with PEFT's save_pretrained(..., path_initial_model_for_weight_conversion)"
        )
    for pattern in (*(config.rank_pattern or ()), *(config.alpha_pattern or ())):
        try:
            re.compile(_ending(pattern))
        except re.error as error:
            raise InvalidPeft(f"the pattern {pattern[:80]!a} is no regular expression") from error


def _patterned(patterns: Mapping[str, Value] | None, module: str, usual: Value) -> Value:
    """The value of the first pattern that a module's name ends with, as PEFT looks it up."""
    for pattern, value in (patterns or {}).items():
        if re.match(_ending(pattern), module):
            return value
    return usual


def _ending(pattern: str) -> str:
    return rf"(.*\.)?({pattern})$"
