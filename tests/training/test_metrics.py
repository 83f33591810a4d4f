import numpy as np
import pytest
import torch

from fedsim.errors import InputError
from fedsim.training.loss import LOSSES, loss_named
from fedsim.training.metrics import check_metrics, measured

BINARY, CLASSES = LOSSES["binary_cross_entropy"], LOSSES["cross_entropy"]


def test_known_answers_of_a_binary_label() -> None:
    y, probability = np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.4, 0.6])
    found = measured(["accuracy", "auc", "aupr", "log_loss"], y, probability)
    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.75  # three of four pairs in order
    assert found["aupr"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["log_loss"] == pytest.approx(-(2 * np.log(0.9) + 2 * np.log(0.4)) / 4)


def test_known_answers_of_classes() -> None:
    probability = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]])
    found = measured(["accuracy", "log_loss"], np.array([0, 0]), probability)
    assert found == {"accuracy": 0.5, "log_loss": pytest.approx(-(np.log(0.7) + np.log(0.3)) / 2)}


def test_losses_are_per_example() -> None:
    found = BINARY.per_example(torch.tensor([[0.0], [2.0]]), torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([np.log(2), np.log(1 + np.exp(2))])
    found = CLASSES.per_example(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([np.log(2), np.log(1 + np.exp(-2))])


def test_probabilities_belong_to_the_loss() -> None:
    assert BINARY.probabilities(torch.tensor([[0.0], [np.log(3)]])).tolist() == pytest.approx([0.5, 0.75])
    assert CLASSES.probabilities(torch.tensor([[0.0, np.log(3)]])).tolist()[0] == pytest.approx([0.25, 0.75])


def test_what_cannot_be_measured_is_refused() -> None:
    y = np.array([0, 1])
    with pytest.raises(InputError, match=r"training\.metrics: 'f1' .allowed: accuracy, log_loss, auc, aupr"):
        check_metrics(["f1"], BINARY, y)
    with pytest.raises(InputError, match="metric needs a binary label: 'auc'"):
        check_metrics(["accuracy", "auc"], CLASSES, y)
    with pytest.raises(InputError, match="metric needs held-out examples of both classes: 'aupr'"):
        check_metrics(["aupr"], BINARY, np.array([1, 1]))
    with pytest.raises(InputError, match=r"training\.loss: 'hinge' .allowed: cross_entropy, binary_cross_entropy"):
        loss_named("hinge")
