import hashlib

import numpy as np
import pytest

from adapters.adapter import build_adapter, read_adapter
from adapters.errors import InvalidAdapter
from adapters.lora import Lora, check_lora
from tests.support import RANK, SITES, make_adapter_file, make_manifest, make_tensors


def lora_of(content: bytes) -> Lora:
    lora = read_adapter(content).lora
    assert lora is not None
    return lora


def test_lora_is_read_as_it_was_written() -> None:
    lora, tensors = lora_of(make_adapter_file(sites=SITES)), make_tensors(sites=SITES)
    assert lora.rank == RANK
    assert set(lora.sites) == set(SITES)
    for name, site in lora.sites.items():
        assert np.array_equal(site.a, tensors[f"lora.{name}.a"])
        assert np.array_equal(site.b, tensors[f"lora.{name}.b"])
        assert (site.a.shape, site.b.shape) == ((RANK, SITES[name][0]), (RANK, SITES[name][1]))


def test_an_adapter_may_have_none() -> None:
    assert read_adapter(make_adapter_file()).lora is None


def test_versions_with_equal_lora_and_other_heads_share_its_digest() -> None:
    tensors = make_tensors(sites=SITES)
    lora = {name: value for name, value in tensors.items() if name.startswith("lora.")}
    golden = np.ones((1, 8), dtype=np.float32)
    one = lora_of(build_adapter(make_manifest(sites=SITES), tensors, golden))
    turned = dict(reversed(SITES.items()))
    other_head = {**make_tensors(3, seed=5, head="mlp"), **lora}
    manifest = make_manifest(("a", "b", "c"), head="mlp", sites=turned)
    other = lora_of(build_adapter(manifest, other_head, golden))
    assert one.digest == other.digest
    assert len(bytes.fromhex(one.digest)) == hashlib.sha256().digest_size


def test_another_value_name_or_shape_is_another_digest() -> None:
    (name, widths), *_ = SITES.items()
    digests = {
        lora_of(make_adapter_file(sites=sites, seed=seed)).digest
        for seed, sites in [
            (0, {name: widths}),
            (1, {name: widths}),
            (0, {"other": widths}),
            (0, {name: (4, 12)}),
            (0, SITES),
        ]
    }
    assert len(digests) == 5


def test_a_backbone_with_these_sites_fits() -> None:
    check_lora(lora_of(make_adapter_file(sites=SITES)), {**SITES, "more": (1, 1)})


def test_sites_that_the_backbone_lacks_are_named() -> None:
    many = {f"nowhere.{number}": (2, 2) for number in range(7)}
    lora = lora_of(make_adapter_file(sites=many))
    with pytest.raises(InvalidAdapter, match=r"no LoRA site \['nowhere\.0'.* and 2 more") as caught:
        check_lora(lora, SITES)
    assert "nowhere.6" not in str(caught.value)


@pytest.mark.parametrize("widths", [(8, 5), (7, 6)])
def test_other_widths_than_the_backbones_are_refused(widths: tuple[int, int]) -> None:
    lora = lora_of(make_adapter_file(sites=SITES))
    wanted = {**SITES, "layer.0.value": widths}
    reason = f"'layer.0.value' goes from width 8 to 6; the backbone's goes from {widths[0]} to"
    with pytest.raises(InvalidAdapter, match=reason):
        check_lora(lora, wanted)
