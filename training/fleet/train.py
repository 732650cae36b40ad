"""All jobs of a manifest: read, features, fit, write, publish; top to bottom."""

import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from glob import escape
from pathlib import Path
from typing import Protocol

from adapters.container import write_file
from adapters.errors import HeadstockError
from backbone import Backbone, BackboneError, find_backbone, load_backbone
from training.errors import TrainingError
from training.features import FeatureCache, compute_features, encode_texts
from training.fleet.ledger import Ledger, Record
from training.fleet.manifest import Job
from training.fleet.work import BackbonePlace, Outcome, Work
from training.train import Lesson, read_lesson
from training.workshop import Stage

TEXTS_AT_ONCE = 20_000  # features held in memory: 30 MB of width 384
_FINISHERS = 4  # files are synced and uploads wait for the server, neither takes a core
_MOST_UNFINISHED = 64

Outcomes = Generator[Outcome, None, None]
Run = Callable[[Iterator[Work]], Outcomes]  # a way of performing works, in any order


class Publisher(Protocol):
    """Where finished adapters go."""

    @property
    def server(self) -> str:
        """Its address."""
        ...

    def publish(self, tenant: str, adapter: str, file: Path) -> None:
        """Upload a file and let it answer. Called by several threads. Raises HeadstockError."""
        ...


@dataclass(frozen=True, slots=True)
class Lent:
    """What a fleet works with."""

    backbones: Path
    cache: FeatureCache
    run: Run
    publisher: Publisher | None
    stage: Stage


@dataclass(frozen=True, slots=True, eq=False)
class _Planned:
    """A job that can be done; `made` is the record of its file where that is there already."""

    number: int
    job: Job
    lesson: Lesson
    inputs: str
    made: Record | None


def train_fleet(jobs: Sequence[Job], lent: Lent, ledger: Ledger) -> list[Record]:
    """Do every job; a record each, in their order. A job that fails stops no other.

    Raises TrainingError where the ledger cannot be written.
    """
    return _Fleet(jobs, lent, ledger).train()


