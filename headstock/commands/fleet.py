"""`headstock train --manifest`: many trainings at once."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from headstock.commands.common import connect, feature_cache, progress_bars, settings
from headstock.output import note, show_json, show_table

if TYPE_CHECKING:
    from headstock.publish import Publisher
    from training.fleet.ledger import Record
    from training.fleet.train import Run

OF_MANY = ("publish", "ray", "server", "key")  # options that mean nothing without a manifest
OF_ONE = (
    *("data", "test_data", "backbone", "input_column", "label_column", "split_column"),
    "train_split",
    *("test_split", "task", "head", "weights", "names", "lora", "seed", "change", "run"),
    *("torch_weights", "augment", "peft", "any_base", "tune", "budget", "mlflow"),
    "unlabelled",
)
_SHOWN_FAILURES = 20
_QUANTILES = {"least": 0, "5 %": 5, "median": 50, "95 %": 95, "greatest": 100}


def check_usage(context: typer.Context, unfit: Sequence[str], why: str) -> None:
    """Refuse options that were typed and would say nothing. Raises BadParameter."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in unfit and source is not None and source.name == "COMMANDLINE":
            hint = parameter.opts[0] if parameter.opts[0].startswith("-") else "DATA"
            raise typer.BadParameter(why, param_hint=hint)


def train_many(
    manifest: Path, output: Path, resume: bool, target: tuple[str, str] | None, ray: str | None
) -> "list[Record]":
    """Train all jobs of a manifest; `target` is the server and key to publish with.

    Raises InvalidManifest, TrainingError, RequestFailed.
    """
    if ray is None:
        from training.fleet.forking import begin_imports

        begin_imports()
    from backbone import list_backbones
    from training.fleet.ledger import open_ledger
    from training.fleet.manifest import read_manifest
    from training.fleet.train import Lent, train_fleet

    root = settings().backbones_folder
    jobs = read_manifest(manifest, output, [each.name for each in list_backbones(root)])
    run = _run(ray, len(jobs))
    with (
        _publisher(target) as publisher,
        open_ledger(output, resume) as ledger,
        progress_bars() as stage,
    ):
        lent = Lent(root, feature_cache(), run, publisher, stage)
        return train_fleet(jobs, lent, ledger)


def _run(ray: str | None, n_jobs: int) -> "Run":
    if ray is not None:
        from training.fleet.cluster import on_ray

        return on_ray(ray)
    from backbone.cores import cores
    from training.fleet.processes import run_in_processes

    return partial(run_in_processes, n_processes=min(cores(), n_jobs))


@contextmanager
def _publisher(target: tuple[str, str] | None) -> "Iterator[Publisher | None]":
    if target is None:
        yield None
        return
    from headstock.publish import Publisher

    with connect(*target) as client:
        yield Publisher(client)


def show_records(records: "Sequence[Record]", seconds: float, json: bool) -> None:
    """What came of a fleet, that took so many seconds."""
    count = {
        status: sum(each.status == status for each in records)
        for status in ("done", "skipped", "failed")
    }
    if json:
        show_json({**count, "seconds": seconds, "jobs": [asdict(each) for each in records]})
        return
    rows: list[tuple[str, str]] = [(name, f"{number:,}") for name, number in count.items()]
    if count["done"]:
        rows.append(("seconds a tenant", f"{seconds / count['done']:.2f}"))
    accuracies = [each.accuracy for each in records if each.accuracy is not None]
    if accuracies:
        rows += [(f"accuracy, {name}", f"{value:.3f}") for name, value in _quantiles(accuracies)]
    show_table("Trained", ("jobs", ""), rows)
    failed = [each for each in records if each.status == "failed"]
    for each in failed[:_SHOWN_FAILURES]:
        note(f"Failed: {each.tenant}/{each.adapter}: {each.reason}")
    if len(failed) > _SHOWN_FAILURES:
        note(f"and {len(failed) - _SHOWN_FAILURES:,} more; all stand in results.jsonl")


def _quantiles(values: Sequence[float]) -> Iterator[tuple[str, float]]:
    import numpy as np

    for name, percent in _QUANTILES.items():
        yield name, float(np.percentile(values, percent))


def run_fleet(
    manifest: Path,
    output: Path,
    resume: bool,
    target: tuple[str, str] | None,
    ray: str | None,
    json: bool,
) -> bool:
    """Train, show; whether no job failed."""
    started = time.monotonic()
    records = train_many(manifest, output, resume, target, ray)
    show_records(records, round(time.monotonic() - started, 3), json)
    return all(each.status != "failed" for each in records)
