"""Losses and metrics: known answers, labels that are missing, lists, groups of examples."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch.func import vmap

from fedsim.errors import InputError
from fedsim.training.loss import LOSSES, loss_named
from fedsim.training.metrics import Measured, metric_named

BINARY, CLASSES, LISTS = (LOSSES[name] for name in ("binary_cross_entropy", "cross_entropy", "list_net"))


def measured(names: list[str], y: list, scores: list, *, at: int | None = None) -> Measured:
    """Of these labels and scores, looked at in two batches that part at ``at``."""
    metrics = tuple(metric_named(name) for name in names)
    cuts = [0, len(y)] if at is None else [0, at, len(y)]
    labels, found = torch.tensor(y), torch.tensor(scores, dtype=torch.float64)
    batches = [slice(a, b) for a, b in pairwise(cuts)]
    return Measured.of_batches(metrics, [[m.keep(labels[rows], found[rows]) for m in metrics] for rows in batches])


def test_known_answers_of_a_binary_label() -> None:
    found = measured(["accuracy", "auc", "aupr", "log_loss"], [0, 1, 1, 0], [0.1, 0.9, 0.4, 0.6], at=1).values()
    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.75  # three of four pairs in order
    assert found["aupr"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["log_loss"] == pytest.approx(-(2 * np.log(0.9) + 2 * np.log(0.4)) / 4)


def test_known_answers_of_classes() -> None:
    probability = [[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]]
    found = measured(["accuracy", "log_loss", "perplexity"], [0, 0], probability).values()
    log_loss = -(np.log(0.7) + np.log(0.3)) / 2
    assert found == {
        "accuracy": 0.5,
        "log_loss": pytest.approx(log_loss),
        "perplexity": pytest.approx(np.exp(log_loss)),
    }


def test_log_loss_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(3)
    y, probability = draw.integers(0, 5, 200), draw.dirichlet(np.ones(5), 200)
    found = measured(["log_loss"], y.tolist(), probability.tolist(), at=130).values()["log_loss"]
    assert found == pytest.approx(sk.log_loss(y, probability), rel=1e-12)


def test_the_k_most_probable() -> None:
    scores = [[0.4, 0.3, 0.2, 0.06, 0.03, 0.01]] * 4
    found = measured(["accuracy", "top3_accuracy", "top5_accuracy"], [0, 2, 3, 5], scores).values()
    assert found == {"accuracy": 0.25, "top3_accuracy": 0.5, "top5_accuracy": 0.75}


def test_labels_that_are_missing_count_nowhere() -> None:
    y, scores = [[1, -1], [0, 1]], [[[0.2, 0.8], [0.9, 0.1]], [[0.3, 0.7], [0.4, 0.6]]]
    found = measured(["accuracy", "log_loss"], y, scores, at=1).values()
    assert found == {"accuracy": pytest.approx(2 / 3), "log_loss": pytest.approx(-np.log([0.8, 0.3, 0.6]).mean())}
    logits = torch.log(torch.tensor(scores))
    alone = [-math.log(0.8), -(math.log(0.3) + math.log(0.6)) / 2]
    assert CLASSES.per_example(logits, torch.tensor(y)).tolist() == pytest.approx(alone)


def test_a_list_by_hand() -> None:
    y, scores = [[0, 2, 1, -1], [0, 0, -1, -1]], [[3.0, 2.0, 1.0, 9.0], [1.0, 2.0, 9.0, 9.0]]
    gain = 3 / math.log2(3) + 1 / math.log2(4)  # the model puts the irrelevant document first
    best = 3 / math.log2(2) + 1 / math.log2(3)
    assert measured(["ndcg10"], y, scores, at=1).values()["ndcg10"] == pytest.approx(gain / best)
    assert measured(["ndcg5"], y[1:], scores[1:]).values()["ndcg5"] != 0  # nothing relevant: not defined
    wanted = np.exp([0, 2, 1]) / np.exp([0, 2, 1]).sum()
    share = np.exp([3, 2, 1]) / np.exp([3, 2, 1]).sum()
    found = LISTS.per_example(torch.tensor(scores), torch.tensor(y))[0].item()
    assert found == pytest.approx(-(wanted * np.log(share)).sum(), rel=1e-5)


def test_ndcg_is_that_of_scikit_learn_with_its_gains() -> None:
    draw = np.random.default_rng(5)
    y, scores = draw.integers(0, 4, (20, 12)), draw.normal(size=(20, 12))
    expected = np.mean([sk.ndcg_score([2.0**a - 1], [b], k=5) for a, b in zip(y, scores, strict=True) if a.any()])
    assert measured(["ndcg5"], y.tolist(), scores.tolist()).values()["ndcg5"] == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["cross_entropy", "list_net"])
def test_losses_with_padding_have_a_finite_gradient_in_a_stack(loss: str) -> None:
    outputs = torch.randn((3, 2, 4, 5) if loss == "cross_entropy" else (3, 2, 4), requires_grad=True)
    y = torch.tensor([[[1, 2, -1, -1], [0, -1, -1, -1]]] * 3)
    each = vmap(LOSSES[loss].per_example)(outputs, y)
    (gradient,) = torch.autograd.grad(each.sum(), outputs)
    assert bool(gradient.isfinite().all()) and bool((gradient[:, 0, 2:] == 0).all())
    assert torch.allclose(each[0], LOSSES[loss].per_example(outputs[0], y[0]))


def test_some_of_the_examples() -> None:
    everything = measured(["accuracy", "auc"], [0, 1, 1, 0], [0.1, 0.9, 0.4, 0.6])
    assert everything.values(np.array([0, 1])) == {"accuracy": 1.0, "auc": 1.0}
    assert everything.values(np.array([2, 3, 3]))["accuracy"] == 0.0
    assert math.isnan(everything.values(np.array([1, 2]))["auc"])  # one class alone


def test_losses_are_per_example() -> None:
    found = BINARY.per_example(torch.tensor([[0.0], [2.0]]), torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([np.log(2), np.log(1 + np.exp(2))])
    found = CLASSES.per_example(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([np.log(2), np.log(1 + np.exp(-2))])
    found = LOSSES["squared_error"].per_example(torch.tensor([[0.5], [2.0]]), torch.tensor([1.0, 0.0]))
    assert found.tolist() == [0.25, 4.0]


def test_scores_belong_to_the_loss() -> None:
    assert BINARY.scores(torch.tensor([[0.0], [np.log(3)]])).tolist() == pytest.approx([0.5, 0.75])
    assert CLASSES.scores(torch.tensor([[0.0, np.log(3)]])).tolist()[0] == pytest.approx([0.25, 0.75])


def test_what_cannot_be_measured_is_refused() -> None:
    y = np.array([0, 1])
    with pytest.raises(InputError, match=r"training\.metrics: 'f1' .allowed: accuracy, top3_accuracy"):
        metric_named("f1")
    with pytest.raises(InputError, match=r"metric auc does not suit training\.loss: 'cross_entropy'"):
        metric_named("auc").check(CLASSES, y)
    with pytest.raises(InputError, match="metric needs held-out examples of both classes: 'aupr'"):
        metric_named("aupr").check(BINARY, np.array([1, 1]))
    with pytest.raises(InputError, match=r"training\.loss: 'hinge' .allowed: cross_entropy, binary_cross_entropy"):
        loss_named("hinge")


@pytest.mark.parametrize(
    ("loss", "outputs", "y", "said"),
    [
        ("cross_entropy", [[0.0, 0.0]], [2], r"label: 2 .allowed: 0 to 1 with this model and loss"),
        ("cross_entropy", [[0.0, 0.0]], [-1], "label: -1"),
        ("cross_entropy", [[[0.0, 0.0]]], [1], r"do not fit the data: labels of shape: \[1\] .allowed: \[1, 1\]"),
        ("binary_cross_entropy", [0.0, 0.0], [0, 2], "label: 2"),
        ("binary_cross_entropy", [0.0], [0.5], "labels are fractions"),
        ("list_net", [[0.0, 0.0], [0.0, 0.0]], [[1, 0], [-1, -1]], "labels of lists"),
        ("squared_error", [0.0], [math.inf], "label is not finite: inf"),
    ],
)
def test_labels_that_do_not_suit(loss: str, outputs: list, y: list, said: str) -> None:
    with pytest.raises(InputError, match=said):
        LOSSES[loss].check(torch.tensor(outputs), torch.tensor(y))
