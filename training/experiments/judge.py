"""How good a recipe is, by training rows that a fit has not seen. Test rows never come here."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.lora import Lora
from adapters.manifest import Calibration, Manifest
from adapters.scoring import build_scorer
from backbone.errors import BackboneError
from training.data.splits import hold_out
from training.errors import TrainingError
from training.experiments.trial import Verdict, rounded
from training.features import POOLED, TOKENS, Encoded, FeatureCache
from training.finetune.fitting import probe_lora
from training.fitting import fit_frozen
from training.heads import METHODS, Fit, fit_head
from training.recipe import MAX_SEED, Recipe
from training.workshop import (
    Stage,
    TrainingRows,
    Workshop,
    make_problem,
    plain_examples,
    taught_examples,
)

REPEATS = 2
JUDGED_SHARE = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class RowsJudge:
    """Judges recipes by one set of training rows.

    `encoded` are the rows behind the frozen backbone, `named` the names of labels in `rows`. The
    workshop's recipe is what the user gave: its weights say how much a row counts in a loss.
    """

    workshop: Workshop
    rows: TrainingRows
    encoded: Encoded
    named: Encoded

    def cross_validate(self, recipe: Recipe, stage: Stage) -> Verdict:
        """A head on the frozen backbone, by repeated stratified cross-validation.

        The method chooses its settings by the very losses that are its verdict: to choose on inner
        folds would cost five times as much, and the bias, of the best of a few settings, is much
        the same for all methods. Raises what fitting raises.
        """
        shop, rows = self._of(recipe, stage)
        task = shop.task
        examples = taught_examples(shop, rows, self.encoded, self.named)
        problem, counted = make_problem(shop, rows, examples), self._row_weights()
        strata, groups = task.strata(rows.targets), rows.groups
        losses, places, first = [], [], None
        for seed in self.seeds(recipe):
            folds = examples.folds(strata, groups, seed)
            fit = fit_head(METHODS[recipe.method], task, problem, folds, stage("fit"))
            held = np.sort(np.concatenate([fold.held for fold in folds]))
            losses.append(fit.losses / problem.weights[held] * counted[held])
            places.append(examples.rows[held])
            first = first or fit
        assert first is not None, "there is a repeat"
        found = by_row(np.concatenate(losses), np.concatenate(places))
        return _verdict(found, first, None)

    def hold_out(self, recipe: Recipe, stage: Stage) -> Verdict:
        """A recipe by rows that were held out from all of it: LoRA, its stop, the head's settings.

        The head behind LoRA is that of the trial which ordinary training begins with; training LoRA
        once more on all rows would double the time. Raises what fitting raises.
        """
        shop, rows = self._of(recipe, stage)
        kept, held = self._split(recipe)
        texts = [rows.texts[place] for place in held]
        taught = replace(
            rows,
            texts=[rows.texts[place] for place in kept],
            targets=[rows.targets[place] for place in kept],
        )
        encoded = self.encoded.pick(kept)
        if recipe.lora is None:
            fit = fit_frozen(shop, taught, encoded, self.named).fit
            return self._judged(fit, None, held, self.encoded.pick(held))
        with tempfile.TemporaryDirectory() as folder:  # features of a LoRA that nobody asks again
            own = replace(shop, cache=FeatureCache(Path(folder) / "features.sqlite"))
            probe = probe_lora(own, recipe.lora, taught, encoded, self.named)
            behind = own.encode(texts, "judge", probe.lora)
        return self._judged(probe.fit, probe.lora, held, behind)

    def seeds(self, recipe: Recipe) -> tuple[int, ...]:
        """Of the repeats' folds; the first is that of ordinary training."""
        return tuple((recipe.seed + repeat) % (MAX_SEED + 1) for repeat in range(REPEATS))

    def held_out_rows(self, recipe: Recipe) -> int:
        """How many rows `hold_out` judges by. Raises InvalidData where there can be none."""
        return len(self._split(recipe)[1])

    def lora_trouble(self) -> str | None:
        """Why LoRA cannot be trained here, if so."""
        from training.finetune.settings import LoraRecipe
        from training.finetune.tune import Tuner  # torch is slow to import

        shop = self.workshop
        if not shop.open_backbone().manifest.lora:
            return f"backbone {shop.open_backbone().name} was added without LoRA graphs"
        try:
            Tuner(shop.open_backbone(), shop.task, LoraRecipe(), shop.recipe.seed, shop.weights)
            self.held_out_rows(shop.recipe)
        except (TrainingError, BackboneError) as error:
            return str(error)
        return None

    def _of(self, recipe: Recipe, stage: Stage) -> tuple[Workshop, TrainingRows]:
        """What a trial works with: no folder, since a trial under way may be lost."""
        names: Mapping[str, str] = {} if recipe.names == "no" else self.rows.names
        shop = replace(self.workshop, recipe=recipe, stage=stage, run=None)
        return shop, replace(self.rows, names=names)

    def _split(self, recipe: Recipe) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        strata = self.workshop.task.strata(self.rows.targets)
        return hold_out(self.rows.texts, strata, JUDGED_SHARE, recipe.seed)

    def _row_weights(self) -> NDArray[np.float64]:
        plain = plain_examples(self.workshop, self.rows, self.encoded)
        return make_problem(self.workshop, self.rows, plain).weights

    def _judged(
        self, fit: Fit, lora: Lora | None, held: NDArray[np.int64], encoded: Encoded
    ) -> Verdict:
        """By rows `held` behind the backbone, with LoRA where there is one."""
        task, labels = self.workshop.task, self.rows.labels
        targets = [self.rows.targets[place] for place in held]
        y = task.encode(targets, labels, encoded.tokens)
        raw = _raw(self.workshop, fit, labels, encoded)
        plain = plain_examples(self.workshop, self.rows, self.encoded)
        is_held = np.isin(plain.rows, held)
        losses = task.losses(raw, y, fit.temperature) * self._row_weights()[is_held]
        return _verdict(by_row(losses, plain.rows[is_held]), fit, lora)


