"""From a request of the protocol to its output tensors, through the pipeline."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.answers import Classified, Estimated, MultiLabelled, Ranked
from adapters.errors import InvalidInput
from adapters.manifest import MAX_LABELS, TaskName
from service.answers import to_prediction
from service.aside import aside
from service.ask import Ask
from service.bounds import INLINE_SCORES
from service.charging import find_truncated
from service.oip.names import ModelName
from service.oip.tensors import Tensor
from service.pipeline import Answered, Pipeline
from service.schemas import TaggingPrediction

INPUT = "text"


@dataclass(frozen=True, slots=True)
class Inference:
    """What is asked: texts, and the names of the outputs that are wanted; none: all."""

    texts: Sequence[str]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inferred:
    """What was answered, and by which version; `truncated` texts were cut."""

    version: int
    outputs: Sequence[Tensor]
    truncated: int

    @property
    def parameters(self) -> Mapping[str, int]:
        """The parameters of the answer."""
        return {"truncated_inputs": self.truncated} if self.truncated else {}


async def infer(
    pipeline: Pipeline,
    ask: Ask,
    model: ModelName,
    version: int | None,
    request: Inference,
) -> Inferred:
    """Answer texts with a tenant's adapter.

    Raises:
        InvalidInput: an output that the adapter's task does not have, or one that is named twice.
        HeadstockError: as `Pipeline.predict`.
    """
    if len(set(request.outputs)) < len(request.outputs):
        raise InvalidInput("an output is named twice: each has one place in the answer")
    # Which outputs there are, and how many scores they need, is told by the version alone; a score
    # of each label is a sort more for a row.
    needs_all = not request.outputs or "scores" in request.outputs
    answered = await pipeline.infer(
        ask,
        model.tenant,
        model.adapter,
        version,
        request.texts,
        MAX_LABELS if needs_all else 1,
    )
    manifest = answered.version.manifest
    known = OUTPUTS[manifest.task]
    for name in request.outputs:
        if name not in known:
            raise InvalidInput(
                f"there is no output {name[:40]!r}; the outputs of {manifest.task} are "
                f"{', '.join(known)}"
            )
    wanted = request.outputs or tuple(known)
    n_scores = len(request.texts) * len(manifest.labels)
    outputs = await aside(
        needs_all and n_scores > INLINE_SCORES,
        lambda: [known[name].make(name, answered, request.texts) for name in wanted],
    )
    return Inferred(answered.release.number, outputs, len(find_truncated(answered.rows)))


@dataclass(frozen=True, slots=True)
class Output:
    """An output tensor: its type, its shape after the rows (-1: the labels), and its maker."""

    datatype: str
    inner: tuple[int, ...]
    make: Callable[[str, Answered, Sequence[str]], Tensor]


def _label(name: str, answered: Answered, _: Sequence[str]) -> Tensor:
    labels = [each.top[0][0] for each in answered.answers if isinstance(each, Classified)]
    return Tensor(name, (len(labels),), labels)


def _score(name: str, answered: Answered, _: Sequence[str]) -> Tensor:
    scores = [each.top[0][1] for each in answered.answers if isinstance(each, Classified)]
    return Tensor(name, (len(scores),), np.array(scores, dtype=np.float32))


def _scores(name: str, answered: Answered, _: Sequence[str]) -> Tensor:
    tops = [each.top for each in answered.answers if isinstance(each, Classified | MultiLabelled)]
    return _matrix(name, answered, [dict(top) for top in tops])


def _values(name: str, answered: Answered, _: Sequence[str]) -> Tensor:
    values = [each.values for each in answered.answers if isinstance(each, Estimated)]
    return _matrix(name, answered, values)


def _matrix(name: str, answered: Answered, rows: Sequence[Mapping[str, float]]) -> Tensor:
    """[n, C], in the order of the adapter's labels."""
    labels = answered.version.manifest.labels
    matrix: NDArray[np.float32] = np.array(
        [[row[label] for label in labels] for row in rows], dtype=np.float32
    )
    return Tensor(name, matrix.shape, matrix)


def _labels(name: str, answered: Answered, _: Sequence[str]) -> Tensor:
    found = [each.labels for each in answered.answers if isinstance(each, MultiLabelled)]
    return Tensor(name, (len(found),), [_listed(labels) for labels in found])


def _listed(labels: Ranked) -> str:
    return json.dumps([label for label, _ in labels], ensure_ascii=False)


def _entities(name: str, answered: Answered, texts: Sequence[str]) -> Tensor:
    values = []
    for answer, text, row in zip(answered.answers, texts, answered.rows, strict=True):
        prediction = to_prediction(answer, text, row.spans.characters if row.spans else ())
        assert isinstance(prediction, TaggingPrediction), "a tagger answers with entities"
        found = [each.model_dump() for each in prediction.entities]
        values.append(json.dumps(found, ensure_ascii=False))
    return Tensor(name, (len(values),), values)


OUTPUTS: Mapping[TaskName, Mapping[str, Output]] = {
    "classification": {
        "label": Output("BYTES", (), _label),
        "score": Output("FP32", (), _score),
        "scores": Output("FP32", (-1,), _scores),
    },
    "multilabel": {
        "labels": Output("BYTES", (), _labels),  # a JSON list a row: as many as apply
        "scores": Output("FP32", (-1,), _scores),
    },
    "regression": {"values": Output("FP32", (-1,), _values)},
    "tagging": {"entities": Output("BYTES", (), _entities)},  # a JSON list a row
}
