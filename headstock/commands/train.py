"""`headstock train`, `evaluate`, `inspect`: offline, no server needed."""

import json as json_module
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstock.commands.common import (
    DEFAULT_SERVER,
    AsJson,
    Key,
    Server,
    feature_cache,
    open_backbone,
    progress_bars,
    settings,
)
from headstock.commands.fleet import OF_MANY, OF_ONE, check_usage, run_fleet
from headstock.commands.tuning import (
    Budget,
    MlflowUri,
    TuneOption,
    as_json,
    make_ambition,
    open_tracker,
    search,
    show_trials,
)
from headstock.output import note, show_json, show_table

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.manifest import Estimate, Manifest, Measured
    from training.experiments.tune import Tuned
    from training.train import Trained

Data = Annotated[Path, typer.Argument(help="Rows: .csv, .jsonl or .parquet.", metavar="DATA")]
File = Annotated[Path, typer.Argument(help="An adapter file.", metavar="FILE")]
Name = Annotated[str, typer.Option(help="Name of an added backbone.")]
Output = Annotated[Path, typer.Option(help="The adapter file to write.")]
AnyBase = Annotated[
    bool,
    typer.Option("--any-base", help="Take LoRA of PEFT that names another base model."),
]
TextColumn = Annotated[str, typer.Option(help="Column with the texts.")]
LabelColumn = Annotated[str, typer.Option(help="Column with the labels, values, tags or entities.")]
SplitColumn = Annotated[str, typer.Option(help="Column with the split, where there is one.")]
TrainSplit = Annotated[str, typer.Option(help="The split to train on.")]
TestSplit = Annotated[str, typer.Option(help="The split to measure on.")]
# Of training.heads.METHODS, which a serving installation cannot import.
_HEADS = (
    "logistic, linear by logistic regression (usual for labels); "
    "ridge, linear by least squares in closed form (usual for values); "
    "centroid, the nearest class mean; "
    "knn, a vote of the nearest stored rows; "
    "mlp, one hidden layer."
)


