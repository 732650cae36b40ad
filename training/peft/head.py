"""The head that a PEFT folder carries, where an adapter's head computes the same of a feature.

What stands between tokens and outputs is known of the families of transformers: tags are a linear
layer on each token; a text's classes are one behind a pooler or dense layer with tanh or gelu, of
which no head of the adapter file is made. DistilBERT's head alone is a perceptron with ReLU.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import HeadName, TaskName
from training.errors import InvalidPeft
from training.peft.lora import PeftLora

_TAGS, _TEXTS = "TOKEN_CLS", "SEQ_CLS"  # PEFT's task types
_PERCEPTRON = (
    *("pre_classifier.weight", "pre_classifier.bias"),
    *("classifier.weight", "classifier.bias"),
)
_INSTEAD = "fit a head on rows of yours: headstock train DATA --peft FOLDER"

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class CarriedHead:
    """A head as an adapter file has it. `of_first_token`: its feature is the first token's."""

    task: TaskName
    head: HeadName
    tensors: Tensors
    of_first_token: bool = False

    @property
    def outputs(self) -> int:
        """The number of labels."""
        return len(self.tensors["head.bias"])


def read_head(peft: PeftLora, task: TaskName | None) -> CarriedHead:
    """The head, and its task where `task` does not say it.

    Raises:
        InvalidPeft: there is none, or no head of an adapter file computes the same.
    """
    path, kind = peft.folder.path, peft.folder.config.task_type
    if not peft.head:
        raise InvalidPeft(f"{path} has LoRA and no head; {_INSTEAD}")
    if peft.head_lora:
        raise InvalidPeft(
            f"{path} has LoRA inside its head, at {peft.head_lora[0][:120]!a}, and not the "
            f"weights that it is added to; {_INSTEAD}"
        )
    if kind not in (_TAGS, _TEXTS) and task is None:
        raise InvalidPeft(
            f"{path} has the task_type {ascii(kind)[:40]}: say with --task what its head does; one "
            "linear layer is then taken to stand on the backbone's own feature"
        )
    if task is not None and kind in (_TAGS, _TEXTS) and (task == "tagging") != (kind == _TAGS):
        raise InvalidPeft(f"--task {task}: {path} has the task_type {kind}")
    if set(peft.head) == set(_PERCEPTRON) and kind != _TAGS and task != "tagging":
        return _perceptron(peft, task)
    return _linear(peft, task)


def _perceptron(peft: PeftLora, task: TaskName | None) -> CarriedHead:
    """DistilBERT's: pre_classifier, ReLU and classifier on the first token's vector."""
    hidden, hidden_bias, weight, bias = (peft.head[name] for name in _PERCEPTRON)
    _check_layer("pre_classifier", hidden, hidden_bias)
    _check_layer("classifier", weight, bias)
    tensors = {
        "head.hidden.weight": hidden,
        "head.hidden.bias": hidden_bias,
        "head.weight": weight,
        "head.bias": bias,
    }
    return CarriedHead(task or _usual(len(bias)), "mlp", tensors, of_first_token=True)


def _linear(peft: PeftLora, task: TaskName | None) -> CarriedHead:
    """One linear layer, which must be all that there is behind the feature."""
    kind, path = peft.folder.config.task_type, peft.folder.path
    name = next((each for each in ("classifier", "score") if f"{each}.weight" in peft.head), None)
    if name is None or set(peft.head) - {f"{name}.weight", f"{name}.bias"}:
        raise InvalidPeft(
            f"the head of {path} is {', '.join(ascii(each[:80]) for each in list(peft.head)[:8])}: "
            f"no head of an adapter computes that; {_INSTEAD}"
        )
    if kind == _TEXTS:
        raise InvalidPeft(
            f"the head of {path} stands behind layers of the base model (such as BERT's pooler "
            f"with its tanh, RoBERTa's dense) and not on a feature of the backbone; {_INSTEAD}"
        )
    if kind == _TAGS and name == "classifier" and peft.family == "model":
        raise InvalidPeft(
            f"the classifier of {path} may stand behind layers of the base model, as ModernBERT's "
            f"does; {_INSTEAD}"
        )
    weight = peft.head[f"{name}.weight"]
    bias = peft.head.get(f"{name}.bias", np.zeros(len(weight), np.float32))
    _check_layer(name, weight, bias)
    tensors = {"head.weight": weight, "head.bias": bias}
    return CarriedHead("tagging" if kind == _TAGS else task or _usual(len(bias)), "linear", tensors)


def _usual(outputs: int) -> TaskName:
    """What transformers takes so many outputs of a text for."""
    return "classification" if outputs > 1 else "regression"


def _check_layer(name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise InvalidPeft(
            f"{name}.weight is {list(weight.shape)} and {name}.bias {list(bias.shape)}; they are "
            "[outputs, inputs] and [outputs]"
        )
