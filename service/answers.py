"""From what adapters answer to what is sent."""

from collections.abc import Sequence

from adapters.answers import Answer, Classified, Embedded, Estimated, MultiLabelled, Ranked, Tagged
from adapters.entities import Located, Span, locate
from adapters.manifest import Manifest
from service.schemas import (
    ClassificationPrediction,
    EntitySpan,
    MultilabelPrediction,
    Prediction,
    RegressionPrediction,
    Scored,
    TaggingPrediction,
)


def to_prediction(answer: Answer, text: str, spans: Sequence[Span]) -> Prediction:
    """What is sent for one input; `spans` are those of the tokens that a tagger was given."""
    match answer:
        case Classified(top):
            (label, score), *_ = top
            return ClassificationPrediction(label=label, score=score, top=_scored(top))
        case MultiLabelled(labels, top):
            return MultilabelPrediction(labels=_scored(labels), top=_scored(top))
        case Estimated(values):
            return RegressionPrediction(values=dict(values))
        case Tagged(entities):
            found = locate(entities, text, spans)
            return TaggingPrediction(entities=[_entity(each, text) for each in found])
        case Embedded():
            raise TypeError("a feature is no prediction: no adapter answers with one")


def most_scores(manifest: Manifest, top_k: int) -> int:
    """How many scores the answer to one input has at most; a tagger's depend on the text alone."""
    n_labels = len(manifest.labels)
    if manifest.task == "tagging":
        return 0
    if manifest.task == "regression":
        return n_labels
    ranked = min(top_k, n_labels)
    return ranked if manifest.task == "classification" else n_labels + ranked


def count(answer: Answer) -> int:
    """How many scores an answer has."""
    match answer:
        case Classified(top):
            return len(top)
        case MultiLabelled(labels, top):
            return len(labels) + len(top)
        case Estimated(values):
            return len(values)
        case Tagged(entities):
            return len(entities)
        case Embedded(vector):
            return vector.size


def count_scores(prediction: Prediction) -> int:
    """How many scores a prediction has: what its JSON grows with."""
    match prediction:
        case ClassificationPrediction():
            return len(prediction.top)
        case MultilabelPrediction():
            return len(prediction.labels) + len(prediction.top)
        case RegressionPrediction():
            return len(prediction.values)
        case TaggingPrediction():
            return len(prediction.entities)


def _scored(ranked: Ranked) -> list[Scored]:
    return [Scored(label=label, score=score) for label, score in ranked]


def _entity(found: Located, text: str) -> EntitySpan:
    return EntitySpan(
        label=found.label,
        score=found.score,
        start=found.start,
        end=found.end,
        text=text[found.start : found.end],
    )
