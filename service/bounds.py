"""What one request may ask for, and what its answer may weigh; more is refused as TooLarge."""

import json
from collections.abc import Iterable, Iterator, Sequence

from adapters.adapter import Adapter
from adapters.answers import Answer, Tagged
from adapters.errors import TooLarge
from service.answers import most_scores
from service.settings import Settings

MOST_SCORES = 100_000  # of one answer: 5 MB of JSON, where labels are short
_MOST_ANSWER_BYTES = 16 * 2**20
_MOST_FLOATS = 500_000  # 10 MB of JSON
_SCORE_BYTES = 60  # of JSON around a label
_MOST_ADAPTER_BYTES = 256 * 2**20  # of one request
_MOST_HEAD_BYTES = 4 * 2**30  # weights that the heads of one request read: seconds of work
INLINE_BYTES = 64 * 2**10  # a longer request is unpacked in a thread
INLINE_SCORES = 2_000  # an answer with more is put together in a thread


def check_inputs(inputs: Sequence[str], settings: Settings) -> None:
    """Raise TooLarge for more inputs, or longer ones, than the settings allow."""
    most = min(settings.max_inputs, settings.queue_rows)  # more could never wait
    if len(inputs) > most:
        raise TooLarge(f"{len(inputs)} inputs; a request has at most {most}")
    for position, text in enumerate(inputs):
        if len(text) > settings.max_text_chars:
            raise TooLarge(
                f"input {position} has {len(text)} characters; a text has at most "
                f"{settings.max_text_chars}"
            )


def check_rows(rows: int, most: int) -> None:
    """Raise TooLarge for more passes of a backbone than could ever wait."""
    if rows > most:
        raise TooLarge(
            f"{rows} passes of the backbone (inputs times different LoRAs), at most {most}; send "
            "fewer inputs or adapters at once"
        )


def check_weights(versions: Sequence[Adapter], inputs: int) -> None:
    """Raise TooLarge for adapters that together are too large, or too slow for so many inputs."""
    size = sum(each.size for each in versions)
    if size > _MOST_ADAPTER_BYTES:
        raise TooLarge(f"the adapters of one request have at most {_MOST_ADAPTER_BYTES} bytes")
    if size * inputs > _MOST_HEAD_BYTES:
        raise TooLarge(
            f"{inputs} inputs for adapters of {size} bytes in all take too long in one request; "
            f"send at most {max(1, _MOST_HEAD_BYTES // size)} at once"
        )


def check_size(inputs: int, top_k: int, versions: Sequence[Adapter]) -> None:
    """Raise TooLarge for an answer of too many scores, entities aside."""
    each = sum(most_scores(version.manifest, top_k) for version in versions)
    n_scores = inputs * each
    if n_scores > MOST_SCORES:
        raise TooLarge(
            f"{inputs} inputs with {each} labels each: an answer has at most "
            f"{MOST_SCORES} scores; send fewer inputs at once, or a smaller top_k"
        )
    if n_scores > INLINE_SCORES:  # an escaped character takes six bytes, an emoji twelve
        label = max(len(json.dumps(each)) for each in _labels(versions))
        if n_scores * (label + _SCORE_BYTES) > _MOST_ANSWER_BYTES:
            raise TooLarge(
                f"{n_scores} scores with labels of up to {label} bytes: an answer has at most "
                f"{_MOST_ANSWER_BYTES} bytes; send fewer inputs at once, or a smaller top_k"
            )


def check_floats(inputs: int, width: int) -> None:
    """Raise TooLarge for more numbers than an answer of vectors has."""
    if inputs * width > _MOST_FLOATS:
        raise TooLarge(
            f"{inputs} inputs of {width} numbers each: an answer has at most {_MOST_FLOATS}; send "
            "fewer inputs at once"
        )


def check_entities(answers: Iterable[Answer]) -> None:
    """Raise TooLarge for too many entities; how many there are is not known before."""
    n_entities = sum(len(answer.entities) for answer in answers if isinstance(answer, Tagged))
    if n_entities > MOST_SCORES:
        raise TooLarge(
            f"{n_entities} entities were found: an answer has at most {MOST_SCORES}; send fewer "
            "inputs at once"
        )


def _labels(versions: Sequence[Adapter]) -> Iterator[str]:
    return (label for version in versions for label in version.manifest.labels)
