"""Texts without labels among what a head is fitted on, where rows that are held out show a gain.

Self-training (Scudder 1965; Lee 2013): a head of the labelled rows says what it thinks of the other
texts, a graph of nearest neighbours makes that agree among near ones, and the next head is fitted
to labels and guesses together.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from adapters.manifest import Finding
from training.data.unlabelled import Unlabelled
from training.errors import InvalidRecipe
from training.features import Encoded
from training.findings import make_finding
from training.heads import METHODS, Chosen, Fold, MethodName, Problem, choose_head
from training.heads.base import Floats, Settings, as_finite
from training.heads.outputs import raw_outputs
from training.heads.select import Progress, quiet_solvers
from training.recipe import Recipe
from training.spreading import balanced, neighbour_graph, spread
from training.tasks import Task

# Of few rows a calibrated head is as unsure as it must be of each; neighbours together know more.
SHARPNESSES = (1.0, 2.0, 4.0)
# What helps with so many helps with more, and a fit to all of them in each fold takes minutes.
MOST_JUDGED = 4_000
GUESS_WEIGHT = 1 / 3  # of the weight that a labelled row of the class has
_LEAST = 1e-12
_UNTAUGHT = make_finding(
    "unlabelled-left-out",
    "the prototypes that LoRA was trained beside had the least loss of rows that were held out: "
    "they are the head, and unlabelled texts teach nothing there",
)


@dataclass(frozen=True, slots=True)
class Teacher:
    """How classes are guessed.

    A head of these settings says what it thinks, `sharpness` times as sure as its logits; with
    `is_balanced`, classes get the shares that they have among labelled rows.
    """

    method: MethodName
    settings: Settings
    sharpness: float
    is_balanced: bool

    def teach(self, problem: Problem, x: NDArray[np.float32]) -> Problem:
        """The problem of labelled vectors with the vectors x [u, d] and their guessed classes."""
        everything = np.arange(len(problem.x))
        with quiet_solvers():
            graph = neighbour_graph(np.concatenate([problem.x, x]))
            raw = _think(self.method, self.settings, problem, everything, x)
            found = spread(graph, _start(problem, everything, self.sharpness * raw))
        guessed = balanced(found, _shares(problem)) if self.is_balanced else found
        return _with_guesses(problem, x, [_classes(guessed, problem)])


@dataclass(frozen=True, slots=True, eq=False)
class SelfTaught:
    """A head's settings with guesses among its rows, as judged by rows that are held out.

    `teacher` is None where they are no clear gain; `chosen` then is what it was `without` them.
    """

    without: Chosen
    chosen: Chosen
    teacher: Teacher | None
    tried: dict[str, str | float]
    findings: tuple[Finding, ...] = ()

    def to_fit(self, x: NDArray[np.float32] | None) -> Chosen:
        """What was chosen, with the problem to fit at last."""
        return replace(self.chosen, problem=self.to_learn(self.without.problem, x))

    def to_learn(self, problem: Problem, x: NDArray[np.float32] | None) -> Problem:
        """The labelled vectors, and if they teach the vectors x with what all rows lead to."""
        if self.teacher is None or x is None:
            return problem
        return self.teacher.teach(problem, x)

    def left_out(self) -> "SelfTaught":
        """The same where a head that they do not teach is taken in the end: LoRA's prototypes."""
        if not self.tried:
            return self
        return SelfTaught(
            self.without,
            self.without,
            None,
            {**self.tried, "unlabelled": "no"},
            self.findings if self.teacher is None else (_UNTAUGHT,),
        )


def choose_with_guesses(
    method: MethodName,
    task: Task[Any],
    without: Chosen,
    x: NDArray[np.float32] | None,
    folds: Sequence[Fold],
    progress: Progress | None = None,
) -> SelfTaught:
    """Whether guesses of the unlabelled vectors x [u, d] help, and with which settings of the head.

    A head like that `without` them makes the guesses, in each fold one of the fold's own training
    rows. They are taken where they lower the held-out rows' loss by more than a standard error.
    """
    if x is None:
        return SelfTaught(without, without, None, {})
    problem = without.problem
    with quiet_solvers():
        as_finite(x)  # else it would be found out after all the work
        teacher, guesses = _choose_teacher(method, task, without, x, folds)
    drawn = _drawn(len(x), problem.seed)
    x = x[drawn]
    taught = _with_guesses(problem, x, [each[drawn] for each in guesses])
    n_known, n_more = len(problem.x), len(x)
    with_own = [  # each fold has the guesses that its own rows led to
        Fold(np.append(fold.train, n_known + number * n_more + np.arange(n_more)), fold.held)
        for number, fold in enumerate(folds)
    ]
    chosen = choose_head(METHODS[method], task, taught, with_own, progress)
    gains = without.losses - chosen.losses
    # Of a single row nobody knows what chance does.
    is_better = len(gains) > 1 and gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains))
    tried: dict[str, str | float] = {
        "unlabelled": "yes" if is_better else "no",
        "out_of_fold_loss_labelled": without.loss,
        "out_of_fold_loss_unlabelled": chosen.loss,
        "unlabelled_balanced": "yes" if teacher.is_balanced else "no",
        "unlabelled_sharpness": teacher.sharpness,
    }
    if not is_better:
        no_gain = make_finding(
            "unlabelled-left-out",
            "the unlabelled texts were no clear gain for rows that were held out: the adapter is "
            "of the labelled rows alone",
            loss_with=chosen.loss,
            loss_without=without.loss,
        )
        return SelfTaught(without, without, None, tried, (no_gain,))
    return SelfTaught(without, chosen, teacher, tried)


