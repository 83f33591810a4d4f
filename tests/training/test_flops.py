"""FLOPs against hand counts, layer by layer; what has no rule is named."""

import pytest
import torch
from torch import nn

from fedsim.errors import InputError
from fedsim.training.flops import StepCount, count_step, example_batch
from fedsim.training.tasks.models import ClickModel, Logistic, SmallCnn
from fedsim.training.tasks.words import WordLstm


class Scored(nn.Module):
    """Runs a recurrent module on embedded ids from a learned first state; every input and state needs a gradient."""

    def __init__(self, recurrent: nn.RNNBase, n_words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_words, recurrent.input_size)
        self.recurrent = recurrent
        n_directions = 2 if recurrent.bidirectional else 1
        self.first = nn.Parameter(torch.zeros(2, recurrent.num_layers * n_directions, 1, recurrent.hidden_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.recurrent.batch_first else x.t()
        n = x.shape[0 if self.recurrent.batch_first else 1]
        states = self.first.expand(-1, -1, n, -1).contiguous()
        first = (states[0], states[1]) if isinstance(self.recurrent, nn.LSTM) else states[0]
        outputs, _ = self.recurrent(self.embedding(x), first)
        return outputs[:, -1] if self.recurrent.batch_first else outputs[-1]


def counted(
    model: nn.Module, *shape: int, dtype: str = "float32", n: int = 4, loss: str = "cross_entropy"
) -> StepCount:
    return count_step(model, example_batch(model, shape=shape, dtype=dtype, batch_size=n), loss=loss)


def test_linear_first_layers_need_no_gradient_of_their_input() -> None:
    one = counted(nn.Linear(7, 5), 7)
    assert (one.forward_flops, one.training_flops) == (2 * 7 * 5, 2 * 2 * 7 * 5)
    two = counted(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)), 7)
    assert two.forward_flops == 2 * 7 * 5 + 2 * 5 * 3
    assert two.training_flops == 2 * (2 * 7 * 5) + 3 * (2 * 5 * 3)


@pytest.mark.parametrize(
    ("conv", "expected"),
    [
        (nn.Conv2d(3, 8, 5), 2 * 3 * 25 * 8 * 6 * 6),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), 2 * 3 * 9 * 8 * 5 * 5),
        (nn.Conv2d(3, 6, 3, groups=3), 2 * 1 * 9 * 6 * 8 * 8),
        (nn.ConvTranspose2d(3, 6, 2, stride=2), 2 * 3 * 4 * 6 * 10 * 10),
    ],
)
def test_convolutions(conv: nn.Module, expected: int) -> None:
    step = counted(nn.Sequential(conv, nn.Flatten()), 3, 10, 10)
    assert step.forward_flops == expected
    assert step.training_flops == 2 * expected  # the picture needs no gradient


N_IN, N_HIDDEN, LENGTH = 6, 5, 7


def one_layer(n_gates: int, n_in: int) -> int:
    """2 FLOPs × gates × h × (in + h) for each of the sequence's steps."""
    return 2 * n_gates * N_HIDDEN * (n_in + N_HIDDEN) * LENGTH


