"""The settings of LoRA training."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from adapters.manifest import MAX_RANK

Device = Literal["auto", "cpu", "cuda"]


class LoraRecipe(BaseModel):
    """What is trained inside the backbone, for how long and how fast.

    Rates rise from zero to their peaks during the warm-up, then fall to zero along a cosine.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: Annotated[
        int,
        Field(ge=1, le=MAX_RANK, description="Rank of the added products; files grow with it."),
    ] = 8
    alpha: Annotated[
        float, Field(gt=0, le=1024, description="What is added counts alpha / rank times.")
    ] = 16.0
    dropout: Annotated[
        float, Field(ge=0, lt=1, description="Of what goes into the added products.")
    ] = 0.1
    model_dropout: Annotated[
        bool, Field(description="Whether the model's own dropout is on in training too.")
    ] = True
    sites: Annotated[
        str, Field(description="Endings of site names, comma-separated, or `all`.")
    ] = "all"
    layers: Annotated[
        int | None,
        Field(ge=1, description="Only the last so many layers; earlier ones stay frozen."),
    ] = None
    epochs: Annotated[int, Field(ge=1, le=1000, description="Passes over the rows, at most.")] = 10
    contrastive: Annotated[
        int,
        Field(ge=0, le=1000, description="Epochs of supervised contrastive learning before."),
    ] = 0
    batch: Annotated[int, Field(ge=1, le=4096, description="Rows a step.")] = 32
    rate: Annotated[float, Field(gt=0, le=1, description="Peak learning rate of LoRA.")] = 2e-3
    head_rate: Annotated[
        float,
        Field(gt=0, le=1, description="Peak learning rate of the head that LoRA learns with."),
    ] = 2e-3
    warmup: Annotated[
        float, Field(ge=0, lt=1, description="Share of steps in which rates rise.")
    ] = 0.1
    weight_decay: Annotated[float, Field(ge=0, le=1, description="AdamW's.")] = 0.01
    smoothing: Annotated[float, Field(ge=0, lt=1, description="Label smoothing.")] = 0.05
    clip: Annotated[float, Field(gt=0, description="Largest norm of a step's gradient.")] = 1.0
    validation: Annotated[
        float,
        Field(ge=0.05, le=0.5, description="Share of the rows that early stopping looks at."),
    ] = 0.2
    patience: Annotated[
        int, Field(ge=1, description="Epochs without a gain on these before it stops.")
    ] = 3
    device: Annotated[
        Device, Field(description="`cpu`, `cuda` (with mixed precision), or `auto`.")
    ] = "auto"
