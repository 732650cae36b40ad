"""All jobs of a manifest, performed in this process."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import HeadstockError
from tests.fleet import job, write_manifest, write_rows
from tests.tiny import make_tiny_backbone
from training.features import FeatureCache
from training.fleet.ledger import Record, open_ledger
from training.fleet.manifest import read_manifest
from training.fleet.train import Lent, train_fleet
from training.fleet.work import Outcome, Work, perform

JOBS = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_tiny_backbone(tmp_path / "backbones")
    for number in range(JOBS):
        write_rows(tmp_path / f"{number}.csv", seed=number)
    return tmp_path


class Shelf:
    """Takes what is published, except of the `refused` tenants."""

    def __init__(self, server: str = "http://here", refused: tuple[str, ...] = ()) -> None:
        self.server = server
        self.taken: dict[str, bytes] = {}
        self._refused = refused

    def publish(self, tenant: str, adapter: str, file: Path) -> None:
        assert tenant not in self.taken, "published twice"
        if tenant in self._refused:
            raise HeadstockError("no room")
        self.taken[f"{tenant}/{adapter}"] = file.read_bytes()


class Trainings:
    """Performs works here, and knows which."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __call__(self, works: Iterator[Work]) -> Generator[Outcome, None, None]:
        for work in works:
            self.numbers.append(work.number)
            yield perform(work)


def train(
    folder: Path,
    lines: list[dict[str, Any]] | None = None,
    *,
    shelf: Shelf | None = None,
    resume: bool = True,
) -> tuple[list[Record], list[int]]:
    """The records, and the numbers of the jobs that were trained."""
    lines = lines or [job(number) for number in range(JOBS)]
    manifest = write_manifest(folder, [*lines])
    jobs = read_manifest(manifest, folder / "out", ["tiny"])
    run = Trainings()
    lent = Lent(
        folder / "backbones",
        FeatureCache(folder / "features.sqlite"),
        run,
        shelf,
        lambda _: lambda _done, _total: None,
    )
    with open_ledger(folder / "out", resume) as ledger:
        return train_fleet(jobs, lent, ledger), run.numbers


def test_what_changed_is_trained_again_and_nothing_else(folder: Path) -> None:
    first, trained = train(folder)
    assert trained == [*range(JOBS)]
    assert [each.status for each in first] == ["done"] * JOBS
    write_rows(folder / "0.csv", seed=33)
    lines = [job(number) for number in range(JOBS)]
    lines[1]["recipe"] = {"seed": 5}
    (folder / "out" / "tenant-2" / "intents.safetensors").write_bytes(b"half")
    second, trained = train(folder, lines)
    assert trained == [0, 1, 2]
    assert [each.status for each in second] == ["done", "done", "done", "skipped"]
    assert second[2].digest == first[2].digest
    assert (second[3].digest, second[3].accuracy) == (first[3].digest, first[3].accuracy)
    again, trained = train(folder, lines, resume=False)
    assert trained == [*range(JOBS)]
    assert [each.digest for each in again] == [each.digest for each in second]


def test_what_was_made_is_published_without_being_trained_again(folder: Path) -> None:
    made, _ = train(folder)
    shelf = Shelf(refused=("tenant-1",))
    published, trained = train(folder, shelf=shelf)
    assert not trained
    assert [each.status for each in published] == ["done", "failed", "done", "done"]
    assert published[1].reason == "no room"
    assert [each.digest for each in published] == [each.digest for each in made]
    assert sorted(shelf.taken) == [f"tenant-{number}/intents" for number in (0, 2, 3)]
    more = Shelf()
    records, trained = train(folder, shelf=more)
    assert not trained
    assert [each.status for each in records] == ["skipped", "done", "skipped", "skipped"]
    assert list(more.taken) == ["tenant-1/intents"]
    other = Shelf("http://there")
    train(folder, shelf=other)
    assert len(other.taken) == JOBS


def test_rows_that_cannot_be_used_fail_their_job_alone(folder: Path) -> None:
    (folder / "1.csv").write_text("text,label\n")
    (folder / "2.csv").write_bytes(b"text,label\n\xff,a\n")
    records, trained = train(folder)
    assert trained == [0, 3]
    assert [each.status for each in records] == ["done", "failed", "failed", "done"]
    assert "has no rows" in (records[1].reason or "")
    assert "is not UTF-8" in (records[2].reason or "")


def test_a_folder_that_cannot_be_made_fails_its_job_alone(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "tenant-1").write_text("a file")
    records, _ = train(folder)
    assert [each.status for each in records] == ["done", "failed", "done", "done"]
    assert "cannot be written" in (records[1].reason or "")


def test_remains_of_a_killed_run_go_when_the_file_is_made(folder: Path) -> None:
    remains = folder / "out" / "tenant-0" / ".intents.safetensors.x1y2"
    remains.parent.mkdir(parents=True)
    remains.write_bytes(b"half")
    train(folder)
    assert [file.name for file in remains.parent.iterdir()] == ["intents.safetensors"]


def test_a_backbone_that_is_broken_fails_its_jobs_alone(folder: Path) -> None:
    source = folder / "backbones" / "tiny"
    other = folder / "backbones" / "other"
    other.mkdir()
    for file in source.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "model.onnx").write_bytes(b"broken")
    lines = [job(number) for number in range(JOBS)]
    lines[2]["backbone"] = "other"
    manifest = write_manifest(folder, [*lines])
    jobs = read_manifest(manifest, folder / "out", ["tiny", "other"])
    cache, run = FeatureCache(folder / "features.sqlite"), Trainings()
    stage = lambda _: lambda _done, _total: None  # noqa: E731
    lent = Lent(folder / "backbones", cache, run, None, stage)
    with open_ledger(folder / "out", False) as ledger:
        records = train_fleet(jobs, lent, ledger)
    assert [each.status for each in records] == ["done", "done", "failed", "done"]
