"""What is tried before the run: what cannot be stacked goes one by one, what cannot be trained at all is one line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fedsim
from fedsim.cli.main import main
from fedsim.config.simulation import build_simulation
from fedsim.config.trainer import central_metrics
from fedsim.data.clients import ArrayClients
from fedsim.errors import InputError
from fedsim.training.algorithm.sgd import LocalSgd
from fedsim.training.backend import trial
from fedsim.training.backend.cohort import CohortBackend
from fedsim.training.backend.learner import Backend, Learner
from fedsim.training.backend.loop import LoopBackend
from fedsim.training.server import FederatedTrainer
from fedsim.training.tasks.models import SmallCnn
from fedsim.training.tasks.words import WordLstm
from tests.smoke import composed
from tests.training.tasks import (
    Convolution,
    Mlp,
    click_model,
    clients,
    cohort,
    logistic,
    mlp,
    trainer,
    updates,
)  # fmt: skip

pytestmark = pytest.mark.slow

SIZES = [4, 6, 2, 7, *[8, 3] * 6]  # no batch of one at batches of four
ONE_STEP = LocalSgd(learning_rate=0.1, epochs=1, batch_size=10)
STEPS = LocalSgd(learning_rate=0.1, epochs=2, batch_size=4)
MIXES = "it mixes the examples of a batch"


class Between(nn.Module):
    """A hidden layer, something between all examples of a batch, an output layer."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor], *, is_silent: bool = False) -> None:
        super().__init__()
        self.hidden, self.output, self.between = nn.Linear(12, 9), nn.Linear(9, 3), between
        self.gain = nn.Parameter(torch.full((1,), 0.0 if is_silent else 1.0))
        if is_silent:
            nn.init.zeros_(self.output.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.hidden(x)
        return self.output(h + self.gain * self.between(h))  # type: ignore[no-any-return]


def less_the_mean(h: torch.Tensor) -> torch.Tensor:
    return h - h.mean(0)


def less_the_largest(h: torch.Tensor) -> torch.Tensor:
    """Padding repeats an example and changes nothing here: only several clients in one pass do."""
    return h - h.amax(0)


def share_of_the_batch(h: torch.Tensor) -> torch.Tensor:
    return h.softmax(0)


def normed(h: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(h, None, None, training=True)


def by_fours(h: torch.Tensor) -> torch.Tensor:
    """Neither five examples in one pass nor three or two alone show it: only padding to four does."""
    return h if len(h) % 4 else 2 * h


def by_its_size(h: torch.Tensor) -> torch.Tensor:
    return h / len(h)


MIXING = [less_the_mean, less_the_largest, share_of_the_batch, normed, by_fours, by_its_size]


def name(value: Any) -> str:
    return str(getattr(value, "__name__", ""))


def moved(model: Callable[[], nn.Module], local: LocalSgd, backend: Callable[[Learner], Backend]) -> FederatedTrainer:
    """Two steps of all clients."""
    found = trainer(model, clients(SIZES), local=local, backend=backend)
    for step in range(2):
        found.step(updates(list(range(len(SIZES))), [0] * len(SIZES), seed=step))
    assert not torch.equal(found.versions.newest, found.versions.get(0))
    return found


def assert_told_and_the_loops(model: Callable[[], nn.Module], line: str, local: LocalSgd = STEPS) -> None:
    """The line is told, and the numbers are those of ``training=loop`` to the last bit."""
    found, expected = moved(model, local, cohort), moved(model, local, LoopBackend)
    assert found.remarks == (line,)
    assert expected.remarks == ()
    assert found.versions.newest.numpy().tobytes() == expected.versions.newest.numpy().tobytes()
    assert found.evaluate() == expected.evaluate()


@pytest.mark.parametrize("local", [STEPS, ONE_STEP], ids=["steps", "one step"])
@pytest.mark.parametrize("between", MIXING, ids=name)
def test_what_mixes_examples_is_trained_one_by_one(between: Any, local: LocalSgd) -> None:
    line = f"model Between is trained one client after the other: {MIXES}"
    assert_told_and_the_loops(lambda: Between(between), line, local)


@pytest.mark.parametrize("between", MIXING, ids=name)
def test_zeros_at_the_start_do_not_hide_it(between: Any) -> None:
    silent = trainer(lambda: Between(between, is_silent=True), clients(SIZES), backend=cohort)
    assert silent.remarks == (f"model Between is trained one client after the other: {MIXES}",)


def test_held_out_examples_that_are_mostly_alike_do_not_hide_it() -> None:
    x = np.random.default_rng(3).normal(size=(40, 12)).astype(np.float32)
    y = np.arange(40) % 3
    held_out = np.r_[np.zeros(30, dtype=int), 1, np.zeros(30, dtype=int)]
    data = ArrayClients(x, y, order=np.arange(40), offsets=np.array([0, 20, 40]), held_out=(x[held_out], y[held_out]))
    assert trainer(lambda: Between(less_the_mean), data, backend=cohort).remarks


class Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x + torch.rand_like(x) if self.training else x)  # type: ignore[no-any-return]


class Branch(Noise):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x if x.mean() > 0 else 2 * x)  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(1, 4, batch_first=True)
        self.output = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.cell(x.unsqueeze(2))[0][:, -1])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (lambda: nn.Sequential(nn.Linear(12, 3), nn.Dropout(0.1)), "model Sequential .*: Dropout cannot be stacked"),
        (
            lambda: nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 3)),
            "model Sequential .*: BatchNorm1d cannot be stacked",
        ),
        (
            lambda: nn.Sequential(nn.BatchNorm1d(12, track_running_stats=False), nn.Linear(12, 3)),
            "model Sequential .*: BatchNorm1d cannot be stacked",
        ),
        (Recurrent, "model Recurrent .*: LSTM cannot be stacked"),
        (Noise, r"model Noise .*: it cannot be stacked \(vmap: .*\)"),
        (Branch, r"model Branch .*: it cannot be stacked \(vmap: .*\)"),
    ],
)
def test_what_cannot_be_stacked_is_trained_one_by_one(model: Callable[[], nn.Module], line: str) -> None:
    (told,) = trainer(model, clients(SIZES), backend=cohort).remarks
    assert_told_and_the_loops(model, told)
    assert "\n" not in told
    assert re.fullmatch(line.replace(".*:", "is trained one client after the other:"), told)


