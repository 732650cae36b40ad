"""`headstock train --manifest` with a real server, a job that fails, kills, and a second run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapters.adapter import read_adapter_file
from tests.fleet import job, write_manifest, write_rows
from tests.integration.server import ADMIN_KEY, ROOT, Server, environment, make_home, predict

JOBS = 6


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path)[0]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for number in range(JOBS):
        write_rows(tmp_path / f"{number}.csv", seed=number)
    return write_manifest(tmp_path, [job(number) for number in range(JOBS)])


def start(home: Path, manifest: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "headstock", "train", "--manifest", str(manifest)]
    return subprocess.Popen(
        [*command, "--output", str(home.parent / "out"), *options],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def train(home: Path, manifest: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, the document, standard error."""
    process = start(home, manifest, *options, "--json")
    out, err = process.communicate(timeout=120)
    return process.returncode, json.loads(out), err


def statuses(document: dict[str, Any]) -> list[str]:
    return [each["status"] for each in document["jobs"]]


def ledger(home: Path) -> list[dict[str, Any]]:
    lines = (home.parent / "out" / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def file_of(home: Path, number: int) -> Path:
    return home.parent / "out" / f"tenant-{number}" / "intents.safetensors"


def workers(process: "subprocess.Popen[str]") -> Iterator[psutil.Process]:
    for child in psutil.Process(process.pid).children():
        if "multiprocessing.forkserver" in " ".join(child.cmdline()):
            yield from child.children()


def wait_for_records(home: Path, count: int) -> None:
    """Until so many jobs are done."""
    file = home.parent / "out" / "results.jsonl"
    deadline = time.monotonic() + 60
    while not file.exists() or file.read_text().count("\n") < count:
        assert time.monotonic() < deadline, "no job was done"
        time.sleep(0.005)


def test_jobs_are_trained_and_published_and_one_that_fails_stops_none(
    home: Path, manifest: Path
) -> None:
    (manifest.parent / "2.csv").write_text("text,label\na,one\nb,one\n")
    with Server(home) as server, server.http(ADMIN_KEY) as http:
        http.post("/v1/tenants", json={"name": "tenant-0"}).raise_for_status()
        target = ("--publish", "--server", server.url, "--key", ADMIN_KEY)
        code, document, err = train(home, manifest, *target)
        assert code == 1, err
        assert statuses(document) == ["done", "done", "failed", *["done"] * (JOBS - 3)]
        failed = document["jobs"][2]
        assert "All rows have the label 'one'" in failed["reason"]
        assert (failed["digest"], failed["accuracy"]) == (None, None)
        for number in {*range(JOBS)} - {2}:
            answer = predict(http, f"tenant-{number}", "intents", ["aeioua1", "123450"])
            assert [each["label"] for each in answer["predictions"]] == ["letters", "digits"]
            assert answer["adapter"]["digest"] == document["jobs"][number]["digest"]
        assert not file_of(home, 2).exists()

        # A second run does what is left alone, and uploads nothing twice.
        write_rows(manifest.parent / "2.csv", seed=2)
        code, document, err = train(home, manifest, *target, "--resume")
        assert code == 0, err
        assert statuses(document) == ["skipped", "skipped", "done", *["skipped"] * (JOBS - 3)]
        assert predict(http, "tenant-2", "intents", ["aeioua1"])["adapter"]["version"] == 1
        assert predict(http, "tenant-1", "intents", ["aeioua1"])["adapter"]["version"] == 1
    assert len(ledger(home)) == JOBS + 1


def test_a_server_that_would_refuse_all_is_told_before_the_work(home: Path, manifest: Path) -> None:
    target = ("--publish", "--server", "http://127.0.0.1:9", "--key", ADMIN_KEY)
    code, document, _ = train(home, manifest, *target)
    assert code == 1
    assert "is the server up?" in document["error"]["message"]
    assert not (home.parent / "out").exists()


def test_a_worker_that_is_killed_costs_no_job(home: Path, manifest: Path) -> None:
    (manifest.parent / "4.csv").write_text("text,label\n")
    process = start(home, manifest)
    wait_for_records(home, 2)  # the one that failed, and one more
    next(workers(process)).kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    found = {each["tenant"]: each["status"] for each in ledger(home)}
    assert found.pop("tenant-4") == "failed"
    assert list(found.values()) == ["done"] * (JOBS - 1)
    assert "accuracy, median" in out
    assert "seconds a tenant" in out
    assert err.count("Failed: ") == 1
    assert "Failed: tenant-4/intents: " in err


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_broken_off_leaves_whole_files_and_is_gone_on_with(
    home: Path, manifest: Path, how: signal.Signals
) -> None:
    process = start(home, manifest)
    wait_for_records(home, 2)
    children = list(workers(process))
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.kill()
    process.communicate(timeout=30)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    there = list((home.parent / "out").glob("*/intents.safetensors"))
    assert there
    assert all(read_adapter_file(file) for file in there)
    if how == signal.SIGINT:
        return
    code, document, err = train(home, manifest, "--resume")
    assert code == 0, err
    assert set(statuses(document)) == {"done", "skipped"}
    assert statuses(document).count("skipped") >= 2
    assert not list((home.parent / "out").glob("*/.*"))