@pytest.mark.parametrize(("kind", "n_gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("is_batch_first", [True, False])
def test_recurrent_layers_follow_their_closed_form(kind: type[nn.RNNBase], n_gates: int, is_batch_first: bool) -> None:
    shapes = {
        (1, False): one_layer(n_gates, N_IN),
        (2, False): one_layer(n_gates, N_IN) + one_layer(n_gates, N_HIDDEN),
        (2, True): 2 * one_layer(n_gates, N_IN) + 2 * one_layer(n_gates, 2 * N_HIDDEN),
    }
    for (n_layers, is_bidirectional), expected in shapes.items():
        model = kind(N_IN, N_HIDDEN, n_layers, bidirectional=is_bidirectional, batch_first=is_batch_first)
        step = counted(Scored(model, 20), LENGTH, dtype="int64")
        assert step.forward_flops == expected
        assert step.training_flops == 3 * expected  # gradients of weights, and of inputs and states
        layer = next(layer for layer in step.layers if layer.name == "recurrent")
        assert (layer.kind, layer.forward_flops) == (kind.__name__, expected)
        assert layer.n_steps == LENGTH * n_layers * (2 if is_bidirectional else 1)
        assert layer.n_parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.filterwarnings("ignore:TF32")
def test_the_fused_lstm_counts_as_much_as_its_matrix_products() -> None:
    model = Scored(nn.LSTM(N_IN, N_HIDDEN, 2, bidirectional=True, batch_first=True), 20)
    fused = counted(model, LENGTH, dtype="int64")
    with torch.backends.mkldnn.flags(enabled=False):
        apart = counted(model, LENGTH, dtype="int64")
    assert (apart.forward_flops, apart.training_flops) == (fused.forward_flops, fused.training_flops)


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(N_IN, N_HIDDEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = None
        for word in x.unbind(1):
            state = self.cell(word, state)
        return state[0]


def test_a_module_that_is_called_again_counts_again() -> None:
    step = counted(Cells(), LENGTH, N_IN)
    assert step.forward_flops == one_layer(4, N_IN)
    assert [layer.n_steps for layer in step.layers] == [1] * LENGTH


@pytest.mark.parametrize("table", [nn.Embedding(50, 6), nn.EmbeddingBag(50, 6)])
def test_embeddings_are_bytes_not_flops(table: nn.Module) -> None:
    step = counted(nn.Sequential(table, nn.Flatten()), 3, dtype="int64")
    assert step.forward_flops == step.training_flops == 0
    assert step.lookup_bytes == 2 * 3 * 6 * 4  # rows read, their gradients written
    assert [(layer.kind, layer.forward_flops) for layer in step.layers] == [(type(table).__name__, 0)]
    assert step.not_counted == {}


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)))
        self.head = nn.Parameter(torch.zeros(3, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(self.body(x), self.head).square()


def test_a_nested_model_is_the_sum_of_its_parts_each_booked_once() -> None:
    step = counted(Nested(), 4)
    assert [(layer.name, layer.kind, layer.forward_flops, layer.n_parameters) for layer in step.layers] == [
        ("body.0", "Linear", 2 * 4 * 8, 4 * 8 + 8),
        ("body.2.0", "Linear", 2 * 8 * 8, 8 * 8 + 8),
        ("Nested", "functional", 2 * 8 * 3, 3 * 8),
    ]
    assert step.forward_flops == sum(layer.forward_flops for layer in step.layers)
    assert step.not_counted == {"ReLU": {"relu": 8}, "LayerNorm": {"native_layer_norm": 8}, "Nested": {"pow": 3}}


def test_a_module_without_a_rule_is_named() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.product = nn.Bilinear(4, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.product(x, x)

    step = counted(Twice(), 4)
    assert step.forward_flops == 0
    assert "_trilinear" in step.not_counted["Bilinear"]


@pytest.mark.parametrize(("dropout", "n_products"), [(0.0, 5), (0.5, 4)])  # fused: the scores are computed anew
def test_attention_counts_its_products(dropout: float, n_products: int) -> None:
    length, width = 5, 8
    layer = nn.TransformerEncoderLayer(width, 2, 16, dropout=dropout, batch_first=True)
    step = counted(nn.Sequential(nn.Linear(width, width), layer), length, width)
    first, dense, product = 2 * length * width**2, 4 * 2 * length * width**2, 2 * length**2 * width
    dense += 2 * (2 * length * width * 16)
    assert step.forward_flops == first + dense + 2 * product
    assert step.training_flops == 2 * first + 3 * dense + (2 + n_products) * product
    assert [layer.kind for layer in step.layers] == ["Linear", "MultiheadAttention", "Linear", "Linear"]
    named = " ".join(step.not_counted.get("MultiheadAttention", {}))
    assert ("softmax" in named) == (dropout > 0)  # part of the fused operator, without a rule by itself


def test_the_shipped_models() -> None:
    logistic = counted(Logistic(n_inputs=64, n_classes=10), 64)
    assert (logistic.n_parameters, logistic.forward_flops, logistic.not_counted) == (650, 1280, {})
    cnn = SmallCnn(n_classes=10)
    n_windows = (12 * 12, 4 * 4, 1, 1)  # every weight but the biases is used once at each place
    weights = [p.numel() for p in cnn.parameters() if p.dim() > 1]
    assert counted(cnn, 28, 28).forward_flops == sum(2 * n * w for n, w in zip(n_windows, weights, strict=True))
    clicks = counted(
        ClickModel(n_values=800, n_fields=8, n_factors=8, n_hidden=32), 8, dtype="int64", loss="binary_cross_entropy"
    )
    assert clicks.forward_flops == 2 * (64 * 32 + 32)
    assert clicks.lookup_bytes == 2 * 8 * (8 + 1) * 4
    words = counted(WordLstm(n_words=50, n_factors=N_IN, n_hidden=N_HIDDEN), LENGTH, dtype="int64")
    assert words.forward_flops == one_layer(4, N_IN) + 2 * N_HIDDEN * N_IN + 2 * N_IN * 50


def test_sizes_of_what_a_step_holds() -> None:
    model = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.BatchNorm1d(50), nn.Linear(50, 10))
    model[3].bias.requires_grad_(False)
    step = counted(nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10)), 100, n=8)
    assert step.input_bytes == 8 * 100 * 4
    label_and_total_weight = 8 * 8 + 4
    assert step.activation_bytes == 8 * (50 + 10) * 4 + label_and_total_weight
    frozen = counted(model, 100)
    assert frozen.n_parameters - frozen.n_trained == 10
    assert frozen.parameter_bytes == 4 * (frozen.n_parameters + 2 * 50) + 8  # running statistics and their counter


def test_counts_do_not_depend_on_the_batch_or_leave_traces_in_the_model() -> None:
    model = SmallCnn(n_classes=10)
    before = [p.detach().clone() for p in model.parameters()]
    counts = [counted(model, 28, 28, n=n) for n in (1, 16)]
    assert counts[0].training_flops == counts[1].training_flops
    assert counts[0].not_counted == counts[1].not_counted
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_outputs_over_positions_count_like_many_examples() -> None:
    step = counted(nn.Linear(4, 3), 6, 4)
    assert step.forward_flops == 6 * 2 * 4 * 3


@pytest.mark.parametrize(
    ("model", "shape", "dtype", "message"),
    [
        (nn.Linear(4, 3), (5,), "float32", "Linear.*does not fit"),
        (nn.LSTM(4, 3), (5, 4), "float32", "tensor of logits.*tuple"),
        (nn.Flatten(), (5,), "float32", "no parameter.*Flatten"),
        (nn.Linear(4, 3), (4,), "float16", "float16.*float32, int64"),
    ],
)
def test_what_does_not_fit_is_one_line(model: nn.Module, shape: tuple[int, ...], dtype: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        counted(model, *shape, dtype=dtype)
    assert "\n" not in str(caught.value)


def test_example_ids_fit_the_smallest_table() -> None:
    model = nn.ModuleList([nn.Embedding(1000, 2), nn.EmbeddingBag(3, 2)])
    ids = example_batch(model, shape=[50], dtype="int64", batch_size=20)
    assert ids.shape == (20, 50)
    assert set(ids.unique().tolist()) == {0, 1, 2}
