from typing import Any

import pytest

from adapters.adapter import read_adapter
from adapters.errors import InvalidAdapter
from service.compatibility import check_fit
from service.testing import FakeBackbone
from tests.support import PAIRS, SITES, make_adapter_file


@pytest.mark.parametrize(("task", "head"), PAIRS)
def test_an_adapter_of_every_kind_fits_its_feature(task: Any, head: Any) -> None:
    check_fit(read_adapter(make_adapter_file(task=task, head=head)), FakeBackbone())
    with_lora = make_adapter_file(task=task, head=head, sites={"layer.query": (8, 8)})
    check_fit(read_adapter(with_lora), FakeBackbone())


@pytest.mark.parametrize(("task", "head"), [pair for pair in PAIRS if pair[0] != "tagging"])
@pytest.mark.parametrize("sites", [None, {"layer.query": (8, 8)}])
def test_a_mix_of_as_many_layers_fits(task: Any, head: Any, sites: Any) -> None:
    kind = {"task": task, "head": head, "sites": sites}
    content = make_adapter_file(**kind, feature="layers", mix=(0.5, -1.0, 2.0))
    check_fit(read_adapter(content), FakeBackbone())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"feature": "tokens"}, "classification takes one vector a row.*'tokens' of backbone fake"),
        ({"feature": "pooled", "task": "tagging"}, "tagging takes one vector a token"),
        (
            {"feature": "hidden"},
            r"no feature 'hidden'; it has \['layers', 'pooled', 'tokens'\]",
        ),
        ({"feature": "layers"}, r"one vector a row without a mix.*'layers' .* has \['n', 3\]"),
        ({"mix": (1.0, 1.0, 1.0)}, r"its mix takes 3 layers of a row.*'pooled' .* has \['n'\]"),
        (
            {"mix": (1.0, 1.0), "feature": "layers"},
            r"takes 2 layers of a row, .* axes \['n', 2\]; .* has \['n', 3\]",
        ),
        ({"mix": (1.0, 1.0, 1.0), "feature": "layers", "width": 9}, "width 9.* has 8"),
        ({"sites": SITES}, r"no LoRA site \['layer\.0\.query'.*it has 3 sites"),
        ({"sites": {"layer.query": (8, 9)}}, r"'layer.query' goes from width 8 to 9"),
        ({"width": 9}, "features of width 9.* has 8"),
    ],
)
def test_another_feature_or_width_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidAdapter, match=reason):
        check_fit(read_adapter(make_adapter_file(**changes)), FakeBackbone())