class Nowhere(Noise):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x) * float("nan")  # type: ignore[no-any-return]


def test_what_is_not_finite_is_no_mixing() -> None:
    (line,) = trainer(Nowhere, clients(SIZES), backend=cohort).remarks
    assert line.endswith(": its gradients are not finite at the start")


def words() -> ArrayClients:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 20, (60, 6)), rng.integers(0, 20, 60)
    return ArrayClients(x, y, order=np.arange(60), offsets=np.arange(0, 61, 6), held_out=(x[:9], y[:9]))


def test_the_shipped_lstm_is_trained_and_the_line_names_it() -> None:
    model = lambda: WordLstm(n_words=20, n_factors=4, n_hidden=5)  # noqa: E731
    found, expected = trainer(model, words(), backend=cohort), trainer(model, words())
    assert found.remarks == ("model WordLstm is trained one client after the other: LSTM cannot be stacked",)
    for each in (found, expected):
        each.step(updates(list(range(10))))
    assert torch.equal(found.versions.newest, expected.versions.newest)


class Shifted(nn.Module):
    """The gradient of its shift is nothing but rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.norm, self.output = nn.Linear(12, 64), nn.LayerNorm(64), nn.Linear(64, 3)
        self.shift = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.norm(self.hidden(x) + self.shift))  # type: ignore[no-any-return]


def deep() -> nn.Module:
    layers = [part for _ in range(12) for part in (nn.Linear(12, 12), nn.LayerNorm(12), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(12, 3))


def zeroed() -> nn.Module:
    found = Mlp(n_inputs=12, n_hidden=9, n_classes=3)
    for parameter in found.parameters():
        nn.init.zeros_(parameter)
    return found


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (logistic, {}),
        (mlp, {}),
        (deep, {}),
        (zeroed, {}),
        (Shifted, {}),
        (lambda: nn.Sequential(nn.Linear(12, 9), nn.GroupNorm(3, 9), nn.Linear(9, 3)), {}),
        (lambda: nn.Sequential(nn.Dropout(0.0), nn.Linear(12, 3)), {}),
        (Convolution, {"picture": True}),
        (click_model, {"ids": True}),
    ],
    ids=["logistic", "mlp", "deep", "zeros", "shifted", "group norm", "dropout of nothing", "convolution", "clicks"],
)
def test_ordinary_models_are_stacked_without_a_word(
    model: Any, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoopBackend, "_train_client", lambda *_: pytest.fail("a client was trained by itself"))
    loss = "binary_cross_entropy" if "ids" in options else "cross_entropy"
    found = trainer(model, clients([9] * 9, **options), backend=cohort, loss=loss)
    assert found.remarks == ()
    found.step(updates(list(range(9))))


def test_pictures_are_stacked_without_a_word() -> None:
    rng = np.random.default_rng(0)
    x = (rng.random((40, 28, 28)) * (rng.random((40, 28, 28)) > 0.8)).astype(np.float32)  # mostly black: many ties
    y = rng.integers(0, 10, 40)
    data = ArrayClients(x, y, order=np.arange(40), offsets=np.array([0, 20, 40]), held_out=(x, y))
    pooled = lambda: nn.Sequential(  # noqa: E731
        nn.Unflatten(1, (1, 28)), nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(576, 10)
    )
    for model in (lambda: SmallCnn(n_classes=10), pooled):
        assert trainer(model, data, backend=cohort).remarks == ()


@pytest.mark.parametrize(("n_wrong", "n_lines"), [(1, 0), (99, 1)])
def test_one_kink_between_two_roundings_is_no_mixing(
    n_wrong: int, n_lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False] * n_wrong + [True])
    monkeypatch.setattr(trial, "_is_stack_apart", lambda *_: next(answers))
    assert len(trainer(mlp, clients(SIZES), backend=cohort).remarks) == n_lines


def test_trying_leaves_model_and_generator_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(12, 9), nn.BatchNorm1d(9), nn.Dropout(0.5), nn.Linear(9, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    found = trainer(mlp, clients(SIZES), backend=cohort)._learner
    CohortBackend(
        Learner(model, type(found.layout)(model), found.loss, found.local, found.data, found.probe),
        memory_budget_bytes=10**6,
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.rand(2), expected)


# ----------------------------------------------------------------------------------- what no backend can train

BACKENDS = {"loop": LoopBackend, "cohort": cohort}


def batch_normed() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 9), nn.BatchNorm1d(9), nn.Linear(9, 3))


def between_all() -> nn.Module:
    return Between(normed)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("model", [batch_normed, between_all], ids=name)
@pytest.mark.parametrize(
    ("sizes", "local", "client"),
    [
        ([8, 6, 9, 5], STEPS, "client 2 has one, of its 9 examples"),
        ([4, 1], STEPS, "client 1 has one, of its 1 examples"),
        ([0, 2], LocalSgd(learning_rate=0.1, epochs=1, batch_size=1), "client 1 has one, of its 2 examples"),
        ([9], LocalSgd(learning_rate=0.1, epochs=1, batch_size=4, local_steps=3), "client 0 has one, of its 9"),
    ],
    ids=["a rest of one", "one example", "batches of one", "steps"],
)
def test_a_batch_of_one_that_a_model_cannot_take_is_refused(
    model: Any, sizes: list[int], local: LocalSgd, client: str, backend: str
) -> None:
    message = (
        rf"^model \w+ cannot be trained on a batch of one example \(Expected more than 1 value .*; {client}"
        rf".*: training\.local\.batch_size: {local.batch_size} \(allowed: another batch_size, .*GroupNorm.*\)$"
    )
    with pytest.raises(InputError, match=message):
        trainer(model, clients(sizes), local=local, backend=BACKENDS[backend])


@pytest.mark.parametrize(
    ("sizes", "local"),
    [
        ([8, 6, 0, 7], STEPS),
        ([9, 17], LocalSgd(learning_rate=0.1, epochs=1, batch_size=4, local_steps=2)),  # never come to their rest
    ],
)
def test_where_no_batch_is_of_one_it_is_trained(sizes: list[int], local: LocalSgd) -> None:
    trainer(batch_normed, clients(sizes), local=local).step(updates([0, 1]))


def test_maps_of_one_picture_have_several_values() -> None:
    maps = lambda: nn.Sequential(nn.Unflatten(1, (1, 8)), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 3))  # noqa: E731
    trainer(maps, clients([5, 1], picture=True)).step(updates([0, 1]))


def test_a_held_out_example_by_itself_that_a_model_cannot_take_is_refused() -> None:
    data = clients([8])
    x, y = data.held_out()
    one = ArrayClients(x, y, order=np.arange(20), offsets=np.array([0, 20]), held_out=(x[:1], y[:1]))
    with pytest.raises(InputError, match=r"does not fit the data .*in the evaluation of the last held-out example"):
        trainer(between_all, one)


class Training(Noise):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x[:, :11] if self.training else x)  # type: ignore[no-any-return]


def test_what_fails_in_training_alone_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model Training with loss cross_entropy cannot be trained .mat1 and"):
        trainer(Training, clients(SIZES))


class Counts(Noise):
    """Its outputs depend on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.n_calls += self.training
        return self.output(x) * (1 + self.n_calls)  # type: ignore[no-any-return]


