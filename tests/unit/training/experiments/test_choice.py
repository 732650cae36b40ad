import math

import pytest

from tests.unit.training.experiments.support import trial_of, verdict_of
from training.experiments.choice import choose, mean_and_error, paired_difference, simplicity
from training.experiments.trial import Trial
from training.recipe import Recipe

BEST = (1.0, 2.0, 3.0, 4.0)
# Paired with BEST: 0.1, -0.1, 0.3, 0.1: mean 0.1, standard deviation 0.1633, error 0.0816.
WORSE = (1.1, 1.9, 3.3, 4.1)
# 0.3, -0.2, 0.2, -0.1: mean 0.05, standard deviation 0.2380, error 0.1190.
NEAR = (1.3, 1.8, 3.2, 3.9)


def test_the_error_of_a_mean_by_hand() -> None:
    mean, error = mean_and_error(BEST)
    assert mean == 2.5
    assert error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert mean_and_error([3.0]) == (3.0, math.inf)


def test_differences_are_paired() -> None:
    """Unpaired, the errors of both means are 0.6: eight times as large."""
    recipe = Recipe()
    found = paired_difference(verdict_of(recipe, WORSE), verdict_of(recipe, BEST))
    assert found == pytest.approx((0.1, 0.0816497), rel=1e-5)


def test_beyond_one_standard_error_the_best_is_taken() -> None:
    chosen = choose([trial_of(0, WORSE), trial_of(1, BEST, "mlp")])
    assert chosen is not None
    assert (chosen.trial.number, chosen.why) == (1, "the least loss")


def test_within_one_standard_error_the_simplest_is_taken_and_says_why() -> None:
    trials = [trial_of(0, WORSE), trial_of(1, BEST, "mlp"), trial_of(2, NEAR)]
    chosen = choose(trials)
    assert chosen is not None
    assert chosen.trial.number == 2
    assert chosen.why == "within one standard error of #1 (0.05 above it, ± 0.12), and simpler"


def test_of_equally_simple_ones_the_least_loss_then_the_first() -> None:
    assert_chosen([trial_of(0, NEAR), trial_of(1, BEST)], 1)
    assert_chosen([trial_of(4, BEST, "ridge"), trial_of(3, BEST, "centroid")], 3)


def test_only_what_is_done_is_chosen_from() -> None:
    failed = trial_of(0, BEST).model_copy(update={"state": "failed"})
    assert choose([failed]) is None
    assert choose([]) is None
    assert_chosen([failed, trial_of(1, WORSE)], 1)


def test_the_order_of_simplicity() -> None:
    order = [
        [verdict_of(Recipe(head=head), BEST) for head in ("logistic", "ridge", "centroid")],
        [verdict_of(Recipe(head="mlp"), BEST)],
        [verdict_of(Recipe(head="knn"), BEST)],
        [verdict_of(Recipe(head="logistic"), BEST, lora_bytes=10)],
        [verdict_of(Recipe(head="knn"), BEST, lora_bytes=10)],
        [verdict_of(Recipe(head="logistic"), BEST, lora_bytes=20)],
    ]
    keys = [[simplicity(verdict) for verdict in alike] for alike in order]
    assert all(len(set(alike)) == 1 for alike in keys)
    firsts = [alike[0] for alike in keys]
    assert firsts == sorted(set(firsts))


def assert_chosen(trials: list[Trial], number: int) -> None:
    chosen = choose(trials)
    assert chosen is not None
    assert chosen.trial.number == number
