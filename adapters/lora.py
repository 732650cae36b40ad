"""An adapter's LoRA weights: products of low rank that are added inside the backbone.

At a site with input x the backbone's output y becomes y + (x A^T) B (Hu et al. 2021); the usual
scaling by alpha / rank is folded into B.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.errors import InvalidAdapter
from adapters.manifest import LoraSettings

PREFIX = "lora."
_SHOWN = 5  # sites named in a message


@dataclass(frozen=True, slots=True, eq=False)
class LoraSite:
    """`a` [rank, in] and `b` [rank, out], float32, contiguous views of the file's bytes."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """The weights by site. Versions with equal LoRA and other heads share the `digest`."""

    digest: str
    rank: int
    sites: Mapping[str, LoraSite]

    @property
    def settings(self) -> LoraSettings:
        """What a manifest says of it."""
        return LoraSettings(rank=self.rank, sites=tuple(self.sites))

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The tensors of an adapter file."""
        pairs = {site: (each.a, each.b) for site, each in self.sites.items()}
        return {
            name: value
            for site, values in pairs.items()
            for name, value in zip(_names(site), values, strict=True)
        }


def lora_tensors(settings: LoraSettings | None) -> frozenset[str]:
    """The names of the tensors that a file with these settings has."""
    sites = () if settings is None else settings.sites
    return frozenset(name for site in sites for name in _names(site))


def build_lora(
    settings: LoraSettings | None, tensors: Mapping[str, NDArray[np.float32]]
) -> Lora | None:
    """The LoRA of a file whose tensors are all there. Raises InvalidAdapter for a wrong shape."""
    if settings is None:
        return None
    sites = {}
    for site in sorted(settings.sites):
        for name in _names(site):
            shape = tensors[name].shape
            if len(shape) != 2 or shape[0] != settings.rank:
                raise InvalidAdapter(
                    f"tensor {name[:80]!a} has shape {list(shape)}; LoRA of rank {settings.rank} "
                    f"needs [{settings.rank}, width]"
                )
        a, b = (tensors[name] for name in _names(site))
        sites[site] = LoraSite(a, b)
    return Lora(_digest(sites), settings.rank, sites)


def make_lora(factors: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Lora:
    """LoRA of site to (a [rank, in], b [rank, out]), all of one rank, the scaling folded in."""
    sites = {site: LoraSite(*factors[site]) for site in sorted(factors)}
    (rank,) = {len(site.a) for site in sites.values()}
    return Lora(_digest(sites), rank, sites)


def check_lora(lora: Lora, sites: Mapping[str, tuple[int, int]]) -> None:
    """Refuse LoRA that does not fit a backbone's sites: name to (width in, width out).

    Raises:
        InvalidAdapter: a site that the backbone does not have, or of other widths.
    """
    if unknown := [site for site in lora.sites if site not in sites]:
        more = "" if len(unknown) <= _SHOWN else f" and {len(unknown) - _SHOWN} more"
        raise InvalidAdapter(
            f"the backbone has no LoRA site {[name[:80] for name in unknown[:_SHOWN]]!a}"
            f"{more}; it has {len(sites)} sites"
        )
    for name, site in lora.sites.items():
        found, wanted = (site.a.shape[1], site.b.shape[1]), sites[name]
        if found != tuple(wanted):
            raise InvalidAdapter(
                f"LoRA at site {name[:80]!a} goes from width {found[0]} to {found[1]}; the "
                f"backbone's goes from {wanted[0]} to {wanted[1]}"
            )


def _names(site: str) -> tuple[str, str]:
    return f"{PREFIX}{site}.a", f"{PREFIX}{site}.b"


def _digest(sites: Mapping[str, LoraSite]) -> str:
    """The sha256 of names, shapes and bytes, sites in the order of their names."""
    shapes = [[name, list(site.a.shape), list(site.b.shape)] for name, site in sites.items()]
    digest = hashlib.sha256(json.dumps(shapes).encode("ascii"))
    for site in sites.values():
        digest.update(site.a.data)
        digest.update(site.b.data)
    return digest.hexdigest()
