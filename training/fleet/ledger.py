"""What became of each job: a line each in `results.jsonl`, written as it happens."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from training.errors import TrainingError
from training.fleet.manifest import Job

FILE = "results.jsonl"


@dataclass(frozen=True, slots=True)
class Record:
    """A job's end. `skipped`: an earlier run did it.

    `inputs` is a digest of all that the file depends on, `published` the server that has it.
    """

    tenant: str
    adapter: str
    status: Literal["done", "failed", "skipped"]
    reason: str | None = None
    digest: str | None = None
    accuracy: float | None = None
    seconds: float = 0.0
    inputs: str | None = None
    published: str | None = None


class Ledger:
    """The records of a folder. Safe to call from several threads."""

    def __init__(self, descriptor: int, earlier: dict[tuple[str, str], Record]) -> None:
        self._descriptor = descriptor
        self._earlier = earlier
        self._lock = Lock()

    def append(self, record: Record) -> None:
        """One line, whole or not at all for whoever reads later. Raises TrainingError."""
        line = json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            try:
                os.write(self._descriptor, line)
            except OSError as error:
                raise TrainingError(f"{FILE} cannot be written: {error.strerror}") from error

    def made(self, job: Job, inputs: str) -> Record | None:
        """The record of an earlier run that made the file, of the same inputs, that is there."""
        record = self._earlier.get((job.tenant, job.adapter))
        if record is None or record.inputs != inputs or record.digest is None:
            return None
        try:
            content = job.output.read_bytes()
        except OSError:
            return None
        return record if hashlib.sha256(content).hexdigest() == record.digest else None


@contextmanager
def open_ledger(folder: Path, resume: bool) -> Iterator[Ledger]:
    """The folder's ledger, for one run at a time; a new one unless it is gone on with.

    Raises TrainingError.
    """
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be written: {error.strerror}; name another folder with --output"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(f"another training writes to {folder}; wait for its end") from error
        content = path.read_bytes() if resume else b""
        whole = content[: content.rfind(b"\n") + 1]  # a killed run may leave half a line
        os.ftruncate(descriptor, len(whole))
        yield Ledger(descriptor, _records(whole))
    finally:
        os.close(descriptor)


def _records(content: bytes) -> dict[tuple[str, str], Record]:
    """The last record of each adapter; lines that are none are passed over."""
    found: dict[tuple[str, str], Record] = {}
    for line in content.split(b"\n"):
        try:
            fields: dict[str, Any] = json.loads(line)
            record = Record(**fields)
        except (ValueError, TypeError):
            continue
        found[record.tenant, record.adapter] = record
    return found
