"""What every way of fitting a head is."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import CentroidSettings, HeadName, KnnSettings
from training.errors import InvalidData
from training.tasks.base import Kind

MethodName = Literal["logistic", "ridge", "centroid", "knn", "mlp"]
Floats = NDArray[np.float64]
Settings = Mapping[str, float | str]
Tick = Callable[[], None]  # one fit more is done
GOLDEN_ROWS = 4  # that prove a head


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Vectors x [m, d], float32, with targets y of one kind; `weights` [m] have the mean 1.

    `n_outputs` is the number of labels C. See `training.tasks.base` for the kinds.
    """

    x: NDArray[np.float32]
    y: NDArray[Any]
    kind: Kind
    n_outputs: int
    weights: Floats
    seed: int

    def take(self, places: NDArray[np.int64]) -> Self:
        """The same for some vectors."""
        return replace(self, x=self.x[places], y=self.y[places], weights=self.weights[places])


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Places of the vectors to fit on and of those to judge by."""

    train: NDArray[np.int64]
    held: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Settings with the raw outputs [m, C] of each vector when it was held out; NaN if never."""

    settings: Settings
    raw: Floats


@dataclass(frozen=True, slots=True, eq=False)
class FittedHead:
    """A head of the catalogue with its tensors and the sections of the manifest that it needs.

    `converged` is False where a solver stopped short of its tolerance. `golden` [g, d] are vectors
    to prove the head by; None where any will do.
    """

    head: HeadName
    tensors: dict[str, NDArray[np.float32]]
    centroid: CentroidSettings | None = None
    knn: KnnSettings | None = None
    converged: bool = True
    golden: NDArray[np.float32] | None = None


class Method(Protocol):
    """A way of fitting a head. Stateless; the same call gives the same bits.

    Where `WEIGHTED` is False, a problem's weights are all 1: a recipe refuses others.
    """

    NAME: ClassVar[MethodName]
    KINDS: ClassVar[frozenset[Kind]]
    WEIGHTED: ClassVar[bool]

    def candidates(self, problem: Problem) -> int:
        """How many candidates `paths` have at most, all together."""
        ...

    def paths(
        self, problem: Problem, folds: Sequence[Fold], tick: Tick
    ) -> Iterator[Iterator[Candidate]]:
        """Ways from simple to complex, along each of which the out-of-fold loss has one valley.

        A walk along one may end before its end; the next begins after that. Candidates of no such
        order are `alone`. `tick` is called once a fold for each candidate.
        """
        ...

    def fit(self, problem: Problem, settings: Settings) -> FittedHead:
        """The head of a candidate's settings, fitted to all vectors."""
        ...


def alone(candidates: Iterable[Candidate]) -> Iterator[Iterator[Candidate]]:
    """Paths of one candidate each: no one's loss says anything of the next one's."""
    return (iter((candidate,)) for candidate in candidates)


def held_out(problem: Problem, folds: Sequence[Fold], raws: Iterable[Floats], tick: Tick) -> Floats:
    """Raw outputs [m, C] of a candidate, of those [held, C] of each fold; NaN if never held out."""
    raw = np.full((len(problem.x), problem.n_outputs), np.nan)
    for fold, found in zip(folds, raws, strict=True):
        raw[fold.held] = found
        tick()
    return raw


def as_finite(features: NDArray[np.float32]) -> Floats:
    """The vectors in float64.

    Raises:
        InvalidData: a vector is not finite.
    """
    x = features.astype(np.float64)
    if not np.isfinite(x).all():
        raise InvalidData("Features hold NaN or infinity: the backbone does not work on this data.")
    return x


@dataclass(frozen=True, slots=True, eq=False)
class Standard:
    """Centred vectors of mean squared norm 1, float64, and the mean [d] and scale taken out.

    So that a strength means the same on every backbone; both go into the weights afterwards.
    Centring changes no solution, where a bias bears no penalty. It makes solvers converge sooner,
    and lets the scale measure what differs between rows: many backbones share most of each vector
    among all rows.
    """

    x: Floats
    mean: Floats
    scale: float

    @classmethod
    def of(cls, features: NDArray[np.float32]) -> Self:
        """float64, since in float32 solvers' line searches fail on their own rounding.

        Raises:
            InvalidData: a vector is not finite.
        """
        x = as_finite(features)
        mean = x.mean(axis=0)
        x -= mean
        scale = float(np.sqrt((x**2).sum(axis=1).mean())) or 1.0
        return cls(x / scale, mean, scale)

    def unscaled(
        self, weight: Floats, bias: Floats
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight [C, d] and bias [C] for vectors as they were, of those for `x`."""
        weight = weight / self.scale
        return weight.astype(np.float32), (bias - weight @ self.mean).astype(np.float32)
