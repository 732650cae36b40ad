"""A real cgroup with a CPU quota, where this machine lets one be made."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backbone import cores as module
from tests.integration.server import ROOT

CODE = """
import os, training
from backbone.cores import cores, cpu_quota
print(cpu_quota(), cores(), os.environ["OMP_NUM_THREADS"])
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup whose parent may use one core and a half, and which has no quota itself."""
    process = Path("/proc/self")
    groups, mounts = (process / "cgroup").read_text(), (process / "mountinfo").read_text()
    for folder in module.cgroup_folders(groups, mounts):
        outer = folder / f"headstock-test-{os.getpid()}"
        inner = outer / "inner"
        try:
            inner.mkdir(parents=True)
            set_quota(outer)
            yield inner
        except OSError:
            continue
        else:
            return
        finally:
            remove(inner, outer)
    pytest.skip("this machine lets nobody make a cgroup with a CPU quota")


def set_quota(folder: Path) -> None:
    """In the files of whichever version. Raises OSError."""
    if (folder / "cpu.cfs_quota_us").exists():
        (folder / "cpu.cfs_quota_us").write_text("150000")
    elif (folder / "cpu.max").exists():
        (folder / "cpu.max").write_text("150000 100000")
    else:
        raise FileNotFoundError(folder)


def remove(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            folder.rmdir()


def joining(group: Path) -> Callable[[], None]:
    """What puts the process that calls it into the group."""

    def join() -> None:
        (group / "cgroup.procs").write_text("0")

    return join


def test_the_quota_of_a_group_above_bounds_runs_and_threads(group: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core is no more than the quota")
    environment = {name: each for name, each in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env=environment,
        preexec_fn=joining(group),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1.5", "1", "1"]
