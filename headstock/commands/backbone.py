"""`headstock backbone`: catalog, add, list, show."""

import re
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.errors import InvalidInput
from headstock.commands.common import AsJson, settings
from headstock.output import note, show_json, show_table, stderr

if TYPE_CHECKING:
    from backbone import Manifest

backbone_app = typer.Typer(no_args_is_help=True, help="Frozen, shared models.")


class Precision(StrEnum):
    """How weights are kept."""

    FP32 = "fp32"
    INT8 = "int8"


@backbone_app.command("add")
def add(
    source: Annotated[
        str,
        typer.Argument(
            help="A name of the catalogue, a Hugging Face id, a folder of that format, or an .onnx "
            "file."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            help="Local name of the backbone.",
            show_default="the catalogue's; needed for other sources",
        ),
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Precision.")] = Precision.FP32,
    revision: Annotated[str | None, typer.Option(help="Revision on the hub.")] = None,
    tap: Annotated[
        list[str] | None,
        typer.Option(help="ONNX file: FEATURE=TENSOR, with tokens or pooled as FEATURE."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="ONNX file: tokenizer.json, by default beside it.")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Most tokens of a text: by default what the folder says; of an ONNX file, 256.",
            min=1,
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            help="Sites of a LoRA graph: endings of their names as query,value; all; or none. "
            "Repeat it for several graphs. By default query and value, and all."
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="With the vectors of all layers as a feature, for adapters that mix them. Not of "
            "an ONNX file.",
        ),
    ] = False,
    prompt: Annotated[
        str | None,
        typer.Option(
            help='Put before every text, as "query: "; "" for none. By default what the folder '
            "says in config_sentence_transformers.json."
        ),
    ] = None,
    matryoshka: Annotated[
        str | None,
        typer.Option(
            help="Lengths to which vectors of /v1/embeddings may be cut, as 64,128,256, for models "
            "trained so; none for none. By default what the folder says."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of another backbone of that name.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Add a backbone: exported, checked against its source, and proven stable in batches."""
    from backbone.manifest import check_backbone_name
    from backbone.package import peek_manifest
    from training.backbones import add, sources
    from training.backbones.catalog.entries import CATALOG
    from training.backbones.packing import Build

    root = settings().backbones_folder
    is_onnx = source.endswith(".onnx")
    entry = sources.find_entry(source, revision)
    if name is None:
        if entry is None or entry.name != source:
            names = ", ".join(CATALOG)
            raise typer.BadParameter(
                f"only names of the catalogue ({names}) need none", param_hint="--name"
            )
        name = entry.name
    check_backbone_name(name)
    cuts = None if matryoshka is None else _dimensions(matryoshka)
    build = Build(precision.value, lora, layers, prompt, None if is_onnx else max_length, cuts)
    is_folder = Path(source).expanduser().is_dir()
    if is_onnx or is_folder or source in CATALOG:
        _refuse_options("the hub", revision=revision)
    if is_folder and entry is not None:
        note(f"{source} is the catalogue's; for the folder of that name, write ./{source}")
    if not is_onnx:
        _refuse_options("an .onnx file", tap=tap, tokenizer=tokenizer)
    before = peek_manifest(root / name)
    with stderr.status(f"adding {name}") as status:

        def say(step: str) -> None:
            status.update(f"{name}: {step} …")

        if entry is not None:
            added = add.add_from_catalog(entry, root, name, say, replace, build)
        elif is_onnx:
            options = add.OnnxOptions(tokenizer, _taps(tap or []), max_length or 256)
            added = add.add_from_onnx(Path(source), options, root, name, say, replace, build)
        else:
            found = sources.resolve(source, revision)
            added = add.add_from_folder(found.path, found.source, root, name, say, replace, build)
    manifest = added.backbone.manifest
    if json:
        measured = {"int8": asdict(added.int8)} if added.int8 else {}
        show_json({**_described(manifest), **measured})
    else:
        features = ", ".join(f"{key} {list(each.dims)}" for key, each in manifest.features.items())
        note(f"Added backbone {name} ({precision}): {features}; digest {manifest.digest[:12]}…")
        if manifest.preprocessing.prompt:
            note(f"Every text gets the prompt {manifest.preprocessing.prompt!r}.")
        if names := ", ".join(manifest.preprocessing.prompts):
            note(f"Requests to /v1/embeddings may choose another prompt by input_type: {names}.")
        if manifest.matryoshka:
            cut = ", ".join(map(str, manifest.matryoshka))
            note(f"Vectors may be cut to {cut} of their {manifest.width('pooled')} numbers.")
        for graph in manifest.lora:
            note(f"LoRA graph {graph.file}: {len(graph.sites)} of {len(manifest.sites)} sites.")
        for each in added.notes:
            note(each)
        if added.int8:
            note(
                f"Beside fp32: cosine {added.int8.cosine_mean:.4f} in the mean, "
                f"{added.int8.cosine_minimum:.4f} at least; {added.int8.speed:.1f} times the speed."
            )
    if before is not None and before.digest == manifest.digest:
        note("It was there already, the same to the bit.")


@backbone_app.command("catalog")
def catalog(json: AsJson = False) -> None:
    """List the models that `headstock backbone add` knows by name."""
    from backbone import list_backbones
    from training.backbones.catalog.entries import CATALOG

    there = list_backbones(settings().backbones_folder)
    entries = [
        {
            "name": entry.name,
            "modality": entry.modality,
            **entry.source.model_dump(mode="json"),
            "package": entry.wheel.requirement,
            "bytes": entry.wheel.size,
            "added": [manifest.name for manifest in there if manifest.source == entry.source],
            "advice": entry.advice,
        }
        for entry in CATALOG.values()
    ]
    if json:
        show_json({"catalog": entries})
    else:
        show_table("Catalogue", ("name", "model"), [(e["name"], _in_lines(e)) for e in entries])


def _in_lines(entry: dict[str, Any]) -> str:
    """Lay out an entry of the catalogue for people."""
    return (
        f"{entry['advice']}\n"
        f"{entry['id']}, for {entry['modality']}, licence {entry['license']}\n"
        f"{entry['revision']}, weights {entry['weights_sha256'][:12]}…\n"
        f"package {entry['package']}, {entry['bytes'] / 1e6:.0f} MB\n"
        f"added as: {', '.join(entry['added']) or 'not yet'}"
    )


@backbone_app.command("list")
def list_all(json: AsJson = False) -> None:
    """List the backbones that were added."""
    from backbone import list_backbones

    found = list_backbones(settings().backbones_folder)
    if json:
        show_json({"backbones": [_described(manifest) for manifest in found]})
    else:
        rows = [(m.name, m.modality, m.precision, m.source.id, m.digest[:12] + "…") for m in found]
        show_table("Backbones", ("name", "modality", "precision", "source", "digest"), rows)


@backbone_app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The backbone's name.")], json: AsJson = False
) -> None:
    """Show one backbone's manifest, after checking its files."""
    from headstock.commands.common import open_backbone

    manifest = open_backbone(name).manifest
    content = _described(manifest)
    if json:
        show_json(content)
    else:
        sites = [f"{site} {each.inputs} → {each.outputs}" for site, each in manifest.sites.items()]
        graphs = [f"{graph.file}: {len(graph.sites)} sites" for graph in manifest.lora]
        content |= {"sites": "\n".join(sites), "lora": "\n".join(graphs)}
        show_table(name, ("field", "value"), list(content.items()))


def _described(manifest: "Manifest") -> dict[str, Any]:
    return {"digest": manifest.digest, **manifest.model_dump(mode="json")}


def _refuse_options(kind: str, **options: object) -> None:
    """An option that does nothing here would leave its user with another backbone than meant."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InvalidInput(f"--{given[0].replace('_', '-')} is for {kind}, which the source is not")


def _taps(values: list[str]) -> dict[str, str]:
    taps = {}
    for value in values:
        feature, equals, tensor = value.partition("=")
        if not equals:
            raise InvalidInput(f"--tap {value!r} must be FEATURE=TENSOR")
        taps[feature] = tensor
    return taps


def _dimensions(value: str) -> tuple[int, ...]:
    """The lengths in "64,128"; () for "none"."""
    parts = [] if value == "none" else [each.strip() for each in value.split(",")]
    if not all(re.fullmatch(r"[1-9][0-9]{0,5}", each) for each in parts):
        raise InvalidInput(f"--matryoshka {value!r} must be lengths such as 64,128,256, or none")
    return tuple(map(int, parts))
