"""What a PEFT configuration says of scales, and which ones cannot be taken."""

import json
from typing import Any

import pytest

from tests.peft_folders import CONFIG
from training.errors import InvalidPeft
from training.peft.config import PeftConfig, parse_config


def parse(**changes: Any) -> PeftConfig:
    return parse_config(json.dumps({**CONFIG, **changes}))


@pytest.mark.parametrize(
    ("changes", "rank", "scale"),
    [
        ({}, 4, 2.0),
        ({"use_rslora": True}, 4, 4.0),
        ({"lora_alpha": 3.0}, 4, 0.75),
        ({"rank_pattern": {"query": 2}}, 2, 4.0),
        ({"rank_pattern": {"uery": 2}}, 4, 2.0),
        ({"rank_pattern": {"layer.1.self.query": 2}}, 2, 4.0),
        ({"rank_pattern": {"layer.0.self.query": 2}}, 4, 2.0),
        ({"rank_pattern": {"^bert.*query": 16}}, 16, 0.5),
        ({"rank_pattern": {"^query": 16}}, 4, 2.0),
        ({"rank_pattern": {r".*\.1\..*": 8, "query": 2}}, 8, 1.0),  # the first one holds
        ({"alpha_pattern": {"query|value": 1}}, 4, 0.25),
        ({"alpha_pattern": {"query": 9}, "rank_pattern": {"query": 9}, "use_rslora": True}, 9, 3.0),
        ({"rank_pattern": None, "alpha_pattern": None}, 4, 2.0),
    ],
)
def test_the_scale_of_a_module(changes: dict[str, Any], rank: int, scale: float) -> None:
    config = parse(**changes)
    module = "bert.layer.1.self.query"
    assert (config.rank(module), config.scale(module)) == (rank, scale)


@pytest.mark.parametrize(
    "changes",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"megatron_config": {"a": 1}, "runtime_config": {"ephemeral_gpu_offload": False}},
        {"use_bdlora": None, "arrow_config": None, "something_new": 3, "layers_to_transform": [1]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.query"},
    ],
)
def test_plain_lora_is_taken(changes: dict[str, Any]) -> None:
    assert parse(**changes).r == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only 'LORA'"),
        ({"peft_type": None}, "peft_type is None"),
        ({"use_dora": True}, "use_dora is set: DoRA also scales"),
        ({"lora_bias": True}, "lora_bias is set: its products have biases"),
        ({"use_qalora": True}, "use_qalora is set: only plain LoRA"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora is set"),
        ({"use_what_comes_next": True}, "use_what_comes_next is set"),
        ({"kasa_config": {"beta": 1}}, "kasa_config is set"),
        ({"alora_invocation_tokens": [1, 2]}, "behind certain tokens alone"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "copies of layers"),
        ({"trainable_token_indices": [5]}, "embeddings of some tokens"),
        ({"target_parameters": ["w"]}, "no matrix product of a module"),
        ({"bias": "all"}, "bias is 'all': it changes biases of the backbone"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"init_lora_weights": "pissa"}, "'pissa': such a start may take a part out"),
        ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "olora"}, "'olora'"),
        ({"init_lora_weights": "loftq"}, "'loftq'"),
        ({"init_lora_weights": "corda"}, "'corda'"),
        ({"r": 0}, "r: Input should be greater than or equal to 1"),
        ({"r": "4"}, "r: Input should be a valid integer"),
        ({"r": True}, "r: Input should be a valid integer"),
        ({"lora_alpha": None}, "lora_alpha: Input should be a valid number"),
        ({"rank_pattern": {"query": 2.5}}, "rank_pattern.query: Input should be"),
        ({"rank_pattern": ["query"]}, "rank_pattern: Input should be"),
        ({"alpha_pattern": {"(": 2}}, r"the pattern '\(' is no regular expression"),
        ({"alpha_pattern": {"x(?i)": 2}}, "is no regular expression"),
        ({"task_type": 3}, "task_type: Input should be a valid string"),
    ],
)
def test_all_else_is_refused_with_its_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidPeft, match=message) as refused:
        parse(**changes)
    assert refused.value.code == "invalid-peft"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not JSON"),
        ("[]", "not a JSON object"),
        ('{"r": 1, "r": 2}', "'r' stands twice"),
        ('{"lora_alpha": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"peft_type": "LORA", "r": 4, "lora_alpha": 1e999}', "lora_alpha: .*finite"),
        ('{"peft_type": "LORA", "r": 4}', "lora_alpha: Field required"),
    ],
)
def test_what_is_no_configuration(text: str, message: str) -> None:
    with pytest.raises(InvalidPeft, match=message):
        parse_config(text)