class Averages(Noise):
    """A running mean outside of what travels: a tensor of its own, or a new buffer each time."""

    def __init__(self, *, is_buffer: bool) -> None:
        super().__init__()
        if is_buffer:
            self.register_buffer("mean", torch.zeros(12))
        else:
            self.mean = torch.zeros(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return self.output(x if self.training else x - self.mean)  # type: ignore[no-any-return]


class Tally(Noise):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n_seen", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.n_seen += len(x)
        return self.output(x)  # type: ignore[no-any-return]


class Numpy(Noise):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x + float(np.random.default_rng().normal()))  # type: ignore[no-any-return]


def cumulative() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(12, momentum=None), nn.Linear(12, 3))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Counts, "^model Counts trains a client otherwise after another one"),
        (lambda: Averages(is_buffer=False), "^model Averages trains a client otherwise after another one"),
        (lambda: Averages(is_buffer=True), "^training changes mean of model Averages, which would pass from"),
        (Tally, "^training changes n_seen of model Tally, which would pass from one client to the next .allowed: "),
        (Numpy, "^model Numpy trains a client otherwise after another one: it remembers, or draws without torch"),
        (cumulative, r"^training changes 0\.num_batches_tracked of model Sequential.*BatchNorm with a momentum\)$"),
    ],
    ids=["counts", "tensor", "buffer", "tally", "numpy", "cumulative"],
)
def test_what_would_pass_from_client_to_client_is_refused(model: Any, message: str, backend: str) -> None:
    with pytest.raises(InputError, match=message):
        trainer(model, clients(SIZES), backend=BACKENDS[backend])


