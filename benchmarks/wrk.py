"""The load generator wrk, which is written in C: what it costs the server's machine is little."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.job import Stream

_SCRIPT = Path(__file__).parent / "wrk.lua"
_MOST_REQUESTS = 4096


@dataclass(frozen=True, slots=True)
class WrkOutcome:
    """What wrk counted. `failed`: of all, those with another status than 2xx or 3xx, or none."""

    requests: int
    seconds: float
    failed: int
    p50_ms: float
    p99_ms: float


def has_wrk() -> bool:
    """Whether wrk is installed; Debian's package has its name."""
    return shutil.which("wrk") is not None


def run_wrk(url: str, stream: Stream, seconds: float, warmup_s: float) -> WrkOutcome:
    """`stream.clients` closed-loop clients, from one thread; targets in turn."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.writelines(_lines(stream))
        file.flush()
        for length in (warmup_s, seconds):
            size = ("-t1", f"-c{stream.clients}", f"-d{max(1, round(length))}s", "--timeout", "15s")
            done = subprocess.run(
                ["wrk", *size, "-s", str(_SCRIPT), url, "--", file.name],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
    (answer,) = (line for line in done.stdout.splitlines() if line.startswith("{"))
    return WrkOutcome(**json.loads(answer))


def _lines(stream: Stream) -> Iterator[str]:
    texts = cycle(stream.texts)
    wanted = max(len(stream.targets), min(_MOST_REQUESTS, len(stream.texts)))
    for target in islice(cycle(stream.targets), wanted):
        path = f"/v1/tenants/{target.tenant}/adapters/{target.adapter}/predict"
        body = json.dumps({"inputs": [next(texts) for _ in range(stream.rows)]})
        yield f"{path}\t{target.key}\t{body}\n"
