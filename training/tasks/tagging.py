"""Tagging: entities, which are characters of a text with a type, learnt as tags of its tokens."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import numpy as np

from adapters.entities import Located, locate
from adapters.manifest import MAX_TAGS, OUTSIDE, Manifest, TaskName
from adapters.tasks import Tagging as Answering
from backbone import Spans
from training.data.entity_cells import parse_labels, parse_row, parse_text
from training.data.spans import TypedSpan, TypedSpans, to_tags
from training.data.tables import Table
from training.errors import InvalidData
from training.measures.entities import measure, token_accuracy
from training.measures.lexicon import lexicon_baseline
from training.tasks.base import Measures, Scored
from training.tasks.classes import Integers, OfClasses
from training.tasks.labels import refuse_few, refuse_unknown, refuse_unseen

MAX_TYPES = (MAX_TAGS - 1) // 2  # "B-x" and "I-x" each, beside "O"


class Tagging(OfClasses):
    """A target is the entities of a text. The loss is the log loss of its tokens' tags.

    Text beyond the backbone's max_length has no tokens: entities there teach nothing, and count as
    missed.
    """

    NAME: ClassVar[TaskName] = "tagging"
    PER_TOKEN: ClassVar[bool] = True

    def read(self, table: Table, text: str, label: str) -> tuple[list[str], list[TypedSpans]]:
        """Words with BIO tags, or texts with entities as predictions have them.

        Raises InvalidData.
        """
        table.require(text, "--input-column")
        table.require(label, "--label-column")
        texts, labels = table.parse(text, parse_text), table.parse(label, parse_labels)
        # What labels mean says the text: cells of both, at the place of the labels.
        pairs = replace(table, cells={label: list(zip(texts, labels, strict=True))})
        rows = pairs.parse(label, _row)
        targets = [spans for _, spans in rows]
        if (n_types := len(_rows_of_types(targets))) > MAX_TYPES:
            raise InvalidData(
                f"{table.path}: the column {label!r} holds {n_types:,} different types of "
                f"entities; {MAX_TYPES} are allowed. Is it the right column?"
            )
        return [text for text, _ in rows], targets

    def strata(self, targets: Sequence[TypedSpans]) -> list[str]:
        """The rarest type of a row's entities; "" for none."""
        rows = _rows_of_types(targets)
        return [
            min(_types(spans), key=lambda label: (rows[label], label), default="")
            for spans in targets
        ]

    def check_all(self, targets: Sequence[TypedSpans]) -> None:
        """An entity, and three rows for each type."""
        counts = _rows_of_types(targets)
        if not counts:
            raise InvalidData("No row has an entity. Training needs some to find others.")
        refuse_few(counts, 3, "rows, and three are needed to hold one out")

    def check(self, train: Sequence[TypedSpans], test: Sequence[TypedSpans]) -> None:
        """An entity, two training rows for each type, and none that the test alone has."""
        seen = _rows_of_types(train)
        if not seen:
            raise InvalidData(
                "No training row has an entity. At least two rows of each type are needed."
            )
        refuse_few(seen, 2, "training rows, and two are needed")
        refuse_unseen(seen, _each_type(test))

    def check_known(self, targets: Sequence[TypedSpans], labels: Sequence[str]) -> None:
        """Each type has a tag among the labels."""
        refuse_unknown(_each_type(targets), _types_of_tags(labels))

    def labels(self, train: Sequence[TypedSpans]) -> tuple[str, ...]:
        """Both tags of each type, and that of no entity; sorted."""
        types = _rows_of_types(train)
        return tuple(sorted([OUTSIDE, *(f"{prefix}-{each}" for prefix in "BI" for each in types)]))

    def encode(
        self, targets: Sequence[TypedSpans], labels: Sequence[str], tokens: Sequence[Spans] | None
    ) -> Integers:
        """Tag numbers [m] of all rows' tokens, by `to_tags`; -1 for what is no label."""
        assert tokens is not None, "tags are of tokens"
        known = {label: number for number, label in enumerate(labels)}
        tags = (
            to_tags(spans, each.characters) for spans, each in zip(targets, tokens, strict=True)
        )
        return np.array([known.get(tag, -1) for row in tags for tag in row], dtype=np.int64)

    def measure(
        self, scored: Scored, targets: Sequence[TypedSpans], manifest: Manifest, seed: int
    ) -> Measures:
        """F1, precision and recall of entities, and the share of tokens with the right tag."""
        assert scored.tokens is not None, "tags are of tokens"
        found = [[(e.start, e.end, e.label) for e in row] for row in _answers(scored, manifest)]
        right = [
            int((scores.argmax(axis=1) == self.encode([spans], manifest.labels, [tokens])).sum())
            for scores, spans, tokens in zip(scored.scores, targets, scored.tokens, strict=True)
        ]
        n_tokens = [len(scores) for scores in scored.scores]
        return {
            **measure(found, targets, seed=seed),
            "token_accuracy": token_accuracy(right, n_tokens, seed=seed),
        }

    def baselines(
        self,
        train: tuple[Sequence[str], Sequence[TypedSpans]],
        test: tuple[Sequence[str], Sequence[TypedSpans]],
        labels: Sequence[str],
        seed: int,
    ) -> Mapping[str, Measures]:
        """No entity anywhere, and the tags that words have in training."""
        if not train[0]:
            return {}
        known = _types_of_tags(labels)
        spans = [[span for span in row if span[2] in known] for row in train[1]]
        nothing: list[list[TypedSpan]] = [[] for _ in test[0]]
        lexicon = lexicon_baseline(train[0], spans, test[0])
        return {
            "majority": measure(nothing, test[1], seed=seed),
            "lexicon": measure(lexicon, test[1], seed=seed),
        }

    def predictions(self, scored: Scored, manifest: Manifest) -> list[dict[str, Any]]:
        """`{"entities": [{"label", "score", "start", "end", "text"}]}` a row."""
        return [
            {"entities": [{**asdict(each), "text": text[each.start : each.end]} for each in row]}
            for text, row in zip(scored.texts, _answers(scored, manifest), strict=True)
        ]


def _answers(scored: Scored, manifest: Manifest) -> Iterator[list[Located]]:
    """The entities of each row, by the code that a server answers with."""
    assert scored.tokens is not None, "tags are of tokens"
    answering = Answering.build(manifest)
    for text, scores, tokens in zip(scored.texts, scored.scores, scored.tokens, strict=True):
        yield locate(answering.answer(scores, top_k=1).entities, text, tokens.characters)


def _row(cell: Any) -> tuple[str, TypedSpans]:
    text, labels = cell
    return parse_row(text, labels)


def _types(spans: TypedSpans) -> set[str]:
    return {label for _, _, label in spans}


def _types_of_tags(labels: Sequence[str]) -> set[str]:
    return {label[2:] for label in labels if label != OUTSIDE}


def _rows_of_types(targets: Sequence[TypedSpans]) -> Counter[str]:
    """In how many rows each type has an entity."""
    return Counter(_each_type(targets))


def _each_type(targets: Sequence[TypedSpans]) -> Iterator[str]:
    """The types of each row, once a row."""
    return (label for spans in targets for label in sorted(_types(spans)))