class Stepped(Noise):
    """A float buffer that training changes and that vmap would let pass: it travels, so each client has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n_steps", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.n_steps += 1
        return self.output(x) * self.n_steps  # type: ignore[no-any-return]


def test_a_float_buffer_that_training_changes_is_each_clients_own() -> None:
    reason = "training changes its n_steps, of which there is one for all clients"
    assert_told_and_the_loops(Stepped, f"model Stepped is trained one client after the other: {reason}")


# ------------------------------------------------------------------------------------------- as the user sees it

MODULE = """
from torch import nn


class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.output = nn.Linear(64, 9), nn.Linear(9, 10)

    def forward(self, x):
        h = self.hidden(x)
        return self.output(h - h.mean(0))


class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(64, 9), nn.BatchNorm1d(9), nn.Linear(9, 10))
"""
LINE = "model Centred is trained one client after the other: it mixes the examples of a batch"
SMALL = (
    "fleet.n_devices=20_000", "server.report_goal=5", "stop.max_steps=2", "report=false", "model.forward_flops=null",
)  # fmt: skip
Words = Callable[..., tuple[str, ...]]


@pytest.fixture
def of_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Words:
    """Overrides of a small run of a model that lies elsewhere."""
    module = f"models_{tmp_path.name}"  # a module is imported once in a process
    (tmp_path / f"{module}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def words(name: str, n_parameters: int, *overrides: str) -> tuple[str, ...]:
        module_of = (f"model.module._target_={module}.{name}", "~model.module.n_inputs", "~model.module.n_classes")
        return (*SMALL, *module_of, f"model.n_parameters={n_parameters}", *overrides)

    return words


@pytest.mark.slow
def test_the_command_says_it_once_and_goes_on(
    of_model: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def played(training: str) -> str:
        words = of_model("Centred", 685, f"training={training}", "training.central.epochs=1")
        assert main(["run", "experiment=smoke", *words, f"hydra.run.dir={tmp_path / training}"]) == 0
        return capsys.readouterr().err

    assert played("cohort").splitlines() == [f"fedsim: {LINE}"]
    assert LINE not in played("loop")
    cohort_, loop = ((tmp_path / training / "steps.parquet").read_bytes() for training in ("cohort", "loop"))
    assert cohort_ == loop


def test_python_is_warned(of_model: Words, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=f"^{LINE}$") as told:
        fedsim.simulate("experiment=smoke", *of_model("Centred", 685), folder=tmp_path / "run")
    assert len(told) == 1


def test_a_batch_of_one_is_refused_before_anything_is_written(
    of_model: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = of_model("Normed", 721)
    assert main(["run", "experiment=smoke", *words, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert re.fullmatch(
        r"fedsim: model Normed cannot be trained on .*: training\.local\.batch_size: 10 \(.*\n", capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


def test_batches_of_the_central_baseline_are_those_of_the_pooled_data(of_model: Words) -> None:
    steps = "training.local.local_steps=1"  # clients have more than ten examples: never a batch of one
    values = composed(["data.n_clients=5", *of_model("Normed", 721, steps, "training.central.epochs=1")])
    data = build_simulation(values).task.clients
    sizes = data.n_examples(np.arange(5))

    def central(batch_size: int) -> dict[str, float]:
        training = {**values["training"], "central": {**values["training"]["central"], "batch_size": batch_size}}
        return central_metrics({**values, "training": training}, data)

    alone, pooled = int(sizes[0]) - 1, int(sizes.sum()) - 1  # each leaves one example over
    assert sizes.sum() % alone != 1
    assert central(alone)
    with pytest.raises(InputError, match=rf"^training\.central, in place of training\.local: .*: {pooled} "):
        central(pooled)