def train(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option(help="The adapter file to write; with --manifest, a folder for all.")
    ],
    data: Annotated[
        Path | None, typer.Argument(help="Rows: .csv, .jsonl or .parquet.", metavar="DATA")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Name of an added backbone.")] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Many trainings, a JSON object a line, in place of DATA."),
    ] = None,
    publish: Annotated[
        bool,
        typer.Option("--publish", help="Upload what --manifest made, each as it is done."),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Train --manifest on a Ray cluster; local: on one that is started here.",
            metavar="ADDRESS",
        ),
    ] = None,
    server: Server = DEFAULT_SERVER,
    key: Key = "",
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    train_split: TrainSplit = "train",
    test_split: TestSplit = "test",
    task: Annotated[
        str,
        typer.Option(
            help="classification: one label a row. multilabel: any number of labels, as a list or "
            "with | between. regression: numbers; --label-column price,weight for several. "
            "tagging: entities, as BIO tags of a list of words, or start, end and label in a text."
        ),
    ] = "classification",
    head: Annotated[
        str | None, typer.Option(help=f"How the head is fitted: {_HEADS}", show_default=False)
    ] = None,
    weights: Annotated[
        str, typer.Option(help="balanced: rare labels count as much as frequent ones; or none.")
    ] = "none",
    names: Annotated[
        str,
        typer.Option(help="Whether labels' names teach too: yes, no, auto (where it helps)."),
    ] = "auto",
    augment: Annotated[
        str,
        typer.Option(
            help="Whether changed copies of training rows teach too: none, word_drop, word_swap, "
            "typo, or auto (tries each, and takes one where it clearly helps)."
        ),
    ] = "none",
    lora: Annotated[
        bool, typer.Option("--lora", help="Fine-tune inside the backbone too, by LoRA.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any setting of the recipe, as lora.rank=4.", metavar="NAME=VALUE"
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder for curves and checkpoints; beside the output by default.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where this very training was interrupted.")
    ] = False,
    torch_weights: Annotated[
        Path | None,
        typer.Option(
            "--weights-folder",
            help="Where the torch model lies that the backbone was made of, for LoRA.",
        ),
    ] = None,
    peft: Annotated[
        Path | None,
        typer.Option(
            help="A folder of PEFT: its LoRA is taken as it is, and the head fitted behind it.",
            metavar="FOLDER",
        ),
    ] = None,
    any_base: AnyBase = False,
    tune: TuneOption = None,
    budget: Budget = 600,
    mlflow: MlflowUri = None,
    json: AsJson = False,
) -> None:
    """Train an adapter from labelled rows and measure it; with --manifest, many of them."""
    if manifest is not None:
        check_usage(context, OF_ONE, "says nothing with --manifest; write it into the manifest")
        target = (server, key) if publish else None
        if not run_fleet(manifest, output, resume, target, ray, json):
            raise typer.Exit(1)
        return
    check_usage(context, OF_MANY, "belongs to --manifest")
    if data is None or backbone is None:
        missing = "DATA" if data is None else "--backbone"
        raise typer.BadParameter("it is missing; give it, or --manifest", param_hint=missing)

    from adapters.container import write_file
    from training.data.rows import Columns
    from training.errors import InvalidRecipe
    from training.output import check_output
    from training.peft.lora import read_peft
    from training.recipe import make_recipe
    from training.train import Places, train_adapter

    check_output(output, data)
    if any_base and peft is None:
        raise InvalidRecipe("--any-base is for the LoRA of --peft, and there is none")
    given = {
        "task": task,
        "head": head,
        "weights": weights,
        "names": names,
        "seed": seed,
        "augment": augment,
    }
    recipe = make_recipe({**given, "lora": {} if lora else None}, change or ())
    columns = Columns(text_column, label_column, split_column, train_split, test_split)
    ambition = make_ambition(tune, budget, mlflow)
    if ambition is not None and peft is not None:
        raise InvalidRecipe("--tune looks for LoRA itself, and --peft takes one as it is")
    log = open_tracker(mlflow)
    opened = open_backbone(backbone)
    ready = None if peft is None else read_peft(peft, opened.manifest, any_base)
    places = Places(run or output.with_suffix(".run"), resume, torch_weights)
    work = (data, columns, opened, feature_cache())
    tuned = None
    with progress_bars() as stage:
        if ambition is not None:
            tuned = search(work, recipe, stage, places, ambition)
            recipe, places = tuned.recipe, replace(places, resume=True)
        result = train_adapter(*work, recipe, stage, places, ready, tuned.origin if tuned else {})
    write_file(output, result.content)
    warnings = result.warnings
    if tuned is not None:
        warnings = (*tuned.notes, *warnings, *log(tuned, output, result.manifest.measured))
    show_trained(output, result, warnings, tuned, json)


def show_trained(
    output: Path,
    trained: "Trained",
    warnings: Sequence[str],
    tuned: "Tuned | None",
    json: bool,
) -> None:
    """Say what was written to `output`, and what a search led there."""
    for warning in warnings:
        note(f"Note: {warning}")
    if json:
        content = {"file": str(output), "digest": trained.digest, "warnings": warnings}
        searched = {} if tuned is None else {"tuned": as_json(tuned)}
        show_json({**content, **searched, "manifest": trained.manifest.model_dump(mode="json")})
    else:
        if tuned is not None:
            show_trials(tuned)
        _show_measured(trained.manifest)
        note(f"Wrote {output} ({len(trained.content):,} bytes, sha256 {trained.digest[:12]}…).")


