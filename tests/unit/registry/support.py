"""What the registry's tests share: a clock that stands still, files to publish, child processes."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import adapters
from adapters.registry import Published, Registry

BACKBONE = "b" * 64
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = field(default=START)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float = 1) -> None:
        self.now += timedelta(seconds=seconds)


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def publish(
    registry: Registry,
    content: bytes,
    *,
    tenant: str = "acme",
    adapter: str = "intents",
    activate: bool = False,
    upload: str | None = None,
) -> Published:
    return registry.publish(
        tenant,
        adapter,
        digest=sha256(content),
        backbone=BACKBONE,
        manifest=json.dumps({"size": len(content)}),
        content=content,
        activate=activate,
        actor="tester",
        upload=upload,
    )


def spawn(script: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a Python process with the project importable; it is talked to through pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(adapters.__file__).parents[1])},
    )


def wait_ready(children: "list[subprocess.Popen[str]]") -> None:
    """Wait until every child has printed a line, then let all of them go at once."""
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()


def finish(children: "list[subprocess.Popen[str]]") -> list[str]:
    """What each child printed; every one must end well."""
    outputs = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return outputs
