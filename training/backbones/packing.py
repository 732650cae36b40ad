"""A graph with its sites to a backbone folder: precision, LoRA graphs, shared weights, proofs."""

import contextlib
import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import onnx

from backbone.errors import BackboneError
from backbone.manifest import (
    MODEL_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Feature,
    LoraGraph,
    Manifest,
    Precision,
    Site,
    Source,
    TextPreprocessing,
)
from backbone.package import load_backbone, peek_manifest, write_backbone
from backbone.runtime import Backbone
from backbone.stability import check_lora_stability, check_row_stability
from backbone.surgery.lora import add_lora
from backbone.surgery.sites import FoundSite
from backbone.surgery.weights import move_weights
from training.backbones.lora_targets import choose_graphs
from training.backbones.preparation import prepare_and_quantise
from training.backbones.quantisation import Int8Report, measure_int8


class Build(NamedTuple):
    """What to make of a source. `lora`: targets of each LoRA graph; None: the usual two.

    `layers`: with all layers as a feature. `prompt`: what is put before every text;
    `max_length`: most tokens of a text (an ONNX file's is among its options); `matryoshka`: lengths
    to which vectors may be cut. None of one of these: what the source says.
    """

    precision: Precision = "fp32"
    lora: Sequence[str] | None = None
    layers: bool = False
    prompt: str | None = None
    max_length: int | None = None
    matryoshka: tuple[int, ...] | None = None


DEFAULT = Build()


class Added(NamedTuple):
    """A backbone that was added, what was measured of it in int8, and notes for its user."""

    backbone: Backbone
    int8: Int8Report | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A float32 graph with named features, and what its manifest will say."""

    model: onnx.ModelProto
    sites: Sequence[FoundSite]
    tokenizer: Path
    settings: TextPreprocessing
    source: Source
    matryoshka: tuple[int, ...] = ()


def find_made(
    root: Path,
    name: str,
    source: Source,
    build: Build,
    prompt: str,
    matryoshka: tuple[int, ...],
) -> Backbone | None:
    """The backbone `root`/`name` where it is whole, and what `build` makes of this very source.

    Only a revision on the hub names all that a backbone is made of; of a folder its weights alone
    are known.
    """
    there = peek_manifest(root / name)
    if there is None or source.revision is None:
        return None
    made = (there.source, there.precision, "layers" in there.features, there.preprocessing.prompt)
    graphs = tuple(graph.sites for graph in there.lora)
    if made != (source, build.precision, build.layers, prompt):
        return None
    if there.matryoshka != shorter(matryoshka, there.width("pooled")):
        return None
    if build.max_length not in (None, there.preprocessing.max_length):
        return None
    with contextlib.suppress(BackboneError):
        if graphs == choose_graphs(tuple(there.sites), build.lora):
            return load_backbone(root / name)
    return None


def shorter(dimensions: Sequence[int], width: int) -> tuple[int, ...]:
    """Those of the dimensions that cut a vector of the width short, smallest first."""
    return tuple(sorted({each for each in dimensions if each < width}))


def pack(
    draft: Draft,
    build: Build,
    root: Path,
    name: str,
    say: Callable[[str], None],
    check: Callable[[Backbone], None],
    replace: bool,
) -> Added:
    """Write the backbone folder `root`/`name`, once all proofs have passed.

    `check` compares the float32 backbone with its source. The graph of `draft` is consumed.

    Raises:
        BackboneExists: another has that name, and `replace` is not given.
        BackboneError: a proof failed, or the graph cannot be what `build` asks for.
    """
    sites = {site.name: site for site in draft.sites if site.takes_lora}
    graphs = choose_graphs(tuple(sites), build.lora)

    def prove(backbone: Backbone) -> None:
        say("checking that neighbours never change a row")
        check_row_stability(backbone)
        if backbone.manifest.lora:
            say("checking that LoRA never changes another row")
            check_lora_stability(backbone)

    def check_and_prove(backbone: Backbone) -> None:
        check(backbone)
        prove(backbone)

    if build.precision == "fp32":
        return Added(_write(draft, "fp32", graphs, root, name, check_and_prove, replace), None)

    with tempfile.TemporaryDirectory() as work:
        say("building the fp32 graph to compare with")
        fp32 = _write(draft, "fp32", (), Path(work), name, check, replace=False)
        say("quantising")
        prepare_and_quantise(draft.model, Path(work) / name)
        reports = []

        def measure_and_prove(backbone: Backbone) -> None:
            say("comparing with fp32")
            reports.append(measure_int8(fp32, backbone))
            prove(backbone)

        backbone = _write(draft, "int8", graphs, root, name, measure_and_prove, replace)
        return Added(backbone, reports[0])


def _write(
    draft: Draft,
    precision: Precision,
    graphs: Sequence[tuple[str, ...]],
    root: Path,
    name: str,
    check: Callable[[Backbone], None],
    replace: bool,
) -> Backbone:
    features = {output.name: Feature(dims=_dims(output)) for output in draft.model.graph.output}
    found = {site.name: site for site in draft.sites if site.takes_lora}
    sites = {name: Site(inputs=each.inputs, outputs=each.outputs) for name, each in found.items()}
    lora = [LoraGraph(file=f"lora-{n}.onnx", sites=each) for n, each in enumerate(graphs, 1)]

    def make_manifest(files: dict[str, str]) -> Manifest:
        return Manifest(
            name=name,
            precision=precision,
            source=draft.source,
            preprocessing=draft.settings,
            features=features,
            sites=sites,
            lora=tuple(lora),
            matryoshka=draft.matryoshka,
            files=files,
        )

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        plain = copy.deepcopy(draft.model)
        move_weights(plain, folder / WEIGHTS_FILE)
        models = {MODEL_FILE: plain}
        for graph in lora:
            models[graph.file] = copy.deepcopy(plain)  # small, now that the weights are outside
            add_lora(models[graph.file], [found[site] for site in graph.sites])
        for file, model in models.items():
            (folder / file).write_bytes(model.SerializeToString(deterministic=True))
        files = {file: folder / file for file in (*models, WEIGHTS_FILE)}
        files[TOKENIZER_FILE] = draft.tokenizer
        return write_backbone(root, files, make_manifest, check, replace)


def _dims(output: onnx.ValueInfoProto) -> tuple[Literal["n", "t"] | int, ...]:
    """The first axis is of rows; one between without a fixed length is of tokens."""
    _, *between, width = output.type.tensor_type.shape.dim
    inner: list[Literal["n", "t"] | int] = [int(each.dim_value) or "t" for each in between]
    return ("n", *inner, int(width.dim_value))
