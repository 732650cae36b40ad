"""`headstock evaluate`, `inspect`: what an adapter is worth, and what is in its file."""

import json as json_module
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstock.commands.common import AsJson, feature_cache, progress_bars, settings
from headstock.output import note, show_json, show_table

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.manifest import Estimate, Finding, Manifest, Measured

Data = Annotated[Path, typer.Argument(help="Rows: CSV, TSV, JSON or Parquet.", metavar="DATA")]
File = Annotated[Path, typer.Argument(help="An adapter file.", metavar="FILE")]
InputColumn = Annotated[
    str, typer.Option("--input-column", "--text-column", help="Column with the texts.")
]
LabelColumn = Annotated[str, typer.Option(help="Column with the labels, values, tags or entities.")]
SplitColumn = Annotated[str, typer.Option(help="Column with the split, where there is one.")]
TrainSplit = Annotated[str, typer.Option(help="The split to train on.")]
TestSplit = Annotated[str, typer.Option(help="The split to measure on.")]
TestData = Annotated[
    Path | None,
    typer.Option(
        help="A file of its own for the test rows, in the columns of DATA.", metavar="FILE"
    ),
]


def evaluate(
    file: File,
    data: Data,
    input_column: InputColumn = "text",
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    train_split: TrainSplit = "train",
    test_split: TestSplit = "test",
    test_data: TestData = None,
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
        check_output(predictions, *filter(None, (file, data, test_data)))
    adapter = read_adapter_file(file)
    names = (input_column, label_column, split_column, train_split, test_split)
    columns = Columns(*names, test_data)
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
    show_findings(result.findings)
    if json:
        content = {"file": str(file), "digest": adapter.digest, **result.measured.model_dump()}
        show_json({**content, "held_out": result.held_out, "findings": as_json(result.findings)})
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
    show_measured(manifest)
    show_findings(manifest.findings)


def show_findings(findings: "Iterable[Finding]") -> None:
    """Say what checks have found, a line each."""
    for each in findings:
        note(f"{'Warning' if each.severity == 'warning' else 'Note'}: {each.text}.")


def as_json(findings: "Iterable[Finding]") -> list[dict[str, Any]]:
    """The findings for programs."""
    return [each.model_dump(mode="json") for each in findings]


def show_measured(manifest: "Manifest") -> None:
    """The table of what was measured in training, if it was."""
    if manifest.measured is not None:
        show_table(*_measured_table(manifest.measured, "test rows"))


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
