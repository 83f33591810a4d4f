from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fedsim.data.clients import ArrayClients
from fedsim.errors import InputError, SimulationError
from fedsim.training.algorithm.sgd import LocalSgd
from fedsim.training.server_optimizer import FedAdam, FedAvg
from fedsim.training.trainer import Updates
from tests.training.tasks import UNEQUAL, Slope, click_model, clients, logistic, mlp, trainer, two_clients, updates


def promised(client_ids: list[int], versions: list[int], weights: list[float]) -> Updates:
    seeds = np.arange(len(client_ids), dtype=np.uint64)
    return Updates(np.array(client_ids), np.array(versions), np.array(weights), seeds)


def weight(found: object) -> float:
    return float(found.versions.newest[0])  # type: ignore[attr-defined]


def test_one_step_by_hand() -> None:
    # At w = 0 the gradient of the logistic loss is (1/2 - y) x: -1 for client 0, (0.5 + 1.5) / 2 = 1 for client 1.
    slope = trainer(
        Slope,
        two_clients(),
        loss="binary_cross_entropy",
        local=LocalSgd(learning_rate=0.1, epochs=1, batch_size=2),
        server_optimizer=FedAvg(learning_rate=10.0),
    )
    result = slope.step(promised([0, 1], [0, 0], [0.75, 0.5]))
    assert weight(slope) == pytest.approx(10 * (0.75 * 0.1 - 0.5 * 0.1))
    assert result.update_norm == pytest.approx(0.025)
    assert result.losses == pytest.approx([np.log(2)] * 2)
    assert result.train_loss == pytest.approx(np.log(2))


def test_each_client_starts_from_the_version_it_downloaded() -> None:
    local = LocalSgd(learning_rate=0.1, epochs=1, batch_size=2)
    slope = trainer(Slope, two_clients(), loss="binary_cross_entropy", local=local)
    slope.step(promised([0], [0], [1.0]))
    assert weight(slope) == pytest.approx(0.1)
    slope.step(promised([0, 0], [0, 1], [0.5, 0.5]))
    at_one_tenth = 0.1 * 2 * (1 - 1 / (1 + np.exp(-0.2)))  # -lr · gradient at w = 0.1
    assert weight(slope) == pytest.approx(0.1 + 0.5 * 0.1 + 0.5 * at_one_tenth)
    assert slope.version == 2


def test_epochs_and_batches_are_steps_of_their_own() -> None:
    local = LocalSgd(learning_rate=0.1, epochs=2, batch_size=1)
    slope = trainer(Slope, two_clients(), loss="binary_cross_entropy", local=local)
    w, loss = 0.0, 0.0
    for position in local.batches(np.array([2]), np.array([0], dtype=np.uint64))[0, :, 0]:
        x = (1.0, 3.0)[position]
        loss += np.log(1 + np.exp(w * x))
        w -= 0.1 * x / (1 + np.exp(-w * x))
    result = slope.step(promised([1], [0], [1.0]))
    assert weight(slope) == pytest.approx(w)
    assert result.train_loss == pytest.approx(loss / 4)


def test_of_work_that_was_cut_the_first_steps_are_done_and_their_loss_is_the_mean() -> None:
    """Client 1 takes three of its four steps of one example, client 0 one of two."""
    local = LocalSgd(learning_rate=0.1, epochs=2, batch_size=1)
    slope = trainer(Slope, two_clients(), loss="binary_cross_entropy", local=local)
    w, loss = 0.0, 0.0
    for position in local.batches(np.array([2]), np.array([1], dtype=np.uint64))[0, :3, 0]:
        x = (1.0, 3.0)[position]
        loss += np.log(1 + np.exp(w * x))
        w -= 0.1 * x / (1 + np.exp(-w * x))
    cut = replace(promised([0, 1], [0, 0], [0.25, 0.75]), n_steps=np.array([1, 3]))
    result = slope.step(cut)
    assert weight(slope) == pytest.approx(0.25 * 0.1 + 0.75 * w)
    assert result.losses == pytest.approx([np.log(2), loss / 3])
    assert result.train_loss == pytest.approx((np.log(2) + loss) / 4)
    assert cut.take(np.array([1])).n_steps.tolist() == [3]


def test_train_loss_weighs_examples_and_losses_tell_each_update() -> None:
    local = LocalSgd(learning_rate=0.1, epochs=1, batch_size=2)
    slope = trainer(Slope, two_clients(), loss="binary_cross_entropy", local=local)
    slope.step(promised([0], [0], [20.0]))  # w = 2
    result = slope.step(promised([0, 1], [1, 1], [0.5, 0.5]))
    one = np.log(1 + np.exp(-4))
    other = np.log(1 + np.exp([2.0, 6.0]))
    assert result.losses == pytest.approx([one, other.mean()])
    assert result.train_loss == pytest.approx((one + other.sum()) / 3)


def test_evaluation_is_of_the_newest_version_on_held_out_data() -> None:
    slope = trainer(Slope, two_clients(), loss="binary_cross_entropy", metrics=("accuracy", "log_loss", "auc"))
    assert slope.evaluate() == {"accuracy": pytest.approx(2 / 3), "log_loss": pytest.approx(np.log(2)), "auc": 0.5}
    slope.step(promised([1], [0], [20.0]))
    w = weight(slope)
    assert slope.evaluate()["log_loss"] == pytest.approx(np.log(1 + np.exp([-2 * w, w, 3 * w])).mean(), rel=1e-4)


def test_evaluation_in_pieces_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    found = trainer(mlp, clients([5, 5]), metrics=("accuracy", "log_loss"))
    whole = found.evaluate()
    monkeypatch.setattr("fedsim.training.server.EVALUATION_ROWS", 3)
    assert found.evaluate() == pytest.approx(whole)


