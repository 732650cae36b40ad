"""Real processes, and what becomes of jobs whose process is killed."""

import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet import Deadly, write_rows
from tests.tiny import make_tiny_backbone
from training.data.rows import Columns
from training.features import POOLED, FeatureCache, encode_texts
from training.finetune.settings import LoraRecipe
from training.fleet.processes import run_in_processes
from training.fleet.work import BackbonePlace, Outcome, Work, perform
from training.recipe import Recipe
from training.train import read_lesson, train_adapter

ROOT = Path(__file__).parents[4]


@pytest.fixture
def work(tmp_path: Path) -> Work:
    root, cache = tmp_path / "backbones", tmp_path / "features.sqlite"
    backbone = make_tiny_backbone(root)
    lesson = read_lesson(write_rows(tmp_path / "rows.csv"), Columns(), Recipe())
    encoded = encode_texts(
        backbone, lesson.texts, POOLED, FeatureCache(cache), lambda _done, _total: None
    )
    place = BackbonePlace(root, "tiny", backbone.digest, cache)
    return Work(0, Recipe(), lesson, encoded, place)


def numbered(work: Work, *numbers: int) -> Iterator[Work]:
    return (replace(work, number=number) for number in numbers)


def by_number(outcomes: Iterator[Outcome]) -> dict[int, Outcome]:
    return {outcome.number: outcome for outcome in outcomes}


def deadly(work: Work, number: int, first: Path | None = None) -> Work:
    return replace(work, number=number, lesson=Deadly(first))  # type: ignore[arg-type]


def test_a_process_makes_the_very_file_that_one_training_makes(work: Work, tmp_path: Path) -> None:
    alone = train_adapter(
        tmp_path / "rows.csv",
        Columns(),
        work.backbone.open(),
        FeatureCache(work.backbone.cache),
        Recipe(),
        lambda _: lambda _done, _total: None,
    )
    found = by_number(run_in_processes(numbered(work, 0, 1, 2), 2))
    assert sorted(found) == [0, 1, 2]
    assert all(outcome.content == alone.content for outcome in found.values())
    assert all(outcome.digest == alone.digest for outcome in found.values())
    assert found[0].accuracy == 1.0
    assert found[0].seconds > 0


def test_a_job_that_kills_its_process_fails_alone(work: Work) -> None:
    works = [*numbered(work, 0, 1), deadly(work, 2), *numbered(work, 3, 4)]
    found = by_number(run_in_processes(iter(works), 2))
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert found[2].content is None
    assert "was killed by signal 9, twice" in (found[2].reason or "")
    assert all(found[number].content for number in (0, 1, 3, 4))


def test_a_job_whose_process_died_once_is_done_at_the_second_try(
    work: Work, tmp_path: Path
) -> None:
    works = [deadly(work, 0, tmp_path / "died"), *numbered(work, 1)]
    found = by_number(run_in_processes(iter(works), 2))
    assert (tmp_path / "died").exists()
    assert found[1].content
    # It came through, and is no lesson: a defect within a job is told, and ends no process.
    assert "AttributeError" in (found[0].reason or "")


def test_processes_end_with_the_one_who_asked(work: Work) -> None:
    outcomes = run_in_processes(numbered(work, *range(50)), 2)
    next(outcomes)
    assert len(multiprocessing.active_children()) == 2
    outcomes.close()
    assert not multiprocessing.active_children()


def test_a_frozen_job_needs_no_backbone_and_no_torch(work: Work, tmp_path: Path) -> None:
    gone = replace(work, backbone=replace(work.backbone, root=Path("/nowhere")))
    (tmp_path / "work").write_bytes(pickle.dumps(gone))
    code = (
        "import pickle, sys\n"
        "from training.fleet import processes\n"
        f"work = pickle.load(open({str(tmp_path / 'work')!r}, 'rb'))\n"
        "assert processes.perform(work).content\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_a_backbone_that_is_another_one_here_is_refused(work: Work) -> None:
    other = replace(work.backbone, digest="0" * 64)
    recipe = Recipe(lora=LoraRecipe(epochs=1))
    outcome = perform(replace(work, recipe=recipe, backbone=other))
    assert "add the same one" in (outcome.reason or "")