class _Fleet:
    def __init__(self, jobs: Sequence[Job], lent: Lent, ledger: Ledger) -> None:
        self._jobs = jobs
        self._lent = lent
        self._ledger = ledger
        self._records: dict[int, Record] = {}
        self._backbones: dict[str, Backbone] = {}

    def train(self) -> list[Record]:
        planned = self._compute_features(self._plan())
        waiting = {each.number: each for each in planned}
        progress = self._lent.stage("train" if self._lent.publisher is None else "train, publish")
        progress(0, len(waiting))
        finished = itertools.count(1)

        def finish(outcome: Outcome) -> None:
            self._finish(waiting[outcome.number], outcome)
            progress(next(finished), len(waiting))

        unfinished: set[Future[None]] = set()
        with (
            ThreadPoolExecutor(_FINISHERS) as pool,
            closing(self._outcomes(planned)) as outcomes,
        ):
            for outcome in outcomes:
                unfinished.add(pool.submit(finish, outcome))
                while len(unfinished) > _MOST_UNFINISHED:
                    unfinished = _await_some(unfinished)
            while unfinished:
                unfinished = _await_some(unfinished)
        return [self._records[number] for number in range(len(self._jobs))]

    def _plan(self) -> list[_Planned]:
        """Read the rows; what an earlier run has made, and published if that is asked for, is done.

        A job whose rows cannot be used has failed.
        """
        planned = []
        progress = self._lent.stage("rows")
        for number, job in enumerate(self._jobs):
            try:
                lesson = read_lesson(job.data, job.columns, job.recipe, job.unlabelled)
                inputs = _inputs(job, lesson, self._backbone(job.backbone).digest)
            except (HeadstockError, BackboneError) as error:
                self._note(number, _failed(job, str(error)))
            else:
                made = self._ledger.made(job, inputs)
                if made is not None and self._is_published(made):
                    self._records[number] = replace(made, status="skipped", reason=None)
                else:
                    planned.append(_Planned(number, job, lesson, inputs, made))
            progress(number + 1, len(self._jobs))
        return planned

    def _compute_features(self, planned: Sequence[_Planned]) -> list[_Planned]:
        """The features of all distinct texts, into the cache; the jobs that can go on."""
        texts: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        for each in planned:
            if each.made is None:
                known = texts[each.job.backbone, each.job.recipe.feature]
                known.update(dict.fromkeys(each.lesson.texts))
        broken: dict[str, str] = {}
        for (name, feature), known in texts.items():
            try:
                self._warm(name, feature, list(known))
            except (HeadstockError, BackboneError) as error:
                broken[name] = str(error)
        for each in planned:
            if each.job.backbone in broken:
                self._note(each.number, _failed(each.job, broken[each.job.backbone]))
        return [each for each in planned if each.job.backbone not in broken]

    def _warm(self, name: str, feature: str, texts: Sequence[str]) -> None:
        progress = self._lent.stage("features")
        for start in range(0, len(texts), TEXTS_AT_ONCE):

            def report(done: int, _: int, start: int = start) -> None:
                progress(start + done, len(texts))

            part = texts[start : start + TEXTS_AT_ONCE]
            compute_features(self._backbone(name), part, feature, self._lent.cache, report)

    def _outcomes(self, planned: Sequence[_Planned]) -> Outcomes:
        """Of files that are there, and of those to be made."""
        failures: list[Outcome] = []
        for each in planned:
            if (made := each.made) is not None:
                yield Outcome(each.number, made.seconds, None, made.digest, made.accuracy)
        with closing(self._lent.run(self._works(planned, failures))) as outcomes:
            yield from outcomes
        yield from failures

    def _works(self, planned: Sequence[_Planned], failures: list[Outcome]) -> Iterator[Work]:
        """Each job with its features, read from the cache when somebody is free to do it."""
        for each in planned:
            if each.made is not None:
                continue
            job, backbone = each.job, self._backbone(each.job.backbone)
            cache, texts = self._lent.cache, each.lesson.texts
            try:
                encoded = encode_texts(backbone, texts, job.recipe.feature, cache, _unseen)
            except (HeadstockError, BackboneError) as error:
                failures.append(Outcome(each.number, 0.0, reason=str(error)))
                continue
            place = BackbonePlace(self._lent.backbones, job.backbone, backbone.digest, cache.path)
            yield Work(each.number, job.recipe, each.lesson, encoded, place)

    def _finish(self, planned: _Planned, outcome: Outcome) -> None:
        """Write, publish, note."""
        job = planned.job
        record = Record(
            job.tenant,
            job.adapter,
            "done",
            digest=outcome.digest,
            accuracy=outcome.accuracy,
            seconds=round(outcome.seconds, 3),
            inputs=planned.inputs,
        )
        publisher = self._lent.publisher
        try:
            if outcome.reason is not None:
                raise TrainingError(outcome.reason)
            if outcome.content is not None:
                _write(job.output, outcome.content)
            if publisher is not None:
                publisher.publish(job.tenant, job.adapter, job.output)
                record = replace(record, published=publisher.server)
        except HeadstockError as error:
            record = replace(record, status="failed", reason=str(error))
        self._note(planned.number, record)

    def _note(self, number: int, record: Record) -> None:
        self._records[number] = record
        self._ledger.append(record)

    def _is_published(self, made: Record) -> bool:
        publisher = self._lent.publisher
        return publisher is None or made.published == publisher.server

    def _backbone(self, name: str) -> Backbone:
        """Loaded once. Raises BackboneError."""
        if name not in self._backbones:
            self._backbones[name] = load_backbone(find_backbone(self._lent.backbones, name))
        return self._backbones[name]


def _await_some(futures: set[Future[None]]) -> set[Future[None]]:
    """Those that go on after some have ended; raises what they raised."""
    ended, rest = wait(futures, return_when=FIRST_COMPLETED)
    for future in ended:
        future.result()
    return rest


def _inputs(job: Job, lesson: Lesson, digest: str) -> str:
    """The sha256 of all that a job's file depends on."""
    content = {
        "recipe": job.recipe.model_dump(mode="json"),
        "columns": asdict(job.columns),
        "rows": lesson.rows.fingerprint,
        "unlabelled": lesson.teaching.unlabelled.fingerprint,
        "backbone": digest,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for remains in path.parent.glob(f".{escape(path.name)}.*"):  # of a run that was killed
            remains.unlink(missing_ok=True)
        write_file(path, content)
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror}") from error


def _failed(job: Job, reason: str) -> Record:
    return Record(job.tenant, job.adapter, "failed", reason)


def _unseen(_done: int, _total: int) -> None:
    """Progress of what is read from the cache."""
