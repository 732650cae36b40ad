"""`headstock train`: labelled rows to an adapter; offline, no server needed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstock.commands.common import (
    DEFAULT_SERVER,
    AsJson,
    Key,
    Server,
    feature_cache,
    open_backbone,
    progress_bars,
)
from headstock.commands.fleet import OF_MANY, OF_ONE, check_usage, run_fleet
from headstock.commands.measure import (
    InputColumn,
    LabelColumn,
    SplitColumn,
    TestData,
    TestSplit,
    TrainSplit,
    show_findings,
    show_measured,
)
from headstock.commands.measure import as_json as findings_as_json
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
from headstock.output import note, show_json

if TYPE_CHECKING:
    from adapters.manifest import Finding
    from training.experiments.tune import Tuned
    from training.train import Trained

Name = Annotated[str, typer.Option(help="Name of an added backbone.")]
Output = Annotated[Path, typer.Option(help="The adapter file to write.")]
AnyBase = Annotated[
    bool,
    typer.Option("--any-base", help="Take LoRA of PEFT that names another base model."),
]
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
        Path | None,
        typer.Argument(help="Rows: CSV, TSV, JSON or Parquet.", metavar="DATA"),
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
    input_column: InputColumn = "text",
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    train_split: TrainSplit = "train",
    test_split: TestSplit = "test",
    test_data: TestData = None,
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
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            help="More texts of the same labels, which it lacks, in a column named as DATA's; they "
            "teach where that clearly helps. For classification, with any --head but knn.",
            metavar="FILE",
        ),
    ] = None,
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
    from training.train import Origin, Places, train_adapter

    check_output(output, *filter(None, (data, test_data, unlabelled)))
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
    named = (input_column, label_column, split_column, train_split, test_split)
    columns = Columns(*named, test_data)
    if tune is None:
        check_usage(context, ("budget",), "is for --tune, and there is none")
    check_lora(lora, tune, change or ())
    ambition = make_ambition(tune, budget, mlflow)
    if ambition is not None and peft is not None:
        raise InvalidRecipe("--tune looks for LoRA itself, and --peft takes one as it is")
    if ambition is not None and unlabelled is not None:
        raise InvalidRecipe("--tune judges by labelled rows alone: give --unlabelled without it")
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
        origin = Origin() if tuned is None else tuned.origin
        result = train_adapter(*work, recipe, stage, places, ready, origin, unlabelled)
    write_file(output, result.content)
    findings = result.manifest.findings
    if tuned is not None:
        findings = (*findings, *log(tuned, output, result.manifest.measured))
    show_trained(output, result, findings, tuned, json)


def check_lora(lora: bool, tune: str | None, changes: Sequence[str]) -> None:
    """Refuse settings of LoRA where none is trained. Raises InvalidRecipe."""
    from training.errors import InvalidRecipe

    named = [change.partition("=")[0] for change in changes if change.startswith("lora.")]
    if tune == "heads" and (lora or named):
        raise InvalidRecipe("--tune heads leaves LoRA out, and it is asked for; use --tune auto")
    if named and not lora and tune is None:
        raise InvalidRecipe(f"{named[0]} is a setting of --lora, and there is none; give --lora")


def show_trained(
    output: Path,
    trained: "Trained",
    findings: "Sequence[Finding]",
    tuned: "Tuned | None",
    json: bool,
) -> None:
    """Say what was written to `output`, what was found, and what a search led there."""
    show_findings(findings)
    if json:
        content = {
            "file": str(output),
            "digest": trained.digest,
            "findings": findings_as_json(findings),
        }
        searched = {} if tuned is None else {"tuned": as_json(tuned)}
        show_json({**content, **searched, "manifest": trained.manifest.model_dump(mode="json")})
    else:
        if tuned is not None:
            show_trials(tuned)
        show_measured(trained.manifest)
        note(f"Wrote {output} ({len(trained.content):,} bytes, sha256 {trained.digest[:12]}…).")
