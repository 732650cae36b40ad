"""One job in a process of its own, or on a computer of its own: what it needs, what it gives."""

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from adapters.errors import HeadstockError
from backbone import Backbone, BackboneError, find_backbone, load_backbone
from training.features import Encoded, FeatureCache, Progress
from training.recipe import Recipe
from training.tasks import TASKS
from training.train import Lesson, train_lesson
from training.workshop import Workshop


@dataclass(frozen=True, slots=True)
class BackbonePlace:
    """Where LoRA finds the backbone; a frozen one's features come along, and nothing is opened."""

    root: Path
    name: str
    digest: str
    cache: Path

    def open(self) -> Backbone:
        """The backbone, loaded once a process. Raises BackboneError."""
        found = _open(self.root, self.name)
        if found.digest != self.digest:
            raise BackboneError(
                f"the backbone {self.name} under {self.root} is {found.digest[:12]}… here and "
                f"{self.digest[:12]}… where the training was started; add the same one"
            )
        return found


@cache
def _open(root: Path, name: str) -> Backbone:
    return load_backbone(find_backbone(root, name))


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A job with its rows and their features; `number` is its place in the manifest."""

    number: int
    recipe: Recipe
    lesson: Lesson
    encoded: Encoded
    backbone: BackbonePlace


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """An adapter file's bytes, or the reason why there are none; `seconds` that it took."""

    number: int
    seconds: float
    content: bytes | None = None
    digest: str | None = None
    accuracy: float | None = None
    reason: str | None = None


def perform(work: Work) -> Outcome:
    """Train; whatever goes wrong is this job's failure alone."""
    started = time.perf_counter()
    workshop = Workshop(
        work.backbone.open,
        FeatureCache(work.backbone.cache),
        work.recipe,
        TASKS[work.recipe.task],
        _unseen,
    )
    try:
        trained = train_lesson(workshop, work.lesson, work.encoded, work.backbone.digest)
    except (HeadstockError, BackboneError) as error:
        return Outcome(work.number, time.perf_counter() - started, reason=str(error))
    except Exception as error:  # a defect that one customer's rows bring out
        reason = f"{type(error).__name__}: {error}"
        return Outcome(work.number, time.perf_counter() - started, reason=reason)
    measured = trained.manifest.measured
    accuracy = None if measured is None else measured.adapter.get("accuracy")
    return Outcome(
        work.number,
        time.perf_counter() - started,
        content=trained.content,
        digest=trained.digest,
        accuracy=None if accuracy is None else accuracy.value,
    )


def _unseen(_: str) -> Progress:
    return lambda _done, _total: None
