"""What peers serve in the place of Headstock: a full model per tenant, from a backbone's files."""

from pathlib import Path

import numpy as np

from backbone.manifest import WEIGHTS_FILE
from benchmarks.peers.full_model import FullModel
from benchmarks.peers.peer import Tenant
from benchmarks.peers.tenants import write_full_model
from tests.tiny import WIDTH, make_tiny_backbone


def test_a_full_model_answers_as_the_backbone_with_the_tenants_head(tmp_path: Path) -> None:
    """Also of a backbone with LoRA graphs, whose weights lie beside its model."""
    backbone = make_tiny_backbone(tmp_path / "backbones")
    folder = tmp_path / "backbones" / "tiny"
    assert (folder / WEIGHTS_FILE).exists()
    weight = np.random.default_rng(0).standard_normal((5, WIDTH)).astype(np.float32)
    tenant = Tenant("acme", tmp_path / "acme", weight, tuple("abcde"))
    write_full_model(tenant, folder)
    texts = ["hello", "a longer one", "x", "12345"]
    rows = [backbone.preprocess(text) for text in texts]
    expected = tenant.classify(backbone.run(rows, ["pooled"])["pooled"])
    assert FullModel(tenant.folder).predict(texts) == expected
