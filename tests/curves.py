"""Files of curves as a training writes them."""

from collections.abc import Sequence
from pathlib import Path

from training.curves import Curves


def write_curves(file: Path, losses: Sequence[float], gap: float = 0.1) -> None:
    """An epoch of one step for each validation loss."""
    curves = Curves(file)
    for step, loss in enumerate(losses):
        rate = 0.1 / (step + 1)
        curves.add(
            {
                "kind": "step",
                "stage": "lora",
                "epoch": step + 1,
                "step": step,
                "rate": rate,
                "objective": loss,
            }
        )
        curves.add(
            {
                "kind": "epoch",
                "stage": "lora",
                "epoch": step + 1,
                "step": step,
                "rate": rate,
                "objective": loss,
                "train_loss": loss - gap,
                "validation_loss": loss,
                "gap": gap,
                "metric": "accuracy",
                "train_metric": 0.9,
                "validation_metric": 0.75,
                "seconds": 1.0,
            }
        )
