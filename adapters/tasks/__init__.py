"""The closed catalogue of tasks: what a head's raw outputs mean."""

from adapters.manifest import TaskName
from adapters.tasks.base import Floats, Task
from adapters.tasks.classification import Classification
from adapters.tasks.multilabel import Multilabel
from adapters.tasks.regression import Regression
from adapters.tasks.tagging import Tagging, join_entities

TASKS: dict[TaskName, type[Task]] = {
    "classification": Classification,
    "multilabel": Multilabel,
    "regression": Regression,
    "tagging": Tagging,
}

__all__ = [
    "TASKS",
    "Classification",
    "Floats",
    "Multilabel",
    "Regression",
    "Tagging",
    "Task",
    "join_entities",
]