def by_row(losses: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """[r], of the r rows that losses [m] of vectors belong to, in the order of their numbers.

    Each row has its vectors' share of the mean: the mean of the rows is that of the vectors. A
    row's vectors err together, so that not they but rows count for a standard error.
    """
    _, places = np.unique(rows, return_inverse=True)
    sums = np.bincount(places, weights=losses).astype(np.float64)
    return sums * (len(sums) / len(losses))


def _raw(
    shop: Workshop, fit: Fit, labels: tuple[str, ...], encoded: Encoded
) -> NDArray[np.float64]:
    """Raw outputs [m, C], by the code that serves."""
    task = shop.task
    manifest = Manifest(
        task=task.NAME,
        head=fit.head.head,
        backbone=shop.open_backbone().digest,
        feature=TOKENS if task.PER_TOKEN else POOLED,
        labels=labels,
        calibration=None if task.NAME == "regression" else Calibration(temperature=fit.temperature),
        thresholds=fit.thresholds,
        centroid=fit.head.centroid,
        knn=fit.head.knn,
    )
    width = shop.open_backbone().manifest.width(manifest.feature)
    head = build_scorer(manifest, dict(fit.head.tensors), width).head
    raws: list[NDArray[Any]] = [head.raw(feature) for feature in encoded.features]
    return (np.concatenate if task.PER_TOKEN else np.stack)(raws).astype(np.float64)


def _verdict(losses: NDArray[np.float64], fit: Fit, lora: Lora | None) -> Verdict:
    """Raises TrainingError for a loss that is not finite."""
    if not np.isfinite(losses).all():
        raise TrainingError("the loss is not finite")
    return Verdict(
        losses=tuple(rounded(value) for value in losses.tolist()),
        head=fit.head.head,
        head_bytes=sum(tensor.nbytes for tensor in fit.head.tensors.values()),
        lora_bytes=0 if lora is None else sum(each.nbytes for each in lora.tensors().values()),
    )
