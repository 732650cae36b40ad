"""What tasks with one class a vector share, whether it is a row's or a token's."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from training.tasks.base import CLASS, Floats, Kind
from training.tasks.calibration import class_losses, fit_temperature

Integers = NDArray[np.int64]


class OfClasses:
    """Log losses, one temperature, no thresholds."""

    KIND: ClassVar[Kind] = CLASS

    def losses(self, raw: Floats, y: Integers, temperature: float) -> Floats:
        """By `class_losses`."""
        return class_losses(raw, y, temperature)

    def calibrate(self, raw: Floats, y: Integers) -> float:
        """By `fit_temperature`."""
        return fit_temperature(raw, y)

    def thresholds(self, raw: Floats, y: Integers, temperature: float) -> None:
        """None: the most probable class is the answer."""

    def counts(self, y: Integers) -> tuple[int, ...]:
        """Vectors of each class."""
        return tuple(int(count) for count in np.bincount(y))
