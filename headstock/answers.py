"""Predictions as a table for people: the columns are the task's."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headstock.client.answers import Prediction

Cells = tuple[str, ...]


def prediction_table(
    texts: Sequence[str], predictions: "Sequence[Prediction]"
) -> tuple[Cells, list[Cells]]:
    """The columns and the rows of one request's predictions, at least one row a text."""
    columns = _columns(predictions[0])
    rows: list[Cells] = []
    for text, prediction in zip(texts, predictions, strict=True):
        found = list(_cells(prediction)) or [("none", *[""] * (len(columns) - 2))]
        rows += [(text if place == 0 else "", *cells) for place, cells in enumerate(found)]
    return columns, rows


def truncation_note(n_texts: int, positions: Sequence[int]) -> str:
    """Say which texts of a request were cut, counted from 1 as in the table."""
    which = ", ".join(str(position + 1) for position in positions)
    return (
        f"Note: {len(positions)} of {n_texts} texts are longer than the backbone reads and were "
        f"cut: {which}."
    )


def _columns(prediction: "Prediction") -> Cells:
    if "entities" in prediction:
        return "text", "entity", "label", "score", "characters"
    if "values" in prediction:
        return "text", "target", "value"
    if "labels" in prediction:
        return "text", "label", "score", "applies"
    return "text", "label", "score"


def _cells(prediction: "Prediction") -> Iterator[Cells]:
    if "entities" in prediction:
        for entity in prediction["entities"]:
            place = f"{entity['start']}-{entity['end']}"
            yield entity["text"], entity["label"], f"{entity['score']:.3f}", place
    elif "values" in prediction:
        for target, value in prediction["values"].items():
            yield target, f"{value:.6g}"
    elif "labels" in prediction:
        applying = [each["label"] for each in prediction["labels"]]
        rest = [each for each in prediction["top"] if each["label"] not in set(applying)]
        for each in [*prediction["labels"], *rest]:
            applies = "yes" if each["label"] in applying else "no"
            yield each["label"], f"{each['score']:.3f}", applies
    else:
        for each in prediction["top"]:
            yield each["label"], f"{each['score']:.3f}"
