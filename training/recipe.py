"""How to train: everything that is decided beside the data and the backbone."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.manifest import TaskName
from training.augment import Kind as AugmentationKind
from training.errors import InvalidRecipe
from training.features import LAYERS, POOLED, TOKENS
from training.finetune.settings import LoraRecipe
from training.heads import METHODS, MethodName
from training.tasks import TASKS
from training.tasks.base import VALUES

MAX_SEED = 2**32 - 1  # as scikit-learn takes them
Names = Literal["auto", "yes", "no"]
Augment = Literal["none", "auto", AugmentationKind]
ClassWeights = Literal["none", "balanced"]


class Recipe(BaseModel):
    """One training's settings. The same recipe, data, seed and backbone give the same file.

    `head` None is the task's usual one. `names` says whether labels' names, encoded, stand among
    the training rows: "auto" tries it where rows are few. `augment` says whether changed `copies`
    of each training row teach too (see `training.augment`): "auto" tries each kind. `mix` tries a
    mix of the backbone's layers, where it has been added with them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: TaskName = "classification"
    head: MethodName | None = None
    weights: ClassWeights = "none"
    names: Names = "auto"
    augment: Augment = "none"
    copies: Annotated[int, Field(ge=1, le=8)] = 1
    lora: LoraRecipe | None = None
    mix: bool = False
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0

    @property
    def method(self) -> MethodName:
        """How the head is fitted."""
        usual: MethodName = "ridge" if TASKS[self.task].KIND == VALUES else "logistic"
        return self.head or usual

    @property
    def feature(self) -> str:
        """The backbone's feature that heads are fitted on."""
        if self.mix:
            return LAYERS
        return TOKENS if TASKS[self.task].PER_TOKEN else POOLED

    @model_validator(mode="after")
    def _check_head(self) -> "Recipe":
        kind = TASKS[self.task].KIND
        if kind not in METHODS[self.method].KINDS:
            known = ", ".join(name for name, each in METHODS.items() if kind in each.KINDS)
            raise ValueError(f"a {self.method} head cannot do {self.task}; it is done by {known}")
        if self.lora and self.lora.contrastive and self.task != "classification":
            raise ValueError(f"lora.contrastive: {self.task} has no classes of rows to contrast")
        if self.mix and (self.lora or self.task == "tagging"):
            beside = "lora trains for the last layer" if self.lora else "a tagger takes each token"
            raise ValueError(f"mix: {beside}, and layers are mixed of frozen whole rows")
        if self.mix and self.augment != "none":
            raise ValueError("mix: it is learned of rows as they are; augment must be none")
        if self.weights != "none" and not METHODS[self.method].WEIGHTED:
            known = ", ".join(
                name for name, each in METHODS.items() if kind in each.KINDS and each.WEIGHTED
            )
            raise ValueError(
                f"a {self.method} head counts the rows that it stores, and none for more than "
                f"another: weights must be none; they are taken by {known}"
            )
        return self

    @model_validator(mode="after")
    def _check_augment(self) -> "Recipe":
        if self.augment == "none":
            return self
        if TASKS[self.task].PER_TOKEN:
            raise ValueError(
                f"augment: a changed text has its words elsewhere, and {self.task} needs their "
                "places; use augment=none"
            )
        if self.lora is not None:
            raise ValueError("augment: LoRA is trained on rows as they are; use augment=none")
        return self


def make_recipe(settings: Mapping[str, Any], changes: Sequence[str] = ()) -> Recipe:
    """A recipe from what a user gave; `changes` are NAME=VALUE, dots for parts ("lora.rank=4").

    Raises:
        InvalidRecipe: with the setting's name.
    """
    content = dict(settings)
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise InvalidRecipe(f"{change!r} must be NAME=VALUE, such as lora.rank=4")
        part, dot, inner = name.strip().partition(".")
        if dot:
            content[part] = {**(content.get(part) or {}), inner: value.strip()}
        else:
            content[part] = value.strip()
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = LoraRecipe if first["loc"][0] == "lora" else Recipe
            raise InvalidRecipe(
                f"there is no setting {where}; known are: {', '.join(known.model_fields)}"
            ) from error
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidRecipe(f"{where}: {reason}" if where else reason) from error
