"""What one request may ask for, and what its answer may weigh; more is refused as TooLarge."""

import json
from collections.abc import Iterable, Iterator, Sequence

from adapters.adapter import Adapter
from adapters.answers import Answer, Tagged
from adapters.errors import TooLarge
from adapters.json_size import JsonLimits
from service.answers import most_scores
from service.settings import Settings

_SCORE_BYTES = 60  # of JSON around a label
_ELEMENTS_PER_INPUT = 16  # values and keys: requests of some inputs too many are told how many
_MORE_ELEMENTS = 1024  # for adapters, outputs and parameters
_MOST_CHARACTER_BYTES = 12  # of JSON: an emoji as two escapes
_LEAST_TEXT_BYTES = 64 * 2**10  # for names and ids
_OTHER_BYTES = 64  # outside of strings, an element: indented JSON has 10 to 30
MOST_LISTED = 1000  # items of a list in one answer
USUALLY_LISTED = 100  # where the request does not say how many
MOST_OPEN_BYTES = 4096  # of a message of gRPC that needs no key
INLINE_BYTES = 64 * 2**10  # a longer request is unpacked in a thread
INLINE_ELEMENTS = 2_000  # the same of one with more values and keys
INLINE_MODELS = 1_000  # a list with more is put together in a thread
INLINE_SCORES = 2_000  # an answer with more is put together in a thread


def most_elements(settings: Settings) -> int:
    """Of a request, as JSON or over gRPC: far more than one needs that is not refused later."""
    return _MORE_ELEMENTS + _ELEMENTS_PER_INPUT * settings.max_inputs


def json_limits(settings: Settings) -> JsonLimits:
    """Of a body."""
    elements = most_elements(settings)
    return JsonLimits(
        elements=elements,
        text_bytes=max(_LEAST_TEXT_BYTES, _MOST_CHARACTER_BYTES * settings.max_text_chars),
        other_bytes=_OTHER_BYTES * elements,
    )


def input_hint(settings: Settings) -> str:
    """What a request may have, for who sent far too much of something."""
    return (
        f"a request has at most {most_inputs(settings)} inputs of at most "
        f"{settings.max_text_chars} characters"
    )


def check_count(inputs: int, settings: Settings) -> None:
    """Raise TooLarge for more inputs than the settings allow."""
    if inputs > most_inputs(settings):
        raise too_many_inputs(inputs, settings)


def too_many_inputs(inputs: int, settings: Settings) -> TooLarge:
    """Why so many inputs are refused."""
    return TooLarge(f"{inputs} inputs; a request has at most {most_inputs(settings)}")


def most_inputs(settings: Settings) -> int:
    """Of one request."""
    return min(settings.max_inputs, settings.queue_rows)  # more could never wait


def check_inputs(inputs: Sequence[str], settings: Settings) -> None:
    """Raise TooLarge for more inputs, or longer ones, than the settings allow."""
    check_count(len(inputs), settings)
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


def check_weights(versions: Sequence[Adapter], inputs: int, settings: Settings) -> None:
    """Raise TooLarge for adapters that together are too large, or too slow for so many inputs."""
    size = sum(each.size for each in versions)
    if size > settings.max_adapter_bytes:
        raise TooLarge(
            f"the adapters of one request have at most {settings.max_adapter_bytes} bytes; ask "
            "fewer of them at once"
        )
    if size * inputs > settings.max_head_bytes:
        raise TooLarge(
            f"{inputs} inputs for adapters of {size} bytes in all take too long in one request; "
            f"send at most {max(1, settings.max_head_bytes // size)} at once"
        )


def check_size(inputs: int, top_k: int, versions: Sequence[Adapter], settings: Settings) -> None:
    """Raise TooLarge for an answer of too many scores, entities aside."""
    each = sum(most_scores(version.manifest, top_k) for version in versions)
    n_scores = inputs * each
    if n_scores > settings.max_scores:
        raise TooLarge(
            f"{inputs} inputs with {each} labels each: an answer has at most "
            f"{settings.max_scores} scores; send fewer inputs at once, or a smaller top_k"
        )
    if n_scores > INLINE_SCORES:  # an escaped character takes six bytes, an emoji twelve
        label = max(len(json.dumps(each)) for each in _labels(versions))
        if n_scores * (label + _SCORE_BYTES) > settings.max_answer_bytes:
            raise TooLarge(
                f"{n_scores} scores with labels of up to {label} bytes: an answer has at most "
                f"{settings.max_answer_bytes} bytes; send fewer inputs at once, or a smaller top_k"
            )


def check_vectors(inputs: int, width: int, settings: Settings) -> None:
    """Raise TooLarge for more numbers than an answer of vectors has."""
    most = settings.max_vector_numbers
    if inputs * width > most:
        raise TooLarge(
            f"{inputs} inputs of {width} numbers each: an answer has at most {most}; send at most "
            f"{max(1, most // width)} inputs at once"
        )


def check_entities(answers: Iterable[Answer], settings: Settings) -> None:
    """Raise TooLarge for too many entities; how many there are is not known before."""
    n_entities = sum(len(answer.entities) for answer in answers if isinstance(answer, Tagged))
    if n_entities > settings.max_scores:
        raise TooLarge(
            f"{n_entities} entities were found: an answer has at most {settings.max_scores}; send "
            "fewer inputs at once"
        )


def _labels(versions: Sequence[Adapter]) -> Iterator[str]:
    return (label for version in versions for label in version.manifest.labels)
