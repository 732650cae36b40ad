import numpy as np
import pytest
import torch

from tests.unit.training.heads.problems import blobs, problem_of
from training.finetune.objectives import make_objective
from training.finetune.prototypes import as_head, judge_prototypes
from training.heads.outputs import raw_outputs
from training.tasks import TASKS


def test_the_head_gives_what_the_objective_gave() -> None:
    x, y = blobs(4, 10)
    objective = make_objective("class", x, y, 4, 0.05)
    prototypes = objective.state_dict()["prototypes"].numpy()
    raw = objective(torch.from_numpy(x)).detach().numpy()
    assert raw_outputs(as_head(prototypes), 4, x) == pytest.approx(raw, abs=1e-4)


def test_prototypes_are_judged_by_what_is_held_out_alone() -> None:
    x, y = blobs(4, 10)
    problem, (fold, *_) = problem_of(x, y, 4, 0)
    prototypes = np.stack([x[y == label].mean(axis=0) for label in range(4)])
    found = judge_prototypes(prototypes, TASKS["classification"], problem, fold)
    assert len(found.losses) == len(fold.held)
    assert found.loss < np.log(4)
    assert found.head.head == "centroid"
    backwards = judge_prototypes(prototypes[::-1], TASKS["classification"], problem, fold)
    assert backwards.loss > found.loss
