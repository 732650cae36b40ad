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


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"feature": "tokens"}, "classification takes one vector a row.*'tokens' of backbone fake"),
        ({"feature": "pooled", "task": "tagging"}, "tagging takes one vector a token"),
        ({"feature": "hidden"}, r"no feature 'hidden'; it has \['pooled', 'tokens'\]"),
        ({"sites": SITES}, r"no LoRA site \['layer\.0\.query'.*it has 3 sites"),
        ({"sites": {"layer.query": (8, 9)}}, r"'layer.query' goes from width 8 to 9"),
        ({"width": 9}, "features of width 9.* has 8"),
    ],
)
def test_another_feature_or_width_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidAdapter, match=reason):
        check_fit(read_adapter(make_adapter_file(**changes)), FakeBackbone())
