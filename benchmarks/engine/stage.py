"""What the engine's figures share: texts, a seeded registry, servers, the pace, the two sides."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from backbone.package import read_manifest
from benchmarks.common import INT8, Bench, Figure, bench, folder_of
from benchmarks.job import Job, Outcome, Stream, Target, run
from benchmarks.seed import Wanted, seed_registry
from benchmarks.texts import Texts, read_texts

SMALL, LARGE = "small", "large"  # heads of 4 labels, of BANKING77's 77
LARGE_LABELS, SMALL_LABELS = 77, 4
N_LARGE = 16
NO_CACHE = {"HEADSTOCK_FEATURE_CACHE_BYTES": "0"}  # texts come again; but for its own figure


@dataclass(frozen=True, slots=True)
class Pace:
    """How long one measurement takes and how often both sides have their turn."""

    seconds: float
    warmup_s: float
    rounds: int
    tenants: int


FULL = Pace(seconds=3.0, warmup_s=0.7, rounds=3, tenants=10_000)
QUICK = Pace(seconds=1.0, warmup_s=0.3, rounds=1, tenants=300)


@dataclass(frozen=True, slots=True)
class Stage:
    """The main server with its tenants. `large` and `small` are targets by the size of head."""

    backbone: str
    pace: Pace
    texts: Texts
    main: Bench
    large: Sequence[Target]
    small: Sequence[Target]
    started: float

    @property
    def folder(self) -> Path:
        """The folder of the main backbone."""
        return folder_of(self.backbone)

    def load(
        self,
        *streams: Stream,
        seconds: float | None = None,
        server: Bench | None = None,
        warmup_s: float | None = None,
    ) -> list[Outcome]:
        """Run streams at once, against the main server where no other is given."""
        where = urlsplit((server or self.main).server.url)
        assert where.hostname is not None
        assert where.port is not None
        return run(
            Job(
                where.hostname,
                where.port,
                streams,
                self.pace.seconds if seconds is None else seconds,
                self.pace.warmup_s if warmup_s is None else warmup_s,
            )
        )

    def speed(self, stream: Stream, server: Bench | None = None) -> float:
        """Rows a second of one stream; every answer must be in order."""
        (outcome,) = self.load(stream, server=server)
        assert outcome.failed == 0, f"requests failed: {outcome.statuses}"
        return outcome.rows_per_s

    def bulk(self, targets: Sequence[Target] | None = None) -> Stream:
        """Requests of 32 that saturate."""
        return Stream(targets or self.large, self.texts.plain, rows=32, clients=8)

    def singles(self, targets: Sequence[Target] | None = None) -> Stream:
        """Single texts from 64 clients."""
        return Stream(targets or self.large, self.texts.plain, clients=64)

    def say(self, what: str) -> None:
        """Where we are, on standard error."""
        passed = int(time.monotonic() - self.started)
        print(f"  {passed // 60}:{passed % 60:02d}  {what}", file=sys.stderr, flush=True)

    def said(self) -> str:
        """What the figures hold for."""
        return (
            f"Backbone {self.backbone} where nothing else is said. Each ratio is the median of "
            f"{self.pace.rounds} rounds in which both sides had their turn, the extremes beside it."
        )


@contextmanager
def serving(
    backbone: str, wanted: Sequence[Wanted], **variables: str
) -> Iterator[tuple[Bench, list[Target]]]:
    """A server with tenants of its own."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "registry.sqlite"
        targets = seed_registry(database, read_manifest(folder_of(backbone)), wanted)
        with bench(backbone, database, **variables) as server:
            yield server, targets


def heads(name: str, count: int) -> list[Wanted]:
    """Tenants of one kind, LARGE or SMALL."""
    n_labels = LARGE_LABELS if name == LARGE else SMALL_LABELS
    return [Wanted(f"{name}-{number}", n_labels, number) for number in range(count)]


@contextmanager
def stage(data: Path | None, pace: Pace, backbone: str = INT8) -> Iterator[Stage]:
    """Seed a registry and start the main server on it."""
    started = time.monotonic()
    wanted = [*heads(LARGE, N_LARGE), *heads(SMALL, pace.tenants)]
    with serving(backbone, wanted, **NO_CACHE) as (main, targets):
        yield Stage(
            backbone=backbone,
            pace=pace,
            texts=read_texts(data),
            main=main,
            large=targets[:N_LARGE],
            small=targets[N_LARGE:],
            started=started,
        )


def in_turn(rounds: int, sides: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each side once a round: what the machine does besides hits all of them."""
    values: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            values[name].append(measure())
    return values


def ratio(
    what: str, over: Sequence[float], under: Sequence[float], target: str = "", unit: str = ""
) -> Figure:
    """The median ratio of a round with its extremes, and the two medians where a unit is given."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    value = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    if unit:
        medians = f"{statistics.median(over):,.0f} to {statistics.median(under):,.0f} {unit}"
        value += f" ({medians})"
    return Figure(what, value, target)
