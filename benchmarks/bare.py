"""The limit: the backbone's ONNX session called in a loop, with nothing around it.

`python -m benchmarks.bare`, a job on standard input, the speeds on output: a process of its own,
with rows that are tokenized beforehand and sorted by length, so that next to nothing is padding.
The session has the kernels that a server takes.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from backbone.cores import cores
from backbone.kernels import Kernels, fast_kernels_are_exact, open_session
from backbone.manifest import MODEL_FILE, TOKENIZER_FILE
from backbone.package import read_manifest
from backbone.text import TextPreprocessor, TextRow


@dataclass(frozen=True, slots=True)
class Way:
    """One way to call the session."""

    batch: int
    threads: int

    @property
    def runs(self) -> int:
        """Calls at once."""
        return max(1, cores() // self.threads)

    def __str__(self) -> str:
        return f"batches of {self.batch}, {self.runs} at once, threads {self.threads}"


SORTED = Way(batch=8, threads=1)  # what served rows are compared with


def speed(folder: Path, texts: Sequence[str], seconds: float) -> float:
    """Measure rows per second over sorted rows, in a process of its own."""
    (rows_per_s,) = _call(folder, texts, [SORTED], seconds)
    return rows_per_s


def single_ms(
    folder: Path, texts: Sequence[str], seconds: float, rate: float | None = None
) -> float:
    """The median time of one row alone, ms, with the threads that make it shortest.

    Row after row, where the weights stay in the processor's caches; or `rate` rows a second at
    random moments, with nothing between.
    """
    ways = [Way(1, threads) for threads in sorted({1, cores()})]
    return min(_call(folder, texts, ways, seconds, singly=True, rate=rate))


def _call(
    folder: Path,
    texts: Sequence[str],
    ways: Sequence[Way],
    seconds: float,
    singly: bool = False,
    rate: float | None = None,
) -> list[float]:
    job = {
        "folder": str(folder),
        "texts": list(texts),
        "ways": [asdict(way) for way in ways],
        "seconds": seconds,
        "singly": singly,
        "rate": rate,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bare"],
        input=json.dumps(job),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: list[float] = json.loads(done.stdout)
    return answer


class Bare:
    """The sessions and the rows."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self._folder = folder
        self._preprocessor = TextPreprocessor(
            folder / TOKENIZER_FILE, read_manifest(folder).preprocessing
        )
        self._rows = [self._preprocessor.row(text) for text in texts]
        self._sessions: dict[int, Any] = {}

    def speed(self, way: Way, seconds: float) -> float:
        """Rows a second over `seconds`, after a short warm-up."""
        session, feeds = self._session(way.threads), self._feeds(way)
        self._loop(session, feeds, way.runs, min(0.3, seconds))
        return self._loop(session, feeds, way.runs, seconds)

    def median_ms(self, way: Way, seconds: float, rate: float | None) -> float:
        """The median time of a call, one at a time: at once after the last, or as they come."""
        session, feeds = self._session(way.threads), cycle(self._feeds(way))
        session.run(["pooled"], next(feeds))  # the first run allocates
        random = np.random.default_rng(0)
        taken: list[float] = []
        begun = moment = time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds or not taken:
            if rate:
                moment += random.exponential(1 / rate)
                time.sleep(max(0.0, moment - now))
            started = time.perf_counter()
            session.run(["pooled"], next(feeds))
            taken.append(time.perf_counter() - started)
        return 1000 * float(np.median(taken))

    def _loop(self, session: Any, feeds: Sequence[Any], runs: int, seconds: float) -> float:
        started = time.perf_counter()

        def work(first: int) -> int:
            done = 0
            for position in cycle(range(first, len(feeds), runs)):
                if time.perf_counter() - started > seconds:
                    break
                session.run(["pooled"], feeds[position])
                done += len(feeds[position]["input_ids"])
            return done

        with ThreadPoolExecutor(runs) as pool:
            rows = sum(pool.map(work, range(runs)))
        return rows / (time.perf_counter() - started)

    def _session(self, threads: int) -> Any:
        if threads not in self._sessions:
            kernels: Kernels = "fast" if fast_kernels_are_exact() else "exact"
            self._sessions[threads] = open_session(self._folder / MODEL_FILE, threads, kernels)
        return self._sessions[threads]

    def _feeds(self, way: Way) -> list[Any]:
        rows = sorted(self._rows, key=_length)
        batches = [rows[start : start + way.batch] for start in range(0, len(rows), way.batch)]
        # A loop that is cut short must see short and long ones alike.
        order = np.random.default_rng(0).permutation(len(batches))
        batches = [batches[position] for position in order]
        inputs = [node.name for node in self._session(way.threads).get_inputs()]
        return [self._preprocessor.collate(batch, inputs) for batch in batches]


def _length(row: TextRow) -> int:
    return row.length


def main() -> None:
    """One job."""
    job = json.loads(sys.stdin.read())
    bare = Bare(Path(job["folder"]), job["texts"])
    ways, seconds = [Way(**way) for way in job["ways"]], job["seconds"]
    if job["singly"]:
        done = [bare.median_ms(way, seconds, job["rate"]) for way in ways]
    else:
        done = [bare.speed(way, seconds) for way in ways]
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
