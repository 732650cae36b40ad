import numpy as np
import pytest
import torch
from torch.nn import functional

from training.finetune.objectives import Linear, Prototypes, contrastive_loss, make_objective


def test_prototypes_start_at_the_means_and_know_the_classes() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(5, 12))
    y = np.arange(50) % 5
    features = (centres[y] + 0.1 * random.normal(size=(50, 12))).astype(np.float32)
    objective = make_objective("class", features, y, 5, 0.05)
    assert isinstance(objective, Prototypes)
    raw = objective(torch.from_numpy(features))
    assert (raw.argmax(dim=1).numpy() == y).all()
    assert float(raw.detach().abs().max()) <= 20.001


def test_weights_of_rows_count_in_the_loss() -> None:
    objective = Prototypes(np.eye(2, dtype=np.float32), 0.0)
    raw = torch.tensor([[4.0, 0.0], [4.0, 0.0]])
    y = torch.tensor([0, 1])
    right, wrong = functional.cross_entropy(raw, y, reduction="none")
    loss = objective.loss(raw, y, torch.tensor([3.0, 1.0]))
    assert loss.item() == pytest.approx(float((3 * right + wrong) / 4))


def test_values_start_at_their_mean_and_are_judged_in_their_spread() -> None:
    y = np.array([[100.0, 0.1], [300.0, 0.3]])
    features = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    objective = make_objective("values", features, y, 2, 0.0)
    assert isinstance(objective, Linear)
    raw = objective(torch.from_numpy(features))
    assert raw.detach().numpy() == pytest.approx(np.array([[200, 0.2], [200, 0.2]]))
    loss = objective.loss(raw, torch.from_numpy(y), torch.ones(2))
    assert loss.item() == pytest.approx(1.0)  # the variance, in units of itself


def test_labels_start_undecided() -> None:
    y = np.array([[1.0, 0.0], [0.0, 0.0]])
    features = np.ones((2, 3), dtype=np.float32)
    objective = make_objective("labels", features, y, 2, 0.0)
    raw = objective(torch.from_numpy(features))
    loss = objective.loss(raw, torch.from_numpy(y), torch.ones(2))
    assert loss.item() == pytest.approx(np.log(2))


def test_the_contrastive_loss_by_hand() -> None:
    """Two classes of two rows; in a class rows are equal, between classes orthogonal."""
    features = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    loss = contrastive_loss(features, torch.tensor([0, 0, 1, 1]))
    assert loss.item() == pytest.approx(np.log(np.exp(10) + 2) - 10, abs=1e-6)
    mixed = contrastive_loss(features, torch.tensor([0, 1, 0, 1]))
    assert mixed.item() > 9


def test_rows_alone_in_their_class_say_nothing() -> None:
    features = torch.randn(3, 4, requires_grad=True)
    loss = contrastive_loss(features, torch.tensor([0, 1, 2]))
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros(3, 4))  # type: ignore[arg-type]  # it is there