def check_takes_unlabelled(recipe: Recipe) -> None:
    """Refuse a recipe that unlabelled texts say nothing to. Raises InvalidRecipe."""
    reason = None
    if recipe.task != "classification":
        reason = f"not with {recipe.task}: no text has a single label there that could be guessed"
    elif not METHODS[recipe.method].WEIGHTED:
        reason = f"not with a {recipe.method} head, which stores labelled rows; use another head"
    elif recipe.mix:
        reason = "not with a mix of layers, which is learned of labelled rows; leave out mix"
    elif recipe.augment != "none":
        reason = "not with changed copies of rows too; use augment=none"
    if reason is not None:
        raise InvalidRecipe(f"unlabelled texts go {reason}")


def vectors_of(encoded: Encoded) -> NDArray[np.float32] | None:
    """The unlabelled texts' vectors [u, d], None where there are none."""
    return np.stack(encoded.features) if encoded.features else None


def about(unlabelled: Unlabelled) -> dict[str, str | float]:
    """What a manifest says of the texts."""
    if not unlabelled.texts:
        return {}
    return {
        "unlabelled_texts": float(len(unlabelled.texts)),
        "unlabelled_fingerprint": unlabelled.fingerprint,
    }


def _choose_teacher(
    method: MethodName,
    task: Task[Any],
    without: Chosen,
    x: NDArray[np.float32],
    folds: Sequence[Fold],
) -> tuple[Teacher, list[NDArray[np.int64]]]:
    """The teacher that guesses held-out rows best, and the classes [u] that it guesses a fold.

    Of a fold's probabilities [m + u, C], which may be many, only what is used later is kept.
    """
    problem = without.problem
    graph = neighbour_graph(np.concatenate([problem.x, x]))
    held: defaultdict[tuple[float, bool], list[Floats]] = defaultdict(list)
    classes: defaultdict[tuple[float, bool], list[NDArray[np.int64]]] = defaultdict(list)
    for fold in folds:
        raw = _think(method, without.settings, problem, fold.train, x)
        shares = _shares(problem.take(fold.train))
        for factor in SHARPNESSES:
            sharpness = factor / without.temperature
            found = spread(graph, _start(problem, fold.train, sharpness * raw))
            for is_balanced, guessed in ((False, found), (True, balanced(found, shares))):
                held[sharpness, is_balanced].append(guessed[fold.held])
                classes[sharpness, is_balanced].append(_classes(guessed, problem))
    best = min(held, key=lambda way: _loss(task, problem, folds, held[way]))
    return Teacher(method, without.settings, *best), classes[best]


def _drawn(n: int, seed: int) -> NDArray[np.int64]:
    """Places of the vectors that students are judged with."""
    if n <= MOST_JUDGED:
        return np.arange(n)
    drawn: NDArray[np.int64] = np.random.default_rng(seed).choice(n, MOST_JUDGED, replace=False)
    return np.sort(drawn)


def _think(
    method: MethodName,
    settings: Settings,
    problem: Problem,
    known: NDArray[np.int64],
    x: NDArray[np.float32],
) -> Floats:
    """Raw outputs [m + u, C] of a head of the `known` vectors."""
    head = METHODS[method].fit(problem.take(known), settings)
    return raw_outputs(head, problem.n_outputs, np.concatenate([problem.x, x]))


def _start(problem: Problem, known: NDArray[np.int64], logits: Floats) -> Floats:
    """The classes of the `known` vectors, and what is thought of all others."""
    start: Floats = softmax(logits, axis=1)
    start[known] = 0.0
    start[known, problem.y[known]] = 1.0
    return start


def _classes(found: Floats, problem: Problem) -> NDArray[np.int64]:
    """The class [u] of each unlabelled vector."""
    classes: NDArray[np.int64] = found[len(problem.x) :].argmax(axis=1)
    return classes


def _with_guesses(
    problem: Problem, x: NDArray[np.float32], guesses: Sequence[NDArray[np.int64]]
) -> Problem:
    """With the vectors x once for each of the guesses [u]."""
    y = np.concatenate([problem.y, *guesses])
    totals = np.bincount(problem.y, problem.weights, problem.n_outputs)
    weights = totals / np.maximum(np.bincount(problem.y, minlength=problem.n_outputs), 1)
    return replace(
        problem,
        x=np.concatenate([problem.x, *([x] * len(guesses))]),
        y=y,
        weights=np.append(problem.weights, GUESS_WEIGHT * weights[y[len(problem.y) :]]),
    )


def _shares(problem: Problem) -> Floats:
    counts = np.bincount(problem.y, minlength=problem.n_outputs)
    shares: Floats = counts / counts.sum()
    return shares


def _loss(
    task: Task[Any], problem: Problem, folds: Sequence[Fold], held: Sequence[Floats]
) -> float:
    """Of the probabilities of each fold's held-out rows, which were guessed like the others."""
    raw = np.log(np.maximum(np.concatenate(held), _LEAST))
    rows = np.concatenate([fold.held for fold in folds])
    y = problem.y[rows]
    return float((problem.weights[rows] * task.losses(raw, y, task.calibrate(raw, y))).mean())
