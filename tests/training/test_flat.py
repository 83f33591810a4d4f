import pytest
import torch
from torch import nn

from fedsim.errors import InputError
from fedsim.training.flat import Layout, build_model
from tests.training.tasks import mlp


def values(seed: int) -> list[float]:
    return Layout(build_model(mlp, seed=seed)).flatten().tolist()


def test_initial_parameters_come_from_the_seed_alone() -> None:
    first = values(1)
    torch.rand(3)
    assert first == values(1) != values(2)


def test_the_global_generator_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    build_model(mlp, seed=1)
    assert torch.equal(torch.rand(2), expected)


def test_only_a_factory_of_modules_is_taken() -> None:
    with pytest.raises(InputError, match=r"model: 'Linear' .allowed: a factory"):
        build_model(nn.Linear(2, 2), seed=1)
    with pytest.raises(InputError, match=r"model: 'int' .allowed: a torch\.nn\.Module"):
        build_model(lambda: 3, seed=1)  # type: ignore[arg-type, return-value]


def test_vector_goes_there_and_back() -> None:
    model = build_model(mlp, seed=1)
    layout = Layout(model)
    vector = torch.arange(float(len(layout.flatten())))
    layout.load(vector)
    assert torch.equal(layout.flatten(), vector)
    assert model.hidden.weight[0, 1].item() == 1.0  # type: ignore[union-attr, index, operator]


def test_split_gives_views_by_name() -> None:
    layout = Layout(build_model(mlp, seed=1))
    vectors = torch.stack([layout.flatten(), torch.zeros(len(layout.flatten()))])
    parts = layout.split(vectors)
    assert {name: tuple(part.shape) for name, part in parts.items()} == {
        "hidden.weight": (2, 9, 12),
        "hidden.bias": (2, 9),
        "output.weight": (2, 3, 9),
        "output.bias": (2, 3),
    }
    assert torch.equal(parts["output.bias"][0], layout.parameters["output.bias"])
    parts["hidden.weight"].zero_()
    assert vectors[0, : 9 * 12].abs().sum() == 0


def test_buffers_lie_behind_the_parameters_and_frozen_ones_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    layout = Layout(model)
    assert layout.n_parameters == 4 + 4
    assert layout.flatten()[8:].tolist() == [0, 0, 1, 1]  # running mean and variance


def test_models_that_cannot_be_averaged_are_refused() -> None:
    with pytest.raises(InputError, match="model has no parameter to train: 'ReLU'"):
        Layout(nn.ReLU())
    with pytest.raises(InputError, match=r"type of a model's tensor: 'torch.float64'"):
        Layout(nn.Linear(2, 2).double())
