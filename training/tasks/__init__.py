"""The catalogue of tasks that training knows."""

from typing import Any

from adapters.manifest import TaskName
from training.tasks.base import CLASS, LABELS, VALUES, Scored, Task
from training.tasks.classification import Classification
from training.tasks.multilabel import Multilabel
from training.tasks.regression import Regression
from training.tasks.tagging import Tagging

TASKS: dict[TaskName, Task[Any]] = {
    "classification": Classification(),
    "multilabel": Multilabel(),
    "regression": Regression(),
    "tagging": Tagging(),
}

__all__ = [
    "CLASS",
    "LABELS",
    "TASKS",
    "VALUES",
    "Classification",
    "Multilabel",
    "Regression",
    "Scored",
    "Tagging",
    "Task",
]
