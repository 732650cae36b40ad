"""The settings of LoRA training."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from adapters.manifest import MAX_RANK

Device = Literal["auto", "cpu", "cuda"]


class LoraRecipe(BaseModel):
    """What is trained, for how long and how fast.

    `sites` are suffixes of site names, comma-separated, or "all"; `layers` says how many of the
    last layers have LoRA (the earlier ones stay frozen), None: all. Rates are the peaks of
    AdamW's: `rate` for LoRA, `head_rate` for the objective's own head. `warmup` is a share of all
    steps; then rates fall to zero along a cosine. `contrastive` epochs of supervised contrastive
    learning come first. `validation` is the share of the training rows that early stopping looks
    at, and `patience` the epochs without gain that it bears.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] = 8
    alpha: Annotated[float, Field(gt=0, le=1024)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    sites: str = "all"
    layers: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1, le=1000)] = 10
    contrastive: Annotated[int, Field(ge=0, le=1000)] = 0
    batch: Annotated[int, Field(ge=1, le=4096)] = 32
    rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    head_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    clip: Annotated[float, Field(gt=0)] = 1.0
    validation: Annotated[float, Field(ge=0.05, le=0.5)] = 0.2
    patience: Annotated[int, Field(ge=1)] = 3
    device: Device = "auto"
