"""Changed copies of training rows among what a head is fitted on, where they are worth it."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from training.augment import RATES, Kind, copies_of
from training.examples import Examples
from training.features import Encoded
from training.heads import Chosen
from training.recipe import Recipe

Encode = Callable[[Sequence[str], str], Encoded]  # texts, and the stage's name
ChooseHead = Callable[[Examples, str], Chosen]
# Standard errors of a gain that is clear. Of a kind that changes nothing, chance exceeds one in a
# sixth of the trials, and the best of three kinds exceeds this about as seldom.
CLEAR = 1.6


def with_copies(examples: Examples, copies: Encoded, n_rows: int) -> Examples:
    """Copies as `copies_of` orders them: each stands on the side of a fold where its row does.

    The first `n_rows` vectors of the examples are the rows themselves.
    """
    x = np.stack(copies.features)
    rows = np.arange(len(x)) % n_rows
    return examples.with_taught(x, examples.y[rows], rows)


def choose_with_copies(
    recipe: Recipe,
    texts: Sequence[str],
    examples: Examples,
    without: Chosen | None,
    choose_head: ChooseHead,
    encode: Encode,
) -> tuple[Chosen, dict[str, str | float]]:
    """The settings that the recipe's `augment` leads to, and what was tried, for the manifest.

    `without` is what is chosen for the examples alone, where it is there already.
    """

    def with_kind(kind: Kind) -> Chosen:
        changed = encode(copies_of(texts, kind, recipe.copies, recipe.seed), f"features, {kind}")
        return choose_head(with_copies(examples, changed, len(texts)), f"fit, {kind}")

    if recipe.augment == "none":
        return without or choose_head(examples, "fit"), {}
    copies = float(recipe.copies)
    if recipe.augment != "auto":
        return with_kind(recipe.augment), {"augment": recipe.augment, "copies": copies}
    without = without or choose_head(examples, "fit")
    tried = {kind: with_kind(kind) for kind in RATES}
    taken = choose(without, tried)
    return without if taken is None else tried[taken], {
        "augment": "none" if taken is None else taken,
        "copies": copies,
        "out_of_fold_loss_none": without.loss,
        **{f"out_of_fold_loss_{kind}": each.loss for kind, each in tried.items()},
    }


def choose(without: Chosen, tried: Mapping[Kind, Chosen]) -> Kind | None:
    """The kind of least loss, if it is clearly below the loss without, row by row."""
    best = min(tried, key=lambda kind: tried[kind].loss)
    gains = without.losses - tried[best].losses
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    return best if gains.mean() > CLEAR * error else None
