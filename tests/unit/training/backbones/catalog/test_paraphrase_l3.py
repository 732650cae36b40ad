"""A BERT's weights out of an ONNX file that torch exported."""

import numpy as np
from onnx import numpy_helper

from tests.packages import bert_onnx
from training.backbones.catalog.paraphrase_l3 import read_bert


def test_weights_are_found_by_name_and_by_the_product_that_they_are_used_in() -> None:
    model = bert_onnx()
    weights, config = read_bert(model.SerializeToString(), heads=2)
    inside = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    assert np.array_equal(
        weights["encoder.layer.0.intermediate.dense.weight"], inside["onnx::MatMul_1"].T
    )
    assert np.array_equal(
        weights["encoder.layer.0.attention.self.query.weight"], inside["onnx::MatMul_0"].T
    )
    name = "encoder.layer.0.output.LayerNorm.bias"
    assert np.array_equal(weights[name], inside[f"model.0.auto_model.{name}"])
    assert len(weights) == len(inside)
    assert config == {
        "vocab_size": 12,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 6,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    }
