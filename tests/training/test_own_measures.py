"""A loss and a metric of the users' own: a class and its name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedsim.config.play import simulate
from fedsim.data.sources.digits import Digits
from fedsim.errors import InputError
from tests.smoke import small

pytestmark = pytest.mark.slow


class Hinge:
    """A loss of one's own: the first logit is to be above the margin for odd digits, below it for even ones."""

    name = "hinge"

    def __init__(self, margin: float) -> None:
        self.margin = margin

    def per_example(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (self.margin - (2 * (y % 2) - 1) * outputs[:, 0]).clamp(min=0)

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, 0].double()

    def no_labels(self, outputs: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(outputs), dtype=torch.int64)

    def check(self, outputs: torch.Tensor, y: torch.Tensor) -> None:
        assert len(outputs) == len(y)


class OddFound:
    """A metric of one's own: share of odd digits found."""

    name = "odd_found"

    def check(self, loss: object, y: np.ndarray) -> None:
        assert (y % 2).any()

    def keep(self, y: torch.Tensor, scores: torch.Tensor) -> dict[str, np.ndarray]:
        return {"odd": (y % 2).numpy(), "score": scores.numpy()}

    def value(self, kept: dict[str, np.ndarray]) -> float:
        return float((kept["score"][kept["odd"] == 1] > 0).mean())


def test_a_loss_and_a_metric_of_ones_own(tmp_path: Path) -> None:
    loss, metric = f"{{_target_: {__name__}.Hinge, margin: 0.7}}", f"{{_target_: {__name__}.OddFound}}"
    own = [
        f"training.loss={loss}", f"training.metrics=[{metric}]",
        "fleet.n_devices=3000", "server.report_goal=20", "stop.max_steps=25", "evaluation.every_steps=25",
    ]  # fmt: skip
    run = simulate(*small(own), folder=tmp_path / "run")
    assert run.evals["metric"].unique().tolist() == ["odd_found"]
    assert run.evals["value"].iloc[-1] > 0.7
    with pytest.raises(InputError, match=r"training\.loss is no loss: .*OddFound.*per_example, scores"):
        simulate(*small([f"training.loss={{_target_: {__name__}.OddFound}}"]), folder=tmp_path / "other")


class Hollow(Digits):
    """Data in which a client has nothing."""

    def n_examples(self, client_ids: np.ndarray) -> np.ndarray:
        return np.where(client_ids == 7, 0, super().n_examples(client_ids))


def test_a_client_without_examples_is_told_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^a client has no example to train on: 7 "):
        simulate(*small([f"data._target_={__name__}.Hollow"]), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_metric_to_stop_at_must_be_evaluated(tmp_path: Path) -> None:
    asked = ["stop.metric=auc", "stop.metric_at_least=0.8"]
    with pytest.raises(InputError, match=r"^stop\.metric is not evaluated: 'auc' .allowed: accuracy, log_loss.$"):
        simulate(*small(asked), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
