"""Proof on real runs that neighbours, padding and LoRA never change another row's features.

Features must be equal number by number; 0.0 and -0.0 pass for one, as in all that is computed from
them (a LoRA of zeros turns the one into the other).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from backbone.errors import BackboneError
from backbone.lora import MAX_RANK, LoraPool, PlacedLora
from backbone.manifest import Site
from backbone.runtime import Backbone, Features
from backbone.samples import SAMPLE_TEXTS
from backbone.text import TextRow

# Ranks on both sides of every width in which ONNX Runtime cuts a product.
_RANKS = (8, MAX_RANK, 1, 20)

_TOGETHER = (
    "changes by up to {gap:.2g} with the other rows of its batch; this graph cannot be shared "
    "between tenants (dynamic quantisation over the whole batch is a usual cause)"
)
_BESIDE_LORA = (
    "changes by up to {gap:.2g} where another row of its batch has LoRA; this graph cannot take "
    "LoRA: add it with --lora none"
)
_WITH_LORA = (
    "with LoRA changes by up to {gap:.2g} with the other rows of its batch and their ranks; this "
    "graph cannot take LoRA: add it with --lora none"
)

Parts = Mapping[str, NDArray[np.float32]]


def check_row_stability(backbone: Backbone) -> None:
    """Compare each sample row alone with itself in batches of other sizes and lengths.

    Raises:
        BackboneError: where a single bit differs; such a backbone would let one tenant's rows
            change another's answers.
    """
    rows = [backbone.preprocess(text) for text in SAMPLE_TEXTS]
    nobody = [None] * len(rows)
    alone = [_alone(backbone, row) for row in rows]
    beside_longest = [(len(rows) - 1, index) for index in range(len(rows))]
    for batch in [*_batches(len(rows)), *beside_longest]:
        _compare(backbone, rows, nobody, batch, alone, _TOGETHER)


def check_lora_stability(backbone: Backbone) -> None:
    """Compare rows with random LoRA, and rows without, alone and beside each other.

    A row without LoRA must keep the bits of the plain graph in every LoRA graph; a row with LoRA
    those that it has alone, whatever the ranks and sites of its neighbours.

    Raises:
        BackboneError: where a single bit differs, or where LoRA changes nothing.
    """
    rows = [backbone.preprocess(text) for text in SAMPLE_TEXTS]
    plain = [_alone(backbone, row) for row in rows]
    adapters = list(_random_loras(backbone))
    everyone = range(len(rows))
    for lora in adapters[: len(backbone.manifest.lora)]:  # one of each graph
        among: list[PlacedLora | None] = [*[None] * (len(rows) - 1), lora]
        expected = [*plain[:-1], _alone(backbone, rows[-1], lora)]
        _compare(backbone, rows, among, everyone, expected, _BESIDE_LORA)
        if np.array_equal(expected[-1]["pooled"], plain[-1]["pooled"]):
            file = backbone.manifest.lora[lora.graph].file
            raise BackboneError(f"LoRA changes nothing in {file}; add it with --lora none")
    given = [None, *adapters]
    loras = [given[index % len(given)] for index in everyone]
    alone = [_alone(backbone, row, lora) for row, lora in zip(rows, loras, strict=True)]
    for batch in _batches(len(rows)):
        _compare(backbone, rows, loras, batch, alone, _WITH_LORA)


def random_factors(
    sites: Mapping[str, Site], rank: int, seed: int
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights of trained ones' size for each site: a [rank, inputs] and b [rank, outputs]."""
    random = np.random.default_rng(seed)
    factors = {}
    for name, site in sites.items():
        a = random.standard_normal((rank, site.inputs)) / np.sqrt(site.inputs)
        b = random.standard_normal((rank, site.outputs)) * 0.2 / np.sqrt(rank)
        factors[name] = (a.astype(np.float32), b.astype(np.float32))
    return factors


def _random_loras(backbone: Backbone) -> Iterator[PlacedLora]:
    """For each rank one LoRA of each graph, in a pool of their own."""
    sites = backbone.manifest.sites
    graphs = backbone.manifest.lora
    pool: LoraPool = backbone.lora_pool(sum(_RANKS) * len(graphs))
    first = 1
    for rank in _RANKS:
        for graph in graphs:
            pages = range(first, first + rank)
            chosen = {name: sites[name] for name in graph.sites}
            yield pool.place(pages, random_factors(chosen, rank, seed=first))
            first += rank


def _batches(n_rows: int) -> Iterator[Sequence[int]]:
    """All rows at once, which pads them to the longest, neighbours in pairs, repeated rows."""
    yield range(n_rows)
    for index in range(n_rows):
        yield (index, (index + 1) % n_rows)
        yield [index] * 3 + [(index + 5) % n_rows] * 2


def _compare(
    backbone: Backbone,
    rows: Sequence[TextRow],
    loras: Sequence[PlacedLora | None],
    batch: Sequence[int],
    alone: Sequence[Parts],
    complaint: str,
) -> None:
    """Run a batch, given by its rows' places; raise where a row differs from `alone`."""
    features = backbone.manifest.features
    outputs = backbone.run([rows[i] for i in batch], features, [loras[i] for i in batch])
    for position, index in enumerate(batch):
        together = _cut(backbone, rows[index], outputs, position)
        for feature, value in together.items():
            expected = alone[index][feature]
            if not np.array_equal(value, expected):
                gap = float(np.max(np.abs(value - expected)))
                raise BackboneError(f"feature {feature!r} of a row {complaint.format(gap=gap)}")


def _alone(backbone: Backbone, row: TextRow, lora: PlacedLora | None = None) -> Parts:
    outputs = backbone.run([row], backbone.manifest.features, [lora])
    return _cut(backbone, row, outputs, 0)


def _cut(backbone: Backbone, row: TextRow, outputs: Features, position: int) -> Parts:
    """One row's part of each feature, without its padding."""
    parts = {}
    for name, feature in backbone.manifest.features.items():
        value = outputs[name][position]
        parts[name] = value[: row.length] if feature.per_token else value
    return parts
