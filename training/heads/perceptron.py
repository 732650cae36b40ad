"""A perceptron with one hidden layer while it learns; the only file of the heads that needs torch.

All that chance decides comes from generators of its own, and one thread computes: the same call
gives the same bits, whatever runs beside it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from training.heads.base import Floats, Problem
from training.tasks.base import CLASS, VALUES

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2


class Perceptron:
    """Of `hidden` units, ReLU and dropout, on vectors x [m, d] whose features have variance 1.

    Values in the targets must be standardised. `seed` is any sequence of whole numbers.
    """

    def __init__(
        self, x: Floats, problem: Problem, hidden: int, dropout: float, seed: Sequence[int]
    ) -> None:
        self._chance = torch.Generator()
        entropy = np.random.SeedSequence(list(seed)).generate_state(1, np.uint32)
        self._chance.manual_seed(int(entropy[0]))
        self._kind, self._dropout = problem.kind, dropout
        self._x = torch.tensor(x, dtype=torch.float32)
        target = torch.int64 if problem.kind == CLASS else torch.float32
        self._y = torch.tensor(problem.y, dtype=target)
        self._weights = torch.tensor(problem.weights, dtype=torch.float32)
        inputs = self._x.shape[1]
        # He et al. 2015; an output layer of zeros starts from even odds and the mean value.
        drawn = torch.randn(hidden, inputs, generator=self._chance) * (2 / inputs) ** 0.5
        self._hidden_weight, self._hidden_bias = drawn, torch.zeros(hidden)
        self._weight = torch.zeros(problem.n_outputs, hidden)
        self._bias = torch.zeros(problem.n_outputs)
        parameters = [self._hidden_weight, self._hidden_bias, self._weight, self._bias]
        for parameter in parameters:
            parameter.requires_grad_()
        self._optimizer = torch.optim.AdamW(
            parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )

    def learn(self, epochs: int, batch_rows: int) -> None:
        """So many epochs more, in mini-batches."""
        for _ in range(epochs):
            order = torch.randperm(len(self._x), generator=self._chance)
            for start in range(0, len(order), batch_rows):
                batch = order[start : start + batch_rows]
                self._optimizer.zero_grad()
                self._loss(batch).backward()  # type: ignore[no-untyped-call]  # torch has none
                self._optimizer.step()

    def raw(self, x: Floats) -> Floats:
        """Raw outputs [n, C] of vectors [n, d]."""
        hidden_weight, hidden_bias, weight, bias = self.layers()
        raw: Floats = np.maximum(x @ hidden_weight.T + hidden_bias, 0) @ weight.T + bias
        return raw

    def layers(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Hidden weight [h, d] and bias [h], weight [C, h] and bias [C], as they are now."""
        found = (self._hidden_weight, self._hidden_bias, self._weight, self._bias)
        first, second, third, fourth = (each.detach().numpy().astype(np.float64) for each in found)
        return first, second, third, fourth

    def _loss(self, batch: Tensor) -> Tensor:
        hidden = torch.relu(self._x[batch] @ self._hidden_weight.T + self._hidden_bias)
        if self._dropout:
            kept = torch.rand(hidden.shape, generator=self._chance) >= self._dropout
            hidden = hidden * kept / (1 - self._dropout)
        raw, y = hidden @ self._weight.T + self._bias, self._y[batch]
        if self._kind == CLASS:
            losses = cross_entropy(raw, y, reduction="none")
        elif self._kind == VALUES:
            losses = mse_loss(raw, y, reduction="none").mean(dim=1)
        else:
            losses = binary_cross_entropy_with_logits(raw, y, reduction="none").mean(dim=1)
        return (self._weights[batch] * losses).mean()


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums that are split among threads would follow their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
