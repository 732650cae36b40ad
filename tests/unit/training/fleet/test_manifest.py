import json
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import job, write_manifest, write_rows
from training.data.rows import Columns
from training.errors import InvalidManifest
from training.fleet.manifest import Job, read_manifest
from training.recipe import Recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "0.csv")
    write_rows(tmp_path / "1.csv")
    return tmp_path


def read(folder: Path, *lines: dict[str, Any] | str) -> list[Job]:
    return read_manifest(write_manifest(folder, list(lines)), folder / "out", ["tiny"])


def refused(folder: Path, *lines: dict[str, Any] | str) -> str:
    with pytest.raises(InvalidManifest) as caught:
        read(folder, *lines)
    return str(caught.value)


def test_a_line_is_a_job_with_paths_beside_the_manifest(folder: Path) -> None:
    recipe = {"task": "classification", "names": "no", "seed": 3}
    columns = {"text": "q", "label": "a"}
    plain, full = read(
        folder, job(0), "", job(1, output="mine.safetensors", columns=columns, recipe=recipe)
    )
    out = folder / "out" / "tenant-0" / "intents.safetensors"
    assert plain == Job("tenant-0", "intents", folder / "0.csv", "tiny", out, Columns(), Recipe())
    assert full.output == folder / "mine.safetensors"
    assert full.columns == Columns(text="q", label="a")
    assert full.recipe == Recipe(names="no", seed=3)


def test_test_rows_may_have_a_file_beside_the_manifest(folder: Path) -> None:
    (found,) = read(folder, job(0, test_data="1.csv"))
    assert found.columns == Columns(test_data=folder / "1.csv")
    assert "test_data: there is no file" in refused(folder, job(0, test_data="none.csv"))
    assert "the input itself" in refused(folder, job(0, test_data="1.csv", output="1.csv"))


def test_texts_without_labels_lie_beside_the_manifest_too(folder: Path) -> None:
    (found,) = read(folder, job(0, unlabelled="1.csv"))
    assert found.unlabelled == folder / "1.csv"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Expecting"),
        ("[]", "must hold one object"),
        ('"text"', "must hold one object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"tenant": "a", "tenant": "b"}', "key 'tenant' stands twice"),
        ('{"tenant": NaN}', "NaN is not JSON"),
        (job(0, tenant="../a"), "tenant: tenant name '../a' is not valid"),
        (job(0, tenant="A"), "is not valid"),
        (job(0, adapter="a/b"), "adapter: adapter name 'a/b' is not valid"),
        (job(0, adapter=7), "adapter: Input should be a valid string"),
        (job(0, colour="red"), "colour: Extra inputs are not permitted"),
        (job(0, data="none.csv"), "data: there is no file"),
        (job(0, unlabelled="none.csv"), "unlabelled: there is no file"),
        (job(0, unlabelled="1.csv", recipe={"head": "knn"}), "which stores labelled rows"),
        (job(0, unlabelled="1.csv", output="1.csv"), "is the input itself"),
        (job(0, data="nul\0.csv"), "data: there is no file"),
        (job(0, data="."), "data: there is no file"),
        (job(0, data=""), "data: String should have at least 1 character"),
        (job(0, backbone="other"), "there is no backbone 'other'; added are: tiny"),
        (job(0, output="0.csv"), "is the input itself"),
        (job(0, output="no/such/folder.safetensors"), "does not exist"),
        (job(0, columns={"texts": "t"}), "columns.texts: Extra inputs are not permitted"),
        (job(0, recipe={"seed": "3"}), "recipe.seed: Input should be a valid integer"),
        (job(0, recipe={"seed": -1}), "recipe.seed: Input should be greater than or equal to 0"),
        (job(0, recipe={"head": "oracle"}), "recipe.head: Input should be"),
        (job(0, recipe={"lora": {"rank": 0}}), "recipe.lora.rank: Input should be greater"),
        (job(0, recipe={"task": "regression", "head": "logistic"}), "cannot do regression"),
        ({"adapter": "intents", "data": "0.csv", "backbone": "tiny"}, "tenant: Field required"),
    ],
)
def test_a_line_that_is_no_job_is_named(
    folder: Path, line: dict[str, Any] | str, said: str
) -> None:
    message = refused(folder, job(1), line)
    assert message.startswith(f"{folder / 'jobs.jsonl'}, line 2: ")
    assert said in message
    assert "\n" not in message


def test_lines_end_where_json_lines_end(folder: Path) -> None:
    (folder / "odd\u2028name.csv").write_bytes((folder / "0.csv").read_bytes())
    path = write_manifest(folder, [])
    line = json.dumps(job(0, data="odd\u2028name.csv"), ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n")
    (found,) = read_manifest(path, folder / "out", ["tiny"])
    assert found.data.name == "odd\u2028name.csv"


def test_bytes_that_are_no_text_are_named(folder: Path) -> None:
    path = write_manifest(folder, [job(0)])
    path.write_bytes(path.read_bytes() + b'{"tenant": "\xff"}')
    with pytest.raises(InvalidManifest, match="line 2: byte 0xff at position 12 is not UTF-8"):
        read_manifest(path, folder / "out", ["tiny"])


def test_two_lines_for_one_adapter_or_one_file_are_refused(folder: Path) -> None:
    assert "line 3: the adapter tenant-0/intents stands in line 1 already" in refused(
        folder, job(0), job(1), job(0, data="1.csv")
    )
    (folder / "sub").mkdir()
    assert "line 2: the output" in refused(
        folder, job(0, output="a.safetensors"), job(1, output="sub/../a.safetensors")
    )


def test_the_first_ten_errors_come_at_once(folder: Path) -> None:
    lines = [job(0, tenant=f"-{number}") for number in range(14)]
    message = refused(folder, job(0), *lines).split("\n")
    assert len(message) == 11
    assert [f"line {number}:" in line for number, line in enumerate(message[:10], 2)] == [True] * 10
    assert message[10] == "and 4 lines more"


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_manifest_without_a_job_is_refused(folder: Path, content: bytes) -> None:
    path = folder / "jobs.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidManifest, match="is empty"):
        read_manifest(path, folder / "out", ["tiny"])


@pytest.mark.parametrize("name", ["none.jsonl", ".", "nul\0"])
def test_a_manifest_that_cannot_be_read_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(InvalidManifest, match="cannot be read"):
        read_manifest(folder / name, folder / "out", ["tiny"])
