"""Cores by affinity and by the quotas of cgroups, from the texts of their files."""

import os
from collections.abc import Mapping
from math import inf
from pathlib import Path

import pytest

from backbone import cores as module
from backbone.cores import bound_threads, cores, cpu_quota, use_cores

V2_MOUNT = "30 23 0:26 {root} {at} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "34 25 0:29 {root} {at} rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
OTHERS = "25 30 0:23 / /proc rw - proc proc rw\n36 25 0:31 / /sys/fs/m rw - cgroup cgroup rw,memory"


def quota(
    tmp_path: Path, groups: str, mount: str, files: Mapping[str, str], *, root: str = "/"
) -> float:
    """What is found with these files under the mount point, whose path has a space."""
    at = tmp_path / "a cgroup"
    for name, text in files.items():
        file = at / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    place = str(at).replace(" ", "\\040")
    process = tmp_path / "proc"
    process.mkdir()
    (process / "cgroup").write_text(groups)
    (process / "mountinfo").write_text(f"{OTHERS}\n{mount.format(root=root, at=place)}\n")
    return cpu_quota(process)


@pytest.mark.parametrize(
    ("groups", "root", "files", "expected"),
    [
        ("0::/\n", "/", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", "/", {"cpu.max": "max 100000\n"}, inf),
        ("0::/\n", "/", {}, inf),  # the root of a machine has no such file
        ("0::/\n", "/", {"cpu.max": "20000 10000"}, 2.0),
        ("0::/\n", "/", {"cpu.max": "50000"}, 0.5),  # the usual period
        ("0::/\n", "/", {"cpu.max": "no number"}, inf),
        # The tightest of all levels holds, wherever it is.
        ("0::/a/b\n", "/", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3.0),
        ("0::/a/b\n", "/", {"a/b/cpu.max": "400000 100000", "cpu.max": "100000 100000"}, 1.0),
        ("0::/a\n", "/", {"a/cpu.max": "400000 100000", "b/cpu.max": "1000 100000"}, 4.0),
        # Without a namespace of its own a container's folder is the root of its mount.
        ("0::/docker/1f\n", "/docker/1f", {"cpu.max": "250000 100000"}, 2.5),
        ("0::/docker/1f/x\n", "/docker/1f", {"x/cpu.max": "250000 100000"}, 2.5),
        ("0::/../other\n", "/", {"cpu.max": "250000 100000"}, 2.5),
        ("4:cpu:/v1\n", "/", {"cpu.max": "250000 100000"}, inf),  # of the other version
    ],
)
def test_the_quota_of_version_2(
    tmp_path: Path, groups: str, root: str, files: Mapping[str, str], expected: float
) -> None:
    assert quota(tmp_path, groups, V2_MOUNT, files, root=root) == expected


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {
        f"{folder}cpu.cfs_quota_us": f"{quota}\n",
        f"{folder}cpu.cfs_period_us": f"{period}\n",
    }


@pytest.mark.parametrize(
    ("path", "root", "files", "expected"),
    [
        ("/", "/", v1("", -1), inf),
        ("/", "/", v1("", 150_000), 1.5),
        ("/pod/one", "/", v1("pod/one/", -1) | v1("pod/", 300_000), 3.0),
        ("/pod/one", "/pod/one", v1("", 50_000, 25_000), 2.0),
        ("/", "/", {"cpu.cfs_quota_us": "100000"}, inf),
    ],
)
def test_the_quota_of_version_1(
    tmp_path: Path, path: str, root: str, files: Mapping[str, str], expected: float
) -> None:
    groups = f"9:name=systemd:/other\n4:cpu,cpuacct:{path}\n0::/unified\n"
    assert quota(tmp_path, groups, V1_MOUNT, files, root=root) == expected


@pytest.mark.parametrize("groups", ["", "no cgroups at all\n", "0::relative/../..\n"])
def test_files_of_other_systems_are_no_quota(tmp_path: Path, groups: str) -> None:
    assert quota(tmp_path, groups, V2_MOUNT, {}) == inf
    assert cpu_quota(tmp_path / "nothing") == inf


@pytest.fixture
def _no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_limit", None)


@pytest.mark.usefixtures("_no_limit")
@pytest.mark.parametrize(
    ("affinity", "quota", "expected"),
    [(4, inf, 4), (4, 2.0, 2), (4, 1.9, 1), (4, 0.1, 1), (2, 3.5, 2), (64, 16.0, 16)],
)
def test_cores_are_what_affinity_and_quota_allow(
    affinity: int, quota: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)))
    monkeypatch.setattr(module, "cpu_quota", lambda: quota)
    assert cores() == expected
    use_cores(1)
    assert cores() == 1


@pytest.mark.parametrize(
    ("quota", "present", "expected"),
    [(2.5, None, "2"), (2.5, "", "2"), (2.5, "3", "3"), (4.0, None, None), (inf, None, None)],
)
@pytest.mark.usefixtures("_no_limit")
def test_libraries_keep_to_a_quota_unless_they_are_told_otherwise(
    quota: float, present: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(module, "cpu_quota", lambda: quota)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if present is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", present)
    bound_threads()
    assert os.environ.get("OMP_NUM_THREADS") == expected
