"""LoRA at run time: pools of pages that graphs read in place, and what is placed in them.

A pool has one page for each rank of each resident adapter. A page is one row in the arrays A
[pages, inputs] and B [pages, outputs] of every site. The graphs take these arrays as inputs
without a copy, and so placing an adapter is writing into them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from backbone.errors import BackboneError
from backbone.manifest import LoraGraph, Site

MAX_RANK = 64
PAGES = "lora_pages"
# Widths of x A^T that give a rank the same bits; see `backbone/surgery/lora.py`.
_SMALL_GROUP, _GROUP = 8, 16

Factors = tuple[NDArray[np.float32], NDArray[np.float32]]


def a_input(site: str) -> str:
    """The graph input that takes the array A of a site."""
    return f"lora/a/{site}"


def b_input(site: str) -> str:
    """The graph input that takes the array B of a site."""
    return f"lora/b/{site}"


@dataclass(frozen=True, slots=True, eq=False)
class PlacedLora:
    """One adapter's LoRA in a pool: page numbers [r], and the smallest graph with its sites."""

    pool: "LoraPool"
    pages: NDArray[np.int64]
    graph: int


class LoraPool:
    """Pages 1 to `ranks` for LoRA weights, beside page 0, which is zero.

    Memory of the system is taken when a page is first written. Who places must see to it that no
    run reads the pages meanwhile.
    """

    def __init__(self, sites: Mapping[str, Site], graphs: Sequence[LoraGraph], ranks: int) -> None:
        self.ranks = ranks
        self._graphs = [frozenset(graph.sites) for graph in graphs]
        self._arrays: dict[str, Factors] = {
            name: (
                np.zeros((1 + ranks, sites[name].inputs), np.float32),
                np.zeros((1 + ranks, sites[name].outputs), np.float32),
            )
            for name in sorted(frozenset().union(*self._graphs))
        }
        self._written: list[frozenset[str]] = [frozenset()] * (1 + ranks)  # sites, by page
        self._feeds = [self._feed(graph.sites) for graph in graphs]

    def place(
        self, pages: Sequence[int] | NDArray[np.int64], weights: Mapping[str, Factors]
    ) -> PlacedLora:
        """Write `weights`, site to (a [r, inputs], b [r, outputs]), into the r `pages`.

        Whatever scale an adapter has is part of its a or b.

        Raises:
            BackboneError: the pages, the sites or a shape do not fit the pool.
        """
        numbers = self._checked(pages)
        graph = smallest_graph(self._graphs, weights)
        for site, factors in weights.items():
            for given, array in zip(factors, self._arrays[site], strict=True):
                if given.shape != (len(numbers), array.shape[1]):
                    raise BackboneError(
                        f"LoRA weights at {site!r} have shape {given.shape}; {len(numbers)} pages "
                        f"take {(len(numbers), array.shape[1])}"
                    )
        where = _slice_of(numbers)
        for site, factors in weights.items():
            for given, array in zip(factors, self._arrays[site], strict=True):
                array[where] = given
        # Sites that the pages were written at for others; untouched ones are zero already.
        for site in frozenset().union(*(self._written[page] for page in numbers)) - weights.keys():
            for array in self._arrays[site]:
                array[where] = 0
        written = frozenset(weights)
        for page in numbers:
            self._written[page] = written
        return PlacedLora(self, numbers, graph)

    def arrays(self, site: str) -> Factors:
        """The arrays A [1 + ranks, inputs] and B [1 + ranks, outputs] that the graphs read."""
        return self._arrays[site]

    def feeds(self, graph: int) -> Mapping[str, Any]:
        """The inputs of LoRA graph number `graph` that this pool gives."""
        return self._feeds[graph]

    def _feed(self, sites: Sequence[str]) -> dict[str, Any]:
        """ONNX Runtime's views of the arrays, which live as long as the pool."""
        feed = {}
        for site in sites:
            a, b = self._arrays[site]
            feed[a_input(site)] = ort.OrtValue.ortvalue_from_numpy(a)
            feed[b_input(site)] = ort.OrtValue.ortvalue_from_numpy(b)
        return feed

    def _checked(self, pages: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        numbers = np.array(pages, dtype=np.int64)
        if not 1 <= len(numbers) <= MAX_RANK:
            raise BackboneError(f"a LoRA takes 1 to {MAX_RANK} pages, not {len(numbers)}")
        if numbers.min() < 1 or numbers.max() > self.ranks:
            raise BackboneError(f"the pool has the pages 1 to {self.ranks}, not {numbers.tolist()}")
        if len(np.unique(numbers)) != len(numbers):
            raise BackboneError(f"a page is named twice: {numbers.tolist()}")
        numbers.flags.writeable = False
        return numbers


def _slice_of(numbers: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """The same places as a slice where they lie in a row: copying is much faster so."""
    first, n = int(numbers[0]), len(numbers)
    if np.array_equal(numbers, np.arange(first, first + n)):
        return slice(first, first + n)
    return numbers


def smallest_graph(graphs: Sequence[frozenset[str]], sites: Collection[str]) -> int:
    """The number of the first of `graphs`, by their sites, that has all of `sites`.

    Raises:
        BackboneError: there is none.
    """
    for number, graph in enumerate(graphs):
        if graph.issuperset(sites):
            return number
    known = frozenset().union(*graphs)
    if unknown := sorted(set(sites) - known):
        raise BackboneError(
            f"the backbone has no LoRA graph with the sites {unknown}; it takes {sorted(known)}"
        )
    raise BackboneError("the backbone has no LoRA graph with all of these sites")


def pages_of_rows(loras: Sequence[PlacedLora | None]) -> NDArray[np.int64]:
    """The input `lora_pages` [g, n, c] for a batch of n rows."""
    ranks = max(len(lora.pages) for lora in loras if lora is not None)
    group = _SMALL_GROUP if ranks <= _SMALL_GROUP else _GROUP
    groups = -(-ranks // group)
    pages = np.zeros((len(loras), groups * group), np.int64)
    for row, lora in enumerate(loras):
        if lora is not None:
            pages[row, : len(lora.pages)] = lora.pages
    by_group = pages.reshape(len(loras), groups, group).transpose(1, 0, 2)
    return np.ascontiguousarray(by_group)
