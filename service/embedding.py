"""Vectors of texts, with no head: of a backbone, or of what an adapter's LoRA has made of it.

They have unit length, as OpenAI's clients take for granted: their stores compare by dot products.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from adapters import answers
from adapters.adapter import Adapter
from adapters.errors import InvalidInput
from backbone import Backbone, Manifest
from service import bounds
from service.access import authorize
from service.aside import aside
from service.ask import Ask, loggable
from service.charging import Charging, count_tokens, find_truncated
from service.directory import Directory
from service.engine import Job
from service.engine.job import Times
from service.oip.names import ModelName
from service.routing import Router
from service.settings import Settings

POOLED = "pooled"
_NEAR_UNIT = 1e-5  # a length this near to 1 is rounding: the graph's own bits are kept
_INLINE_IDS = 1_000  # more of them (3 ms of work) are read in a thread
# The names that clients have for what an input is, and the prompts that sentence-transformers
# takes for it: the first that the backbone has.
_DOCUMENT = ("document", "passage", "corpus")
_PROMPT_NAMES: Mapping[str, Sequence[str]] = {
    "search_query": ("query",),
    "search_document": _DOCUMENT,
    "document": _DOCUMENT,
    "passage": ("passage", "document", "corpus"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Vectors [n, d] of texts, how many tokens were read, and which texts were cut."""

    vectors: NDArray[np.float32]
    tokens: int
    truncated: list[int]


class Embedder:
    """Answers embeddings."""

    def __init__(
        self, settings: Settings, directory: Directory, router: Router, charging: Charging
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._router = router
        self._charging = charging

    async def embed(
        self,
        ask: Ask,
        model: str,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        dimensions: int | None = None,
        input_type: str | None = None,
    ) -> Embedded:
        """Embed with a backbone by its name, or with `tenant.adapter`.

        An input is a text, or the ids of its tokens. `dimensions` are those that the client
        expects; None: the model's own. `input_type` chooses among the backbone's prompts.

        Raises:
            HeadstockError: whatever is wrong; `service/errors.py` has the statuses.
        """
        authorize(ask.principal, None, "predict")
        bounds.check_count(len(inputs), self._settings)
        tenant, engine, name = ask.principal.tenant or "", self._router.backbone(model), None
        if engine is None:
            name = ModelName.parse(model)
            authorize(ask.principal, name.tenant, "predict")
            ask.facts.update(loggable(*name))
            tenant, (_, engine) = name.tenant, self._router.released(*name)
        manifest = engine.backbone.manifest
        width = _check_dimensions(model, manifest, dimensions)
        bounds.check_vectors(len(inputs), width, self._settings)
        if not ask.is_charged:
            self._charging.take_request(tenant)
        texts = await _read(model, engine.backbone, inputs)
        bounds.check_inputs(texts, self._settings)
        adapters: tuple[Adapter, ...] = ()
        if name is not None:
            routed = await self._router.route(*name)
            ask.facts["version"] = routed.release.number
            adapters, engine = (routed.version,), routed.engine
        prompt = choose_prompt(manifest.preprocessing.prompts, input_type)
        rows = await engine.preprocess(texts, False, tenant, prompt)
        cache_mode = partial(self._directory.cache_mode, tenant)
        job = Job(tenant, adapters, 1, ask.deadline, cache_mode, embeds=POOLED)
        tokens = count_tokens(rows)
        self._charging.take_tokens(tenant, tokens)
        ask.facts.update(rows=len(rows), tokens=tokens)
        (found,) = await self._charging.compute(ask, engine, rows, [job], Times())
        self._charging.count_request(tenant)
        vectors = [each.vector for (each,) in found if isinstance(each, answers.Embedded)]
        is_much = len(vectors) * width > bounds.INLINE_SCORES
        scaled = await aside(is_much, to_unit_length, vectors, width)
        return Embedded(scaled, tokens, find_truncated(rows))


def choose_prompt(prompts: Mapping[str, str], input_type: str | None) -> str | None:
    """The prompt for inputs of a type; None: the backbone's default."""
    if input_type is None:
        return None
    names = (input_type, *_PROMPT_NAMES.get(input_type, ()))
    return next((prompts[name] for name in names if name in prompts), None)


def _check_dimensions(model: str, manifest: Manifest, dimensions: int | None) -> int:
    """How many numbers each vector shall have. Raises InvalidInput for a number that none has.

    A vector's first numbers alone mean something only in models that are trained for it.
    """
    width = manifest.width(POOLED)
    if dimensions in (None, width):
        return width
    if dimensions in manifest.matryoshka:
        return dimensions
    cut = ", ".join(map(str, manifest.matryoshka))
    can = f"can be cut to {cut}" if cut else "cannot be cut short"
    raise InvalidInput(
        f"the model {model!r:.80} has {width} dimensions, not {dimensions}, and its vectors "
        f"{can}; leave dimensions out or give {f'{cut} or ' if cut else ''}{width}"
    )


async def _read(
    model: str, backbone: Backbone, inputs: Sequence[str] | Sequence[Sequence[int]]
) -> Sequence[str]:
    """The inputs as texts. Raises InvalidInput for ids that are not the backbone's."""
    ids = [each for each in inputs if not isinstance(each, str)]
    if not ids:
        return [each for each in inputs if isinstance(each, str)]
    texts = await aside(
        sum(map(len, ids)) > _INLINE_IDS, lambda: [backbone.text_of(each) for each in ids]
    )
    for position, text in enumerate(texts):
        if text is None:
            raise InvalidInput(
                f"input {position} is an array of {len(ids[position])} token ids that the "
                f"tokenizer of {model!r:.80} gives for no text of at most "
                f"{backbone.manifest.preprocessing.max_length} tokens; send the text itself. "
                "LangChain's OpenAIEmbeddings sends tokens of OpenAI's models unless it is made "
                "with check_embedding_ctx_length=False"
            )
    return [text for text in texts if text is not None]


def to_unit_length(vectors: Sequence[NDArray[np.float32]], width: int) -> NDArray[np.float32]:
    """The first `width` numbers of each vector as a vector of unit length, [n, width].

    Vectors that have it keep their bits, those of zeros too. Row by row: no vector's bits depend on
    the others.
    """
    scaled = []
    for vector in vectors:
        cut = vector[:width].astype(np.float64)
        length = float(np.sqrt(np.dot(cut, cut)))
        is_kept = length == 0 or abs(length - 1) < _NEAR_UNIT
        scaled.append(vector[:width] if is_kept else (cut / length).astype(np.float32))
    return np.stack(scaled)
