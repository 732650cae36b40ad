"""A frozen torch encoder with LoRA at some of its sites (Hu et al. 2021)."""

import math
import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from backbone import Manifest, TextRow
from training.backbones.export import Encoder
from training.errors import TrainingError
from training.finetune.settings import LoraRecipe

Factors = tuple[NDArray[np.float32], NDArray[np.float32]]  # a [r, inputs], b [r, outputs]


class LoraProduct(nn.Module):
    """y = base(x) + (dropout(x) A^T) B · alpha / rank; B starts at zero: nothing is changed yet."""

    def __init__(self, base: nn.Module, width: tuple[int, int], settings: LoraRecipe) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.empty(settings.rank, width[0]))
        self.b = nn.Parameter(torch.zeros(settings.rank, width[1]))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.scale = settings.alpha / settings.rank
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        added: Tensor = self.dropout(x) @ self.a.T @ self.b * self.scale
        base: Tensor = self.base(x)
        return base + added

    @property
    def weight(self) -> Tensor:
        """The frozen layer's own, of which some models ask the type (T5)."""
        return self.base.get_parameter("weight")

    def factors(self) -> Factors:
        """A and B as an adapter file has them, the scale folded into B."""
        a, b = self.a.detach().cpu(), self.b.detach().cpu() * self.scale
        return a.numpy().copy(), b.numpy().copy()


class TunedEncoder(nn.Module):
    """Token ids to features, with LoRA that can be trained. All else stays frozen.

    Layers before the first with LoRA hold nothing for the backward pass.
    """

    def __init__(self, encoder: Encoder, manifest: Manifest, settings: LoraRecipe) -> None:
        super().__init__()
        self.encoder = encoder.model.encoder
        self.encoder.requires_grad_(False)
        self.head = encoder.head.requires_grad_(False)
        self.pad_id = encoder.pad_id
        self._model_dropout = settings.model_dropout
        self.sites = choose_sites(tuple(manifest.sites), settings)
        for site in self.sites:
            module = _product(self.encoder, site)
            found = manifest.sites[site]
            added = LoraProduct(module, (found.inputs, found.outputs), settings)
            parent, _, name = site.rpartition(".")
            setattr(self.encoder.get_submodule(parent), name, added)

    def train(self, mode: bool = True) -> "TunedEncoder":
        """The frozen model's own dropout too, if the settings want it."""
        super().train(mode)
        for part in (self.encoder, self.head):
            part.train(mode and self._model_dropout)
        for module in self.products().values():
            module.dropout.train(mode)
        return self

    def products(self) -> dict[str, LoraProduct]:
        """The trained parts by site."""
        found = {site: self.encoder.get_submodule(site) for site in self.sites}
        return {site: each for site, each in found.items() if isinstance(each, LoraProduct)}

    def forward(self, rows: Sequence[TextRow]) -> tuple[Tensor, Tensor]:
        """Tokens [n, t, d] and the mask [n, t] of those that are no padding."""
        device = next(self.encoder.parameters()).device
        longest = max(row.length for row in rows)
        ids = torch.full((len(rows), longest), self.pad_id, dtype=torch.int64)
        mask = torch.zeros((len(rows), longest), dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : row.length] = torch.from_numpy(row.ids)
            mask[place, : row.length] = 1
        ids, mask = ids.to(device), mask.to(device)
        output = self.encoder(input_ids=ids, attention_mask=mask)
        tokens: Tensor = output.last_hidden_state
        return tokens, mask

    def pooled(self, rows: Sequence[TextRow]) -> Tensor:
        """Text vectors [n, d], pooled as the backbone does."""
        tokens, mask = self.forward(rows)
        pooled: Tensor = self.head(tokens, mask)
        return pooled

    def factors(self) -> dict[str, Factors]:
        """The LoRA as it is now."""
        return {site: module.factors() for site, module in self.products().items()}


def choose_sites(sites: Sequence[str], settings: LoraRecipe) -> tuple[str, ...]:
    """The sites that the settings name, in the backbone's order.

    Raises:
        TrainingError: no site has a suffix, or none is left.
    """
    if not sites:
        raise TrainingError("this backbone has no sites for LoRA")
    wanted = [part.strip() for part in settings.sites.split(",") if part.strip()]
    chosen = list(sites) if wanted == ["all"] else []
    for suffix in wanted if wanted != ["all"] else []:
        found = [site for site in sites if f".{site}".endswith(f".{suffix}")]
        if not found:
            known = ", ".join(sorted({site.rpartition(".")[2] for site in sites}))
            raise TrainingError(
                f"lora.sites: no site of the backbone ends with {suffix!r}; its sites end with: "
                f"{known}; or all"
            )
        chosen += found
    if settings.layers is not None:
        numbers = sorted({layer for site in sites if (layer := layer_number(site)) is not None})
        if settings.layers > len(numbers):
            raise TrainingError(
                f"lora.layers: {settings.layers} of the last layers, and there are {len(numbers)}"
            )
        last = set(numbers[-settings.layers :])
        chosen = [site for site in chosen if layer_number(site) in last]
    kept = set(chosen)
    return tuple(site for site in sites if site in kept)


def layer_number(site: str) -> int | None:
    """The number of the layer that a site is in: the first number among its names."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", site)
    return int(found.group(1)) if found else None


def _product(encoder: nn.Module, site: str) -> nn.Module:
    try:
        module = encoder.get_submodule(site)
    except AttributeError as error:
        raise TrainingError(
            f"the torch model has no module {site!r} where the graph has"
        ) from error
    if not isinstance(module, nn.Linear | Conv1D):
        raise TrainingError(
            f"{site!r} is a {type(module).__name__} in torch; LoRA is trained at linear layers"
        )
    return module