def evaluate(
    file: File,
    data: Data,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    train_split: TrainSplit = "train",
    test_split: TestSplit = "test",
    predictions: Annotated[
        Path | None,
        typer.Option(help="Write the answers, a JSON line a row of DATA or its test split."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Measure an adapter on labelled rows, exactly as a server would answer them."""
    from adapters.adapter import read_adapter_file
    from adapters.container import write_file
    from training.data.rows import Columns
    from training.evaluate import evaluate_adapter
    from training.output import check_output

    if predictions is not None:
        check_output(predictions, file, data)
    adapter = read_adapter_file(file)
    columns = Columns(text_column, label_column, split_column, train_split, test_split)
    with progress_bars() as stage:
        result = evaluate_adapter(
            adapter,
            data,
            columns,
            settings().backbones_folder,
            feature_cache(),
            stage,
        )
    if predictions is not None:
        lines = (
            json_module.dumps(prediction, ensure_ascii=False) for prediction in result.predictions
        )
        write_file(predictions, "".join(f"{line}\n" for line in lines).encode())
    for warning in result.warnings:
        note(f"Note: {warning}")
    if json:
        content = {"file": str(file), "digest": adapter.digest, **result.measured.model_dump()}
        show_json({**content, "held_out": result.held_out, "warnings": result.warnings})
    else:
        rows = "test rows" if result.held_out else "rows"
        show_table(*_measured_table(result.measured, rows))


def inspect(file: File, json: AsJson = False) -> None:
    """Check an adapter file in full and show what it says of itself."""
    from adapters.adapter import read_adapter_file

    adapter = read_adapter_file(file)
    manifest = adapter.manifest
    content: dict[str, Any] = {
        "digest": adapter.digest,
        "bytes": adapter.size,
        **manifest.model_dump(mode="json"),
    }
    if json:
        show_json(content)
        return
    rows = [
        ("digest", adapter.digest),
        ("size", f"{adapter.size:,} bytes"),
        ("task, head", f"{manifest.task}, {manifest.head}"),
        ("backbone", manifest.backbone),
        ("feature", f"{manifest.feature}, width {adapter.width}"),
        ("labels", f"{len(manifest.labels)}: {', '.join(manifest.labels[:20])}"),
        *_settings_rows(adapter),
    ]
    if manifest.training is not None:
        rows.append(("trained on", f"{manifest.training.rows} rows, seed {manifest.training.seed}"))
        rows.append(("settings", json_module.dumps(manifest.training.settings)))
    show_table(str(file), ("field", "value"), rows)
    if manifest.measured is not None:
        _show_measured(manifest)


def _settings_rows(adapter: "Adapter") -> list[tuple[str, str]]:
    """What there is of the manifest's optional parts."""
    manifest, rows = adapter.manifest, []
    if manifest.mix is not None:
        rows.append(("mix of layers", ", ".join(f"{weight:.3g}" for weight in manifest.mix)))
    if manifest.calibration is not None:
        rows.append(("temperature", f"{manifest.calibration.temperature:.4g}"))
    if manifest.thresholds is not None:
        rows.append(("thresholds", ", ".join(f"{each:.3g}" for each in manifest.thresholds[:20])))
    for section in (manifest.centroid, manifest.knn):
        if section is not None:
            pairs = (f"{key} {value}" for key, value in section.model_dump().items())
            rows.append((manifest.head, ", ".join(pairs)))
    lora = adapter.lora
    if lora is not None:
        sites = ", ".join(list(lora.sites)[:20])
        rows.append(("LoRA", f"rank {lora.rank} at {len(lora.sites)} sites: {sites}"))
        rows.append(("LoRA's digest", lora.digest))
    return rows


def _show_measured(manifest: "Manifest") -> None:
    if manifest.measured is not None:
        show_table(*_measured_table(manifest.measured, "test rows"))


def _measured_table(measured: "Measured", what: str) -> tuple[str, list[str], list[list[str]]]:
    """Metrics as rows, the adapter and its baselines as columns."""
    columns = {"adapter": measured.adapter, **measured.baselines}
    rows = []
    for metric in measured.adapter:
        cells = []
        for estimates in columns.values():
            found = estimates.get(metric)
            cells.append(_interval(found) if found else "")
        rows.append([metric.replace("_", " "), *cells])
    title = f"Measured on {measured.rows} {what} (95 % confidence intervals)"
    return title, ["metric", *columns], rows


def _interval(estimate: "Estimate") -> str:
    """Three decimals for shares; three digits for what has a unit and is very small or large."""
    size = max(abs(estimate.low), abs(estimate.high))
    form = ".3f" if size == 0 or 1e-3 <= size < 1e4 else ".3g"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"
