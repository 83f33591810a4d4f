"""The timing harness: the rows it writes and what it refuses; never how long anything took."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from fedsim.errors import InputError
from fedsim.schema import PROFILES
from fedsim.training.measure import Schedule, Timing, cpu_name, measure, time_batch
from fedsim.training.model_work import ExampleKind
from fedsim.training.tasks.models import Logistic

TWICE = Schedule(batch_sizes=(1, 4), warm_up=1, repeats=3, n_threads=1)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    n = torch.get_num_threads()
    yield
    torch.set_num_threads(n)


class Counting(nn.Module):
    """Counts its calls on the class, so that a copy sent elsewhere and back shows them."""

    calls: list[tuple[bool, bool, int]] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Counting.calls.append((self.training, torch.is_grad_enabled(), len(x)))
        return self.layer(x)


def test_a_batch_is_warmed_up_and_timed_for_inference_and_for_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Counting()
    monkeypatch.setattr(Counting, "calls", [])
    monkeypatch.setattr("pickle.loads", lambda _: model)
    before = model.layer.weight.detach().clone()
    rows = time_batch(Timing(b"", "cross_entropy", ExampleKind((4,), "float32"), TWICE), 4)
    assert Counting.calls == [(False, False, 4)] * 4 + [(True, True, 4)] * 4  # one warm-up and three steps of each
    assert [row["kind"] for row in rows] == ["inference"] * 3 + ["train_step"] * 3
    assert all(row["step_s"] > 0 and row["n_threads"] == 1 for row in rows)
    assert torch.get_num_threads() == 1
    assert not torch.equal(before, model.layer.weight)  # the update is part of the step


@pytest.mark.slow
def test_a_measurement_is_a_table_of_profiles() -> None:
    model = Logistic(n_inputs=4, n_classes=3)
    before = model.output.weight.detach().clone()
    profiles = measure(
        model, op="Logistic-15", loss="cross_entropy", example=ExampleKind((4,), "float32"), schedule=TWICE
    )
    assert PROFILES.check(profiles, where="test").num_rows == 2 * 2 * TWICE.repeats
    assert set(profiles.column("batch_size").to_pylist()) == {1, 4}
    assert set(profiles.column("device").to_pylist()) == {cpu_name()}
    assert set(profiles.column("op").to_pylist()) == {"Logistic-15"}
    peaks = profiles.column("peak_bytes").to_pylist()
    assert all(peak is None or peak > 0 for peak in peaks)
    assert torch.equal(before, model.output.weight)  # the caller's model is not the one that was trained


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"batch_sizes": (8,)}, "batch_sizes"),
        ({"batch_sizes": (8, 8)}, "batch_sizes"),
        ({"batch_sizes": (0, 8)}, "batch_sizes"),
        ({"warm_up": -1}, "warm_up"),
        ({"repeats": 0}, "repeats"),
        ({"n_threads": 0}, "n_threads"),
    ],
)
def test_a_wrong_schedule_is_refused_by_name(wrong: dict[str, object], key: str) -> None:
    with pytest.raises(InputError, match=f"measure.{key}"):
        Schedule(**{**vars(TWICE), **wrong})  # type: ignore[arg-type]


def test_a_model_that_cannot_travel_is_refused() -> None:
    model = Logistic(n_inputs=4, n_classes=3)
    model.forward = lambda x: x  # type: ignore[method-assign]
    with pytest.raises(InputError, match="fresh process"):
        measure(model, op="x", loss="cross_entropy", example=ExampleKind((4,), "float32"), schedule=TWICE)
