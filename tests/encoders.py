"""Small encoders with random weights in Hugging Face format."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "where", "is", "my", "order", "the", "a", "refund"]
_SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
_ONE = {"num_hidden_layers": 1}
_DECODER = {"num_key_value_heads": 1, "head_dim": 8}
# Families of text encoders, with the settings that make them small and have all their parts. Layers
# that differ within a family, or are passed twice, are two: exporting takes seconds a layer.
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": _ONE,
    "distilbert": {**_ONE, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "roberta": {**_ONE, "pad_token_id": 1, "max_position_embeddings": 42},
    "xlm-roberta": {**_ONE, "pad_token_id": 1, "max_position_embeddings": 42},
    "mpnet": {**_ONE, "pad_token_id": 1, "max_position_embeddings": 42},
    "electra": {**_ONE, "embedding_size": 8},
    "deberta-v2": {
        **_ONE,
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "modernbert": {
        "global_attn_every_n_layers": 2,
        "local_attention": 8,
        "pad_token_id": 0,
        "cls_token_id": 2,
        "bos_token_id": 2,
        "sep_token_id": 3,
        "eos_token_id": 3,
    },
    "albert": {"embedding_size": 8},
    "gpt2": {
        **_ONE,
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "n_positions": 64,
        "bos_token_id": 3,
        "eos_token_id": 3,
    },
    "llama": {**_ONE, **_DECODER},
    "qwen3": {**_ONE, **_DECODER},
    "gemma3_text": {
        **_DECODER,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 8,
    },
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
    "bart": {
        **_ONE,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
    },
}


def save_family(folder: Path, kind: str, **settings: Any) -> Path:
    """The smallest model that has all parts of its family."""
    return save_model(folder, kind, **{"initializer_range": 0.2, **FAMILIES[kind], **settings})


def save_model(folder: Path, kind: str, **settings: Any) -> Path:
    """A small model with random weights in Hugging Face format."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**_SMALL, **settings})
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=40,
    ).save_pretrained(folder)
    return folder