def run_bytes(*, seed: int = 1) -> bytes:
    found = trainer(mlp, clients(UNEQUAL), seed=seed)
    for step in range(3):
        found.step(updates([3, 10, 5, 15], [step, max(0, step - 1), step, step], seed=step))
    return found.versions.newest.numpy().tobytes()


def test_same_seed_gives_the_same_bytes() -> None:
    assert run_bytes() == run_bytes() != run_bytes(seed=2)


def test_seed_of_an_update_decides_its_shuffle() -> None:
    one, other = (trainer(mlp, clients(UNEQUAL)) for _ in range(2))
    one.step(updates([15], seed=1))
    other.step(updates([15], seed=2))
    assert not torch.equal(one.versions.newest, other.versions.newest)


def test_dropout_draws_from_the_seed_of_the_update() -> None:
    def after_a_step(seed: int) -> torch.Tensor:
        found = trainer(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(12, 3)), clients([1]))
        torch.rand(1)  # somebody else draws
        found.step(updates([0], seed=seed))
        return found.versions.newest

    assert torch.equal(after_a_step(1), after_a_step(1))
    assert not torch.equal(after_a_step(1), after_a_step(2))


def test_nobody_elses_draws_are_touched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    trainer(mlp, clients([4])).step(updates([0]))
    assert torch.equal(torch.rand(2), expected)


def test_dropout_is_off_in_evaluation() -> None:
    found = trainer(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(12, 3)), clients([4]), metrics=("log_loss",))
    found.step(updates([0]))
    assert found.evaluate() == found.evaluate()


def test_running_statistics_are_averaged_and_left_alone_by_the_optimiser() -> None:
    data = clients([4, 4])
    found = trainer(
        lambda: nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 3)),
        data,
        local=LocalSgd(learning_rate=0.1, epochs=1, batch_size=4),
        server_optimizer=FedAdam(learning_rate=0.5, beta1=0.9, beta2=0.9, epsilon=1e-3),
    )
    found.step(updates([0, 1]))
    means = [data.fetch(np.array([i])).x.mean(axis=0) for i in range(2)]
    running = found.versions.newest[-24:-12]
    assert running.numpy() == pytest.approx(0.1 * (means[0] / 3 + 2 * means[1] / 3), abs=1e-6)


def test_update_norm_is_of_the_parameters_alone() -> None:
    found = trainer(lambda: nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 3)), clients([8, 6]))
    before = found.versions.newest.clone()
    norm = found.step(updates([0, 1])).update_norm
    moved = found.versions.newest - before  # the plain average: the direction itself
    n_parameters = 2 * 12 + 12 * 3 + 3
    assert norm == pytest.approx(float(moved[:n_parameters].norm()), rel=1e-4)
    assert float(moved.norm()) > 1.2 * norm  # the running statistics have moved as well


def test_empty_clients_and_empty_steps_are_refused() -> None:
    found = trainer(mlp, clients([3, 0, 2]))
    with pytest.raises(SimulationError, match="client 1 has no example to train on"):
        found.step(updates([0, 1]))
    with pytest.raises(SimulationError, match="needs at least one update"):
        found.step(updates([]))
    assert found.version == 0


def test_divergence_is_said_at_once() -> None:
    found = trainer(mlp, clients([30]), local=LocalSgd(learning_rate=1e30, epochs=5, batch_size=4))
    with pytest.raises(SimulationError, match="local training diverged in the step after version 0"):
        found.step(updates([0]))


@pytest.mark.parametrize(
    ("model", "loss", "message"),
    [
        (lambda: nn.Linear(13, 3), "cross_entropy", "model Linear with loss cross_entropy does not fit the data"),
        (mlp, "binary_cross_entropy", "outputs with loss binary_cross_entropy do not fit the data"),
        (lambda: nn.Linear(12, 2), "cross_entropy", r"label: 2 .allowed: 0 to 1 with this model and loss"),
        (lambda: nn.Linear(12, 1), "binary_cross_entropy", r"label: 2 .allowed: 0 to 1"),
    ],
)
def test_model_that_does_not_fit_the_data(model: object, loss: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trainer(model, clients([4]), loss=loss)  # type: ignore[arg-type]


def test_embedding_that_is_too_small_for_the_ids() -> None:
    small = lambda: click_model(n_values=29)  # noqa: E731
    with pytest.raises(InputError, match="model ClickModel with loss binary_cross_entropy does not fit the data"):
        trainer(small, clients([40], ids=True), loss="binary_cross_entropy")


def test_other_bad_settings() -> None:
    with pytest.raises(InputError, match="max_staleness: -1"):
        trainer(logistic, clients([4]), max_staleness=-1)
    nobody = ArrayClients(
        np.zeros((0, 12)),
        np.zeros(0),
        order=np.arange(0),
        offsets=np.array([0]),
        held_out=(np.zeros((0, 12)), np.zeros(0)),
    )
    with pytest.raises(InputError, match="no held-out example"):
        trainer(logistic, nobody)


def test_each_trainer_has_its_own_number_of_threads() -> None:
    """Also when another was built after it."""
    before = torch.get_num_threads()
    try:
        one, two = (trainer(mlp, clients([4, 9]), n_threads=n) for n in (1, 2))
        seen = []
        for made in (one, two, one):
            made.step(updates([0, 1]))
            seen.append(torch.get_num_threads())
        one.evaluate()
        assert [*seen, torch.get_num_threads()] == [1, 2, 1, 1]
    finally:
        torch.set_num_threads(before)
