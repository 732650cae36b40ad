import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from training.data.rows import Columns
from training.errors import TrainingError
from training.fleet.ledger import FILE, Record, open_ledger
from training.fleet.manifest import Job
from training.recipe import Recipe

CONTENT = b"an adapter"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    output = tmp_path / "a.safetensors"
    output.write_bytes(CONTENT)
    return Job("acme", "intents", tmp_path / "a.csv", "tiny", output, Columns(), Recipe())


def record(**changes: str) -> Record:
    parts = {"status": "done", "digest": DIGEST, "inputs": "these", **changes}
    return Record("acme", "intents", **parts)  # type: ignore[arg-type]


def test_what_was_made_of_the_same_inputs_and_is_whole_is_known(tmp_path: Path, job: Job) -> None:
    with open_ledger(tmp_path, resume=False) as ledger:
        ledger.append(record(digest="0" * 64))
        ledger.append(record())
    with open_ledger(tmp_path, resume=True) as ledger:
        assert ledger.made(job, "these") == record()
        assert ledger.made(job, "others") is None
        job.output.write_bytes(CONTENT[:-1])
        assert ledger.made(job, "these") is None
        job.output.unlink()
        assert ledger.made(job, "these") is None


def test_half_a_line_of_a_killed_run_is_forgotten(tmp_path: Path, job: Job) -> None:
    whole = json.dumps(asdict(record())) + "\n"
    odd = 'null\n[]\n{"tenant": "acme"}\nnonsense\n'
    (tmp_path / FILE).write_text(odd + whole + '{"tenant": "acme", "ada')
    with open_ledger(tmp_path, resume=True) as ledger:
        assert ledger.made(job, "these") == record()
        ledger.append(record(digest="1" * 64))
    assert len((tmp_path / FILE).read_text().splitlines()) == 6
    json.loads((tmp_path / FILE).read_text().splitlines()[-1])


def test_a_new_run_begins_a_new_ledger(tmp_path: Path, job: Job) -> None:
    with open_ledger(tmp_path, resume=False) as ledger:
        ledger.append(record())
    with open_ledger(tmp_path, resume=False) as ledger:
        assert ledger.made(job, "these") is None
    assert (tmp_path / FILE).read_bytes() == b""


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with (
        open_ledger(tmp_path, resume=True) as ledger,
        pytest.raises(TrainingError, match="another training writes"),
        open_ledger(tmp_path, resume=False),
    ):
        pass
    del ledger


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path, job: Job) -> None:
    with (
        pytest.raises(TrainingError, match="name another folder with --output"),
        open_ledger(job.output, resume=False),
    ):
        pass
