"""Counts the cores that this process may keep busy, by its affinity and its cgroups' CPU quota.

A container's CPU limit is a quota, which the affinity does not show: `docker run --cpus 1` on a
machine of 64 cores leaves all 64 in it. With more threads than the quota, the kernel stops all
of them for the rest of each tenth of a second, the event loop's among them.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path, PurePosixPath
from typing import Final

_PROC: Final = Path("/proc/self")
_ESCAPED = re.compile(r"\\([0-7]{3})")  # mountinfo writes spaces in paths so
_limit: int | None = None


def cores() -> int:
    """Threads that are worth starting at once, one or more. Their number changes no result.

    A fraction of a quota is left to what runs beside them.
    """
    there = int(min(len(os.sched_getaffinity(0)), cpu_quota()))
    return max(1, there if _limit is None else min(_limit, there))


def use_cores(limit: int) -> None:
    """Take `limit` cores at most from now on, in this process: others have the rest."""
    global _limit  # a property of the process, as its affinity is
    _limit = limit


def bound_threads() -> None:
    """Keep torch and the libraries of linear algebra within a quota, if nothing is set for them.

    They start a thread for each core of the affinity. With no quota that is what they should do.
    """
    if cpu_quota() < len(os.sched_getaffinity(0)) and not os.environ.get("OMP_NUM_THREADS"):
        os.environ["OMP_NUM_THREADS"] = str(cores())


def cpu_quota(process: Path = _PROC) -> float:
    """Seconds of CPU that the process may take a second, by the tightest of its cgroups.

    `process` is its folder in /proc. Infinite with no quota, and on systems without cgroups.
    """
    try:
        groups = (process / "cgroup").read_text()
        mounts = (process / "mountinfo").read_text(errors="surrogateescape")
        return min(map(_quota_of, cgroup_folders(groups, mounts)), default=inf)
    except (OSError, ValueError):  # no cgroups, or files of a system that only resembles Linux
        return inf


def cgroup_folders(groups: str, mounts: str) -> Iterator[Path]:
    """The folders that may hold a quota: of each cgroup with the CPU controller, and those above.

    `groups` and `mounts` are the texts of /proc/PID/cgroup and /proc/PID/mountinfo.
    """
    paths = dict(_paths(groups))
    for root, mount, version in _mounts(mounts):
        path = paths.get(version)
        if path is None:
            continue
        # Outside of a namespace of its own, a container sees paths of the host, and its own folder
        # as the root of the mount.
        inside = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath()
        if ".." in inside.parts:
            inside = PurePosixPath()
        folder = mount / inside
        yield folder
        yield from list(folder.parents)[: len(inside.parts)]


def _paths(groups: str) -> Iterator[tuple[int, PurePosixPath]]:
    """The process's path by the version of cgroups, such as `0::/app` and `4:cpu,cpuacct:/app`."""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield 2, PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            yield 1, PurePosixPath(path)


def _mounts(mounts: str) -> Iterator[tuple[PurePosixPath, Path, int]]:
    """Root, mount point and version of what may hold quotas."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = (_ESCAPED.sub(_unescaped, each) for each in before.split()[3:5])
        kind, *_, options = after.split()
        if kind == "cgroup2":
            yield PurePosixPath(root), Path(point), 2
        elif kind == "cgroup" and "cpu" in options.split(","):
            yield PurePosixPath(root), Path(point), 1


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 8))


def _quota_of(folder: Path) -> float:
    """The quota of one cgroup, by the files of either version; infinite where it has none."""
    with suppress(OSError, ValueError):
        return _share(*(folder / "cpu.max").read_text().split())
    with suppress(OSError, ValueError):
        quota, period = (folder / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
        return _share(quota.read_text(), period.read_text())
    return inf


def _share(quota: str, period: str = "100000") -> float:
    """Both in microseconds; "max" and -1 are no quota."""
    if quota == "max" or int(quota) <= 0:
        return inf
    return int(quota) / int(period)
