"""From what adapters answer to what is sent: tokens become characters here."""

import unicodedata
from collections.abc import Sequence

from adapters.answers import (
    Answer,
    Classified,
    Entity,
    Estimated,
    MultiLabelled,
    Ranked,
    Tagged,
)
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

Span = tuple[int, int]  # characters of a text, the second one past the last


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
            found = [_locate(entity, text, spans) for entity in entities]
            return TaggingPrediction(entities=[each for each in found if each is not None])


def most_scores(manifest: Manifest, top_k: int) -> int:
    """How many scores the answer to one input has at most; a tagger's depend on the text alone."""
    n_labels = len(manifest.labels)
    if manifest.task == "tagging":
        return 0
    if manifest.task == "regression":
        return n_labels
    ranked = min(top_k, n_labels)
    return ranked if manifest.task == "classification" else n_labels + ranked


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


def _locate(entity: Entity, text: str, spans: Sequence[Span]) -> EntitySpan | None:
    """The characters of an entity; None where its tokens stand for no characters but space.

    Some tokenizers put the space before a word into its token, and leave out combining marks.
    """
    tokens = [span for span in spans[entity.first : entity.end] if span[0] < span[1]]
    if not tokens:
        return None
    start, end = min(first for first, _ in tokens), max(last for _, last in tokens)
    piece = text[start:end]
    start, end = start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
    if start >= end:
        return None
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1
    return EntitySpan(
        label=entity.label, score=entity.score, start=start, end=end, text=text[start:end]
    )
