"""Modules after the model make one vector of each row's tokens."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backbone.surgery import pooling


class Head(nn.Module):
    """Runs modules in turn, as sentence-transformers does.

    The first `skipped` tokens of a row are a prompt's, for modules that leave it out. `describe`
    gives the same for the graph, or raises BackboneError if the graph cannot do it.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        describe: Callable[[], pooling.Pooling],
        skipped: int = 0,
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(modules)
        self.describe = describe
        self.skipped = skipped

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens [n, t, d] and mask [n, t] to [n, D]."""
        features = {"token_embeddings": tokens, "attention_mask": mask}
        for step in self.steps:
            features = step({**features, "prompt_length": self.skipped})
        pooled: Tensor = features["sentence_embedding"]
        return pooled


class MeanPooling(nn.Module):
    """Takes the mean of a row's tokens, with the bits of sentence-transformers' own module.

    A model alone has it without that library, whose import takes a second and 40 MB.
    """

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Add `sentence_embedding` to the features that sentence-transformers' modules share."""
        tokens: Tensor = features["token_embeddings"]
        mask = features["attention_mask"].unsqueeze(-1).to(tokens.dtype)
        lengths = torch.clamp(mask.sum(dim=1), min=1e-9)
        return {**features, "sentence_embedding": (tokens * mask).sum(dim=1) / lengths}


def mean_head() -> Head:
    """Make what follows a model that comes without a pipeline."""
    return Head([MeanPooling()], lambda: pooling.MEAN).eval()
