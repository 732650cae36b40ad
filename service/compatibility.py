"""Whether an adapter can answer on what is served here."""

from collections.abc import Mapping

from adapters.adapter import Adapter
from adapters.errors import InvalidAdapter, WrongBackbone
from adapters.lora import check_lora
from backbone import Backbone


def find_served(backbones: Mapping[str, Backbone], digest: str) -> Backbone:
    """The backbone with this digest. Raises WrongBackbone."""
    backbone = backbones.get(digest)
    if backbone is None:
        served = ", ".join(f"{each.name} ({known})" for known, each in backbones.items())
        raise WrongBackbone(f"the adapter was trained on backbone {digest}; served here: {served}")
    return backbone


def check_fit(adapter: Adapter, backbone: Backbone) -> None:
    """Refuse an adapter whose feature or sites the backbone lacks or has otherwise.

    Raises:
        InvalidAdapter: with what does not fit.
    """
    wanted, features = adapter.manifest.feature, backbone.manifest.features
    if wanted not in features:
        raise InvalidAdapter(
            f"backbone {backbone.name} has no feature {wanted[:80]!r}; it has {sorted(features)}"
        )
    _check_axes(adapter, backbone)
    width = backbone.manifest.width(wanted)
    if adapter.width != width:
        raise InvalidAdapter(
            f"the head takes features of width {adapter.width}; {wanted!r} of backbone "
            f"{backbone.name} has {width}"
        )
    if adapter.lora is not None:
        served = {name for graph in backbone.manifest.lora for name in graph.sites}
        sites = {name: backbone.manifest.sites[name] for name in served}
        check_lora(
            adapter.lora, {name: (each.inputs, each.outputs) for name, each in sites.items()}
        )


def _check_axes(adapter: Adapter, backbone: Backbone) -> None:
    wanted, mix, task = adapter.manifest.feature, adapter.manifest.mix, adapter.manifest.task
    needed: tuple[str | int, ...]
    if mix is not None:
        needed, takes = ("n", len(mix)), f"its mix takes {len(mix)} layers of a row"
    elif adapter.per_token:
        needed, takes = ("n", "t"), f"{task} takes one vector a token"
    else:
        needed, takes = ("n",), f"{task} takes one vector a row without a mix"
    axes = backbone.manifest.features[wanted].axes
    if axes != needed:
        raise InvalidAdapter(
            f"{takes}, a feature with the axes {list(needed)}; {wanted!r} of backbone "
            f"{backbone.name} has {list(axes)}"
        )
